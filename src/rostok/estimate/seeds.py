"""How long seeds take, from what they took elsewhere and how fast a machine draws words."""

from __future__ import annotations

from rostok.config import Settings

_TOKENS = 5_000  # drawn for one admitted seed of 12 nodes with 3 candidates, failed drafts included (docs/experiments.md)
_SHARE = 0.4     # of the speed at which sixteen sequences draw words; prompts, scores and checks take the rest
# A token takes a(1 + _ALONE / drafts) seconds while so many drafts are written side by side: 244, 342 and 385 tokens/s with
# 1, 4 and 16 of them.
_ALONE = 0.6


def seconds_of_seeds(count: int, settings: Settings) -> float | None:
    """Seconds that so many seeds will take on llama.cpp, within a factor of two; nothing is timed for it.

    The speed is the one by which the number format was chosen; it is measured now where that was not done yet. None where
    there is none: another engine, or a GPU. `rostok estimate` measures the agents themselves.
    """
    if settings.models.engine != "llama.cpp":
        return None
    from rostok.engines.weights import measured
    from rostok.models import find_base, serving_file, serving_folder

    base = find_base(settings.models.base)
    serving_file(base)
    known = measured(serving_folder(base))
    if known is None or not known.speeds:
        return None
    return count * seconds_of_seed(settings, max(speed.decode for speed in known.speeds))


def seconds_of_seed(settings: Settings, tokens_s: float) -> float:
    """Seconds of one seed among many, where sixteen sequences draw so many tokens per second."""
    return seed_tokens(settings) / (_SHARE * tokens_s)


def seed_tokens(settings: Settings) -> float:
    """Tokens that are sampled for one admitted seed."""
    return _TOKENS * settings.author.nodes / 12 * settings.author.candidates / 3


def side_by_side(drafts: int) -> float:
    """How much longer a token takes with so many drafts side by side than with very many."""
    return 1 + _ALONE / drafts
