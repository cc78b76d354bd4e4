"""The map of a run's meanings: seeds and pages on the two main axes of their vectors (PCA by SVD)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rostok.ensemble.recall.memory import Memory

_PAGES = 2000  # that decide the axes with the seeds, evenly over the store


class Plane:
    """The axes, and what lies where on them.

    Attributes:
        pages, texts: keys and texts of the sampled pages.
        seed_points, page_points: their places, shape [n, 2].
    """

    def __init__(self, memory: Memory, seeds: Sequence[str]) -> None:
        keys = memory.known("pages")
        self.pages = [keys[i] for i in np.linspace(0, len(keys) - 1, min(len(keys), _PAGES)).round().astype(int)]
        self.texts, page_vectors = memory.stored("pages", self.pages)
        _, seed_vectors = memory.stored("seeds", list(seeds))
        vectors = np.concatenate([seed_vectors, page_vectors])
        self._mean = vectors.mean(axis=0, dtype=np.float64)
        axes = np.linalg.svd(vectors - self._mean, full_matrices=False)[2][:2]
        axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]  # SVD leaves the sign open
        self._axes = np.zeros((2, vectors.shape[1]))
        self._axes[: len(axes)] = axes
        self.seed_points, self.page_points = self.points(seed_vectors), self.points(page_vectors)

    def points(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Where vectors lie, of one or of many."""
        found: NDArray[np.float64] = (vectors - self._mean) @ self._axes.T
        return found
