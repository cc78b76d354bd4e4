"""Where a question lies among the seeds: the report's map with one point more, scaled for the page."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rostok.ensemble.recall.memory import Memory
from rostok.ensemble.recall.plane import Plane


class SeedPlaces:
    """Every seed's and page's place on the plane of a run's memory. The longer half is 1 long.

    Attributes:
        seeds: {seed: (x, y)}.
        pages: [(seed, x, y)].
    """

    def __init__(self, memory: Memory, seeds: list[str]) -> None:
        known = set(memory.known("seeds"))
        names = [seed for seed in seeds if seed in known]
        self._plane = plane = Plane(memory, names)
        self._scale = max((float(np.abs(points).max()) for points in (plane.seed_points, plane.page_points) if points.size),
                          default=0.0) or 1.0
        self.seeds = {name: self._scaled(point) for name, point in zip(names, plane.seed_points, strict=True)}
        self.pages = [(key.rpartition(":")[0], *self._scaled(point))
                      for key, point in zip(plane.pages, plane.page_points, strict=True)]

    def of(self, vector: NDArray[np.float32]) -> tuple[float, float]:
        """A vector's place; one that lies far outside is put on the edge."""
        return self._scaled(self._plane.points(vector))

    def _scaled(self, point: NDArray[np.float64]) -> tuple[float, float]:
        x, y = np.clip(point / self._scale, -1.05, 1.05)
        return round(float(x), 4), round(float(y), 4)
