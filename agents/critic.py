"""The critic: ranks candidates pairwise, by likelihood and by measures that code can take; it never asks for a mark."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rostok.agents.draft import Desk
from rostok.seeds.measures import thought

_MISFITS = 4  # one of so many candidates is out before what is new decides
_ALONE = 0.5  # of a text's own likelihood that is taken off: else the plainest text always wins


def choose(desk: Desk, context: str, texts: Sequence[str], *, as_seed: Callable[[str], str] | None = None) -> str:
    """The text that wins most of its comparisons; see `choose_all`."""
    return choose_all(desk, [(context, texts)], as_seed=as_seed)[0]


def choose_all(desk: Desk, blanks: Sequence[tuple[str, Sequence[str]]], *,
               as_seed: Callable[[str], str] | None = None) -> list[str]:
    """For every context the text that wins most of its comparisons; among equals the one that fits the context better.

    Every pair is judged by votes: which text the context makes likelier beyond its own likelihood (pointwise mutual
    information, nats per token), and which says more different words. Where the text decides what the seed is about,
    `as_seed` makes of it what the seed would say; then the one that takes it farther from the library wins, of those that do
    not fit worst. All blanks are scored together, since an engine that is asked for one text at a time is mostly waited for.
    """
    return [_best(desk, texts, fits, as_seed) for (_, texts), fits in zip(blanks, _fits(desk, blanks), strict=True)]


def _best(desk: Desk, texts: Sequence[str], fits: Sequence[float], as_seed: Callable[[str], str] | None) -> str:
    if as_seed is not None and len(texts) > 2:
        kept = sorted(range(len(texts)), key=fits.__getitem__)[len(texts) // _MISFITS :]
        texts, fits = [texts[index] for index in kept], [fits[index] for index in kept]
    new = novelty(desk, [as_seed(text) for text in texts]) if as_seed is not None else None
    votes = [fits, _variety(desk, texts)] if new is None else [fits, new, new]
    wins = [sum(_beats(votes, a, b) for b in range(len(texts)) if b != a) for a in range(len(texts))]
    return texts[max(range(len(texts)), key=lambda index: (wins[index], fits[index]))]


def _fits(desk: Desk, blanks: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
    """How much likelier its context makes each text, in nats per token; zeros where there is nothing to compare."""
    asked = [[desk.engine.submit_scores(start, [" " + text for text in texts]) for start in (context, "\n")]
             if len(texts) > 1 else None for context, texts in blanks]
    return [[given.result().mean - _ALONE * alone.result().mean for given, alone in zip(*pair, strict=True)]
            if pair is not None else [0.0] * len(texts) for pair, (_, texts) in zip(asked, blanks, strict=True)]


def novelty(desk: Desk, texts: Sequence[str]) -> list[float]:
    """How far each text lies from the seeds of the library: less its mean, and half its highest, cosine."""
    admitted = desk.admitted()
    if not admitted:
        return [0.0] * len(texts)
    cosines = desk.embedder.embed(texts) @ desk.embedder.embed([thought(seed) for seed in admitted]).T
    return [float(value) for value in -(cosines.mean(axis=1) + 0.5 * cosines.max(axis=1))]


def _variety(desk: Desk, texts: Sequence[str]) -> list[float]:
    found = [desk.language.words(text) for text in texts]
    return [len(set(words)) / max(1, np.sqrt(len(words))) for words in found]  # Guiraud's index: length counts half


def _beats(votes: Sequence[Sequence[float]], a: int, b: int) -> bool:
    return sum(float(np.sign(vote[a] - vote[b])) for vote in votes) > 0
