"""How long seeds will take, from what they took elsewhere and how fast this machine draws words."""

from __future__ import annotations

from rostok.config import Settings
from rostok.engines.weights import measured
from rostok.models import find_base, serving_file, serving_folder

_TOKENS = 5_000   # drawn for one admitted seed of 12 nodes with 3 candidates, failed drafts included
_SHARE = 0.4      # of the speed at which sixteen sequences draw words; prompts, scores and checks take the rest


def seconds_for(count: int, settings: Settings) -> float | None:
    """Seconds that so many seeds will take on llama.cpp, within a factor of two.

    The speed is the one by which the number format was chosen; it is measured now where that was not done yet. None where
    there is none: another engine, or a GPU.
    """
    if settings.models.engine != "llama.cpp":
        return None
    base = find_base(settings.models.base)
    serving_file(base)
    known = measured(serving_folder(base))
    if known is None or not known.speeds:
        return None
    speed = max(speed.decode for speed in known.speeds)
    tokens = _TOKENS * settings.author.nodes / 12 * settings.author.candidates / 3
    return count * tokens / (_SHARE * speed)
