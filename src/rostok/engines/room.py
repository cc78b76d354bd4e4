"""Back-pressure: a bounded number of requests wait or run; who comes when all places are taken waits for one."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future


class Room:
    """Places for requests, given out in the order of asking, to threads and to tasks alike."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._free = places
        self._lock = threading.Lock()
        self._line: deque[Future[None]] = deque()

    def enter(self) -> None:
        """Take a place; the thread waits for one."""
        self._ask().result()

    async def entered(self) -> None:
        """Take a place; the task waits for one. A task that is cancelled while it waits takes none."""
        place = self._ask()
        try:
            await asyncio.wrap_future(place)
        except asyncio.CancelledError:
            if not place.cancel() and not place.cancelled():  # it was given in this very moment
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back: to the first in line that still waits, if there is one."""
        with self._lock:
            while self._line:
                first = self._line.popleft()
                if first.set_running_or_notify_cancel():
                    break
            else:
                self._free += 1
                return
        first.set_result(None)

    def _ask(self) -> Future[None]:
        place: Future[None] = Future()
        with self._lock:
            if self._free and not self._line:
                self._free -= 1
                place.set_result(None)
            else:
                self._line.append(place)
        return place
