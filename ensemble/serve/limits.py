"""How much one address, and everybody together, may ask at once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from rostok.ensemble.serve.refusal import Refusal


@dataclass(frozen=True)
class Limits:
    """What the server takes. The defaults let 16 people behind one address open the page at once.

    Attributes:
        body: bytes of one request.
        seconds: that the whole body may take to come.
        rate: requests a second that one address may go on with.
        burst: requests that it may send at once.
        places: answers in the making at once, those that wait for the engine among them.
        requests: in work at once, of whatever kind.
    """

    body: int = 256 << 10
    seconds: float = 20.0
    rate: float = 40.0
    burst: int = 400
    places: int = 64
    requests: int = 256


class Rate:
    """A bucket of tokens for each address; the addresses seen longest ago are forgotten."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic, addresses: int = 4096) -> None:
        self.rate, self.burst, self.clock, self.addresses = rate, burst, clock, addresses
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, and when that was

    def take(self, address: str) -> None:
        """Count one request. Raises `Refusal` 429 when there were too many."""
        now = self.clock()
        left, then = self._buckets.pop(address, (float(self.burst), now))
        left = min(self.burst, left + (now - then) * self.rate)
        self._buckets[address] = (left - 1 if left >= 1 else left, now)
        while len(self._buckets) > self.addresses:
            self._buckets.popitem(last=False)
        if left < 1:
            wait = max(1, round((1 - left) / self.rate))
            raise Refusal(429, f"too many requests from {address}: {self.rate:g} a second are served. Wait {wait} s.",
                          "rate_limit_exceeded", headers={"retry-after": str(wait)})


class Places:
    """Answers in the making. Used from the event loop only."""

    def __init__(self, count: int) -> None:
        self.count, self.taken = count, 0

    def take(self) -> None:
        """Take a place; whoever does gives it back. Raises `Refusal` 429 when there is none."""
        if self.taken >= self.count:
            raise Refusal(429, f"{self.count} answers are in the making, which is the most at once. Ask again in a moment.",
                          "rate_limit_exceeded", headers={"retry-after": "2"})
        self.taken += 1

    def give(self) -> None:
        """Give a place back."""
        self.taken -= 1
