"""One request whose next word several adapters choose together: the weighted mean of their distributions (cluster-BTM).

Each voice has a key-value stream of its own, so that a word costs one pass and one change of adapters a voice.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rostok.engines.context import BATCH, Context
from rostok.engines.job import Job
from rostok.engines.shelf import Line


@dataclass(eq=False)
class Mixture:
    """A job with voices, on its way through the engine's thread.

    Attributes:
        voices: the adapters of each voice with its weight; the weights add up to 1.
        sequences: one a voice, once it has its places.
    """

    job: Job
    voices: Sequence[tuple[Line, float]]
    sequences: list[int] = field(default_factory=list)

    def seat(self, free: list[int]) -> bool:
        """Take a sequence for every voice from the heap of the free ones; False when there are too few."""
        if not self.sequences and len(free) >= len(self.voices):
            self.sequences = [heapq.heappop(free) for _ in self.voices]
        return bool(self.sequences)

    def rise(self, llama: Context, free: list[int]) -> None:
        """Give the sequences back."""
        for sequence in self.sequences:
            llama.clear(sequence)
            heapq.heappush(free, sequence)
        self.sequences = []

    def step(self, llama: Context, use: Callable[[Line], None]) -> int:
        """Let every voice read what is known; returns the index in the last batch that now holds the mixture's logits."""
        due, index = self.job.tokens[self.job.fed :], 0
        mixed: NDArray[Any] | None = None
        for (line, weight), sequence in zip(self.voices, self.sequences, strict=True):
            use(line)
            for start in range(0, len(due), BATCH):
                part = due[start : start + BATCH]
                last = range(len(part) - 1, len(part)) if start + len(part) == len(due) else range(0)
                index = llama.add(part, self.job.fed + start, sequence, last) + len(part) - 1
                llama.decode()
            share = _softmax(llama.logits(index)) * weight
            mixed = share if mixed is None else mixed + share
        assert mixed is not None
        self.job.fed = len(self.job.tokens)
        llama.logits(index)[:] = np.log(np.maximum(mixed, np.finfo(np.float32).tiny))  # where the samplers read
        return index


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    powers = np.exp(logits - logits.max(), dtype=np.float32)
    shares: NDArray[Any] = powers / powers.sum(dtype=np.float64)
    return shares
