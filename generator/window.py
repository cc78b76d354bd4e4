"""One window of text as the frozen reference sees it: its active fields, how many of them are independent, its surprisal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rostok.generator.frozen import Frozen, Reading

FIELDS = 32      # the strongest fields of a window; a kernel of 32 × 32 is what its eigenvalues cost
RUN = 4          # tokens; 2-12% of those of human prose stand in such a run that was there before, half of a template's
_COPIED = 1.0    # bits
_PRIME = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Window:
    """A window, or a page as one window.

    Attributes:
        surprisal: bits per token.
        active: its strongest fields, shape [32], -1 where there are fewer; `strength` how strong each is.
        profile: unit vector of its fields over all words, shape [fields]; zeros for a text without any.
    """

    tokens: int
    surprisal: float
    active: NDArray[np.int32]
    strength: NDArray[np.float32]
    profile: NDArray[np.float32]

    def number(self, reference: Frozen) -> float:
        """Effective number of active fields."""
        return float(numbers(self.active[None], self.strength[None], reference)[0])

    def at_least(self, reference: Frozen) -> float:
        """A bound below `number` that needs no eigenvalues: the number of order 2, since Rényi's entropies fall with order."""
        total = float(self.strength.sum())
        if not total:
            return 0.0
        share = self.strength / total
        kernel = reference.kernel[np.ix_(self.active, self.active)]
        return 1.0 / float(share @ (kernel * kernel) @ share)


def read_page(text: str, reference: Frozen) -> Window:
    """A whole page as one window."""
    read = reference.read(text)
    active, strength = activation(read.ranks, reference)
    bits = unheard(read, set())
    return Window(len(bits), float(bits.mean()) if len(bits) else 0.0, active, strength, _profile(read.ranks, reference))


def activation(ranks: NDArray[np.int32], reference: Frozen) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The strongest fields of some words, each as strong as its strongest word."""
    held = ranks[ranks >= 0]
    per_field = np.zeros(len(reference.centroids), np.float32)
    np.maximum.at(per_field, reference.ties[held].ravel(), reference.strength[held].ravel())
    strongest = np.argsort(-per_field, kind="stable")[:FIELDS]
    ties = per_field[strongest]
    active, strength = np.full(FIELDS, -1, np.int32), np.zeros(FIELDS, np.float32)
    count = int((ties > 0).sum())
    active[:count], strength[:count] = strongest[:count], ties[:count]
    return active, strength


def unheard(read: Reading, heard: set[int]) -> NDArray[np.float32]:
    """Bits of each token to a reader who remembers: in a run of four tokens that was there before, a token costs one bit.

    Args:
        heard: runs that were read so far; those of this text are added.
    """
    tokens = read.tokens.astype(np.uint64)
    copied = np.zeros(len(tokens), bool)
    if len(tokens) >= RUN:
        runs = tokens[: len(tokens) - RUN + 1].copy()
        for place in range(1, RUN):
            runs = runs * _PRIME + tokens[place : len(tokens) - RUN + 1 + place]  # wraps around, as a hash may
        for start, run in enumerate(runs.tolist()):
            if run in heard:
                copied[start : start + RUN] = True
            heard.add(run)
    return np.where(copied, np.minimum(read.bits, _COPIED), read.bits)


def numbers(active: NDArray[np.int32], strength: NDArray[np.float32], reference: Frozen) -> NDArray[np.float64]:
    """Effective number of active fields, shape [windows]: exp of the entropy of the eigenvalues of their kernel.

    Args:
        active, strength: shape [windows, 32].
    """
    total = strength.sum(axis=1, keepdims=True, dtype=np.float64)
    root = np.sqrt(strength / np.maximum(total, 1e-12))
    index = np.maximum(active, 0)
    kernel = reference.kernel[index[:, :, None], index[:, None, :]] * root[:, :, None] * root[:, None, :]
    values = np.maximum(np.linalg.eigvalsh(kernel), 1e-12)
    entropy = -(values * np.log(values)).sum(axis=1)
    return np.where(total[:, 0] > 0, np.exp(entropy), 0.0)


def _profile(ranks: NDArray[np.int32], reference: Frozen) -> NDArray[np.float32]:
    held = ranks[ranks >= 0]
    found = np.bincount(reference.ties[held].ravel(), reference.strength[held].ravel(), len(reference.centroids))
    length = np.linalg.norm(found)
    return (found / length if length else found).astype(np.float32)
