"""ADPT, associative density per token: how many independent semantic fields a text keeps active at once.

A text is cut into windows of 128 tokens, page by page. In each window, every field is as active as its strongest word.
The *number* of a window is the effective number (Vendi score, Friedman & Dieng 2023) of its active fields. It is
multiplied by a *gate* on the surprisal of the window, and by its *novelty*: a pair of fields that has been active together
before counts less and less. ADPT = 1000 · Σ number · gate · novelty · (tokens / 128) / Σ tokens.

docs/adpt.md says what the figure is worth, and which controls it must pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rostok.generator import window
from rostok.generator.frozen import WORDS_FROM, Frozen, frozen
from rostok.records import Record

WINDOW = 128
_DRAWS = 1000      # of the bootstrap
_BLOCK = 2048      # windows whose kernels (8 MB) or pairs of fields (50 MB) are in memory at once
_ROWS, _COLUMNS = np.triu_indices(window.FIELDS, 1)


class Adpt(Record):
    """The density of a text, and what it is made of. Means are over windows, each with the weight of its tokens.

    Attributes:
        adpt: independent fields that are active at once, per 1,000 tokens; `low` and `high` bound it (95%, over pages), and
            are None for fewer than two pages, which say nothing about how far pages differ.
        number: effective number of active fields of a window.
        gate: 0 for a window as predictable as the plainest, or less likely than any, of the reference; else up to 1.
        novelty: 1 where no pair of fields repeats.
        surprisal: bits per token.
        known: share of the words that the reference knows.
        fields: different fields that the text activates.
    """

    adpt: float
    low: float | None
    high: float | None
    number: float
    gate: float
    novelty: float
    surprisal: float
    known: float
    fields: int = Field(ge=0)
    windows: int = Field(ge=0)
    tokens: int = Field(ge=0)
    reference: str = Field(description="SHA-256 of the frozen reference")


@dataclass(frozen=True)
class Windows:
    """A text in windows; arrays of shape [windows], `active` and `strength` of shape [windows, 32], -1 where none."""

    page: NDArray[np.int32]
    tokens: NDArray[np.int32]
    surprisal: NDArray[np.float32]
    active: NDArray[np.int32]
    strength: NDArray[np.float32]
    words: int
    known: int


def measure(pages: Sequence[str], reference: Frozen | None = None, *, random_seed: int = 0) -> Adpt:
    """The associative density of a text that is given in pages. A text without any word has density 0."""
    reference = reference or frozen()
    cut = windows(pages, reference)
    total = int(cut.tokens.sum())
    if not total:
        return Adpt(adpt=0, low=None, high=None, number=0, gate=0, novelty=0, surprisal=0, known=0, fields=0, windows=0, tokens=0,
                    reference=reference.sha256)
    number, gate, new = numbers(cut, reference), gates(cut.surprisal, reference), novelty(cut)
    weight = cut.tokens / total
    each = number * gate * new * cut.tokens / WINDOW
    low, high = _interval(each, cut.tokens, cut.page, random_seed)
    return Adpt(
        adpt=round(1000 * float(each.sum()) / total, 2), low=low, high=high,
        number=round(float(number @ weight), 3), gate=round(float(gate @ weight), 4), novelty=round(float(new @ weight), 4),
        surprisal=round(float(cut.surprisal @ weight), 3), known=round(cut.known / max(1, cut.words), 4),
        fields=len(np.unique(cut.active[cut.active >= 0])), windows=len(cut.page), tokens=total, reference=reference.sha256)


def windows(pages: Sequence[str], reference: Frozen) -> Windows:
    """Cut pages into windows. What is left at the end of a page is a window of its own from 64 tokens on, or its only one."""
    page, tokens, surprisal, active, strength = [], [], [], [], []
    words = known = 0
    heard: set[int] = set()
    for number, text in enumerate(pages):
        read = reference.read(text)
        bits = window.unheard(read, heard)
        words += int((read.classes >= WORDS_FROM).sum())
        known += int((read.ranks >= 0).sum())
        for start, end in _cuts(len(read.ranks)):
            page.append(number)
            tokens.append(end - start)
            surprisal.append(float(bits[start:end].mean()))
            fields, ties = window.activation(read.ranks[start:end], reference)
            active.append(fields)
            strength.append(ties)
    shape = (len(page), window.FIELDS)
    return Windows(np.array(page, np.int32), np.array(tokens, np.int32), np.array(surprisal, np.float32),
                   np.array(active, np.int32).reshape(shape), np.array(strength, np.float32).reshape(shape), words, known)


def gates(surprisal: NDArray[np.float32], reference: Frozen) -> NDArray[np.float64]:
    """0 up to the reference's 5th percentile, 1 at its 95th, 0 again from its 99th on; straight in between."""
    p5, p95, p99 = (reference.facts["surprisal"][name] for name in ("p5", "p95", "p99"))
    return np.asarray(np.interp(surprisal, [p5, p95, p99], [0.0, 1.0, 0.0]))


def numbers(cut: Windows, reference: Frozen) -> NDArray[np.float64]:
    """Effective number of the active fields of each window."""
    parts = [window.numbers(cut.active[block], cut.strength[block], reference) for block in _blocks(cut)]
    return np.concatenate(parts) if parts else np.zeros(0)


def novelty(cut: Windows) -> NDArray[np.float64]:
    """How new the pairs of fields of each window are, 0 to 1.

    A pair that is active in c windows counts 1 + 1/2 + … + 1/c in all of them together, and the same in each, so that
    the order of pages does not matter. Pairs weigh as the product of their two fields.
    """
    size = int(cut.active.max(initial=0)) + 1
    count = np.zeros(size * size, np.int64)
    for block in _blocks(cut):
        codes, there = _pairs(cut.active[block], size)
        count += np.bincount(codes[there], minlength=size * size)
    harmonic = np.cumsum(1.0 / np.arange(1, max(2, len(cut.page) + 1)))  # a pair is active once in a window at most
    worth = harmonic[np.maximum(count, 1) - 1] / np.maximum(count, 1)
    parts = [np.zeros(0)]
    for block in _blocks(cut):
        codes, there = _pairs(cut.active[block], size)
        weight = cut.strength[block][:, _ROWS] * cut.strength[block][:, _COLUMNS] * there
        total = weight.sum(axis=1)
        parts.append(np.where(total > 0, (weight * worth[codes]).sum(axis=1) / np.maximum(total, 1e-12), 1.0))
    return np.concatenate(parts)


def _pairs(active: NDArray[np.int32], size: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A number for each pair of fields of each window, and whether both are there; shape [windows, pairs]."""
    a, b = active[:, _ROWS], active[:, _COLUMNS]
    there = (a >= 0) & (b >= 0)
    return np.where(there, np.minimum(a, b).astype(np.int64) * size + np.maximum(a, b), 0), there


def _blocks(cut: Windows) -> Iterator[slice]:
    """The windows, so many at a time."""
    return (slice(start, start + _BLOCK) for start in range(0, len(cut.page), _BLOCK))


def _interval(each: NDArray[np.float64], tokens: NDArray[np.int32], page: NDArray[np.int32],
              random_seed: int) -> tuple[float, float] | tuple[None, None]:
    """Bootstrap over pages: what a page adds, with its discounts, is drawn as a whole."""
    if len(np.unique(page)) < 2:
        return None, None
    pages = int(page.max()) + 1
    value, weight = np.bincount(page, each, pages), np.bincount(page, tokens, pages)
    dice = np.random.default_rng(random_seed)
    ratios = []
    for _ in range(_DRAWS):
        drawn = np.bincount(dice.integers(0, pages, pages), minlength=pages)
        ratios.append(1000 * float(drawn @ value) / max(1.0, float(drawn @ weight)))
    low, high = np.quantile(ratios, (0.025, 0.975))
    return round(float(low), 2), round(float(high), 2)


def _cuts(length: int) -> list[tuple[int, int]]:
    if not length:
        return []
    starts = list(range(0, length, WINDOW))
    if len(starts) > 1 and length - starts[-1] < WINDOW // 2:
        starts.pop()  # a short rest belongs to the window before it
    return list(zip(starts, [*starts[1:], length], strict=True))
