"""Requests that wait for a sequence, in one line per adapter: only requests with the same adapter share a batch."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class _Waits(Protocol):
    @property
    def line(self) -> Hashable: ...


J = TypeVar("J", bound=_Waits)


class Waiting(Generic[J]):
    """Lines of requests by adapter, served in turns.

    The adapter at work is served first, since a change empties the batch; but no more than `turn` of its requests while
    another line waits, so that one busy expert starves nobody.
    """

    def __init__(self, turn: int) -> None:
        self._turn, self._served = turn, 0
        self._lines: OrderedDict[Hashable, deque[J]] = OrderedDict()  # the line that has waited longest comes first

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def put(self, job: J) -> None:
        """Stand at the end of the job's line."""
        self._lines.setdefault(job.line, deque()).append(job)

    def take(self, at_work: Hashable, *, idle: bool) -> J | None:
        """The next job, or None: nobody waits, or the batch must run empty before another adapter's turn.

        Args:
            at_work: the adapter that the batch is computed with.
            idle: whether nothing is running, so that the adapter may change.
        """
        others = len(self._lines) > (at_work in self._lines)
        if at_work in self._lines and not (others and self._served >= self._turn):
            chosen = at_work
        elif not idle or not self._lines:
            return None
        else:
            chosen = next(iter(self._lines))
            if chosen == at_work and others:  # its turn is over
                self._lines.move_to_end(chosen)
                chosen = next(iter(self._lines))
            self._served = 0
        line = self._lines[chosen]
        job = line.popleft()
        self._served += 1
        if not line:
            del self._lines[chosen]
        return job

    def drain(self) -> list[J]:
        """Everybody that waits; the lines are empty afterwards."""
        left = [job for line in self._lines.values() for job in line]
        self._lines.clear()
        return left
