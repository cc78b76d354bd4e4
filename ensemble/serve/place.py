"""Where a question lies among the seeds: the report's map (the two main axes of all vectors), with one point more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rostok.ensemble.memory import Memory

_PAGES = 1000  # pages that decide the axes, evenly over the store


class SeedPlaces:
    """The axes of a run's memory, and every seed's and page's place on them. The longer half is 1 long.

    Attributes:
        seeds: {seed: (x, y)}.
        pages: [(seed, x, y)].
    """

    def __init__(self, memory: Memory, seeds: list[str]) -> None:
        keys = memory.known("pages")
        keys = [keys[i] for i in np.linspace(0, len(keys) - 1, min(len(keys), _PAGES)).round().astype(int)]
        known = set(memory.known("seeds"))
        names = [seed for seed in seeds if seed in known]
        page_vectors, seed_vectors = memory.stored("pages", keys)[1], memory.stored("seeds", names)[1]
        vectors = np.concatenate([seed_vectors, page_vectors])
        self._mean = vectors.mean(axis=0)
        axes = np.linalg.svd(vectors - self._mean, full_matrices=False)[2][:2]
        axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]  # as rostok.ensemble.index does
        self._axes = np.zeros((2, vectors.shape[1]), np.float32)
        self._axes[: len(axes)] = axes
        flat = (vectors - self._mean) @ self._axes.T
        self._scale = float(np.abs(flat).max()) or 1.0
        self.seeds = {name: self.of(vector) for name, vector in zip(names, seed_vectors, strict=True)}
        self.pages = [(key.rpartition(":")[0], *self.of(vector)) for key, vector in zip(keys, page_vectors, strict=True)]

    def of(self, vector: NDArray[np.float32]) -> tuple[float, float]:
        """A vector's place; one that lies far outside is put on the edge."""
        x, y = np.clip((vector - self._mean) @ self._axes.T / self._scale, -1.05, 1.05)
        return round(float(x), 4), round(float(y), 4)
