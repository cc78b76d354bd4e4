"""How many threads llama.cpp computes with while other programs are busy, too.

Its threads wait for each other at every layer. When another program holds one of two cores, two threads are up to ten
times slower than alone, and five times slower than one thread. Threads that are left waiting for a core use little
processor time for the time that passes; then there are too many of them. All are tried again a little later.
"""

from __future__ import annotations

from collections.abc import Callable

_STARVED = 0.7    # share of the passing time that the threads spend computing or spinning; alone it is above 0.9
_STEPS = 3        # in a row, before anything is changed
_PATIENCE = 10.0  # seconds with fewer threads before all are tried again


class Threads:
    """Chooses a number of threads from the processor time that steps get.

    Args:
        most: threads to use when nobody else is busy.
        use: called with a new number.
    """

    def __init__(self, most: int, use: Callable[[int], None]) -> None:
        self.count, self._most, self._use = most, most, use
        self._starved, self._since = 0, 0.0

    def took(self, seconds: float, processor: float, now: float) -> None:
        """Tell how long a step took.

        Args:
            processor: processor time that all threads of the process used meanwhile, in seconds.
            now: the clock, in seconds.
        """
        if self._most == 1:
            return
        self._starved = self._starved + 1 if processor < _STARVED * self.count * seconds else 0
        if self._starved >= _STEPS and self.count > 1:
            self._set(self.count // 2 if self.count > 3 else self.count - 1, now)
        elif self.count < self._most and now - self._since > _PATIENCE:
            self._set(self._most, now)

    def _set(self, count: int, now: float) -> None:
        self.count, self._starved, self._since = count, 0, now
        self._use(count)
