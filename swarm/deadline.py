"""Until when, and what fits by then: `rostok night RUN --until 07:00`."""

from __future__ import annotations

import datetime
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from rostok.errors import ConfigError
from rostok.swarm.jobs import JobRow

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def parse_until(text: str, now: datetime.datetime) -> datetime.datetime:
    """The next moment at which a clock shows `07:00`, or the moment of `2026-11-23 07:00`, in the machine's time.

    Raises:
        ConfigError: neither of the two, or a moment that has passed.
    """
    text = text.strip()
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        moment = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return moment if moment > now else moment + datetime.timedelta(days=1)
    try:
        moment = datetime.datetime.fromisoformat(text if len(text) >= len("2026-11-23T07:00") else "")
    except ValueError:
        raise ConfigError(f"--until takes a time such as 07:00, or a day with it such as 2026-11-23T07:00, "
                          f"not '{text}'.") from None
    if moment.tzinfo is not None:
        moment = moment.astimezone().replace(tzinfo=None)
    if moment <= now:
        raise ConfigError(f"--until {text} has passed: it is {now:%Y-%m-%d %H:%M} now. Give a later moment.")
    return moment


def seconds_per_expert(tokens: int, rate: float) -> float:
    """Seconds of a device for one expert of so many tokens, at a rate in tokens a second that was measured on it."""
    return tokens / rate


@dataclass(frozen=True)
class Deadline:
    """When everything must be over, in `time.time()`, and the seconds that every trained expert takes after training."""

    end: float
    each: float = 0.0

    def training(self, trained: int) -> float:
        """When training must be over with so many experts trained."""
        return self.end - self.each * trained


@dataclass(frozen=True)
class Fit:
    """What fits in a time: names in the order of the queue, and the seconds that they take."""

    names: tuple[str, ...]
    seconds: float


def fitting(rows: Sequence[JobRow], rates: Sequence[float], seconds: float, each: float = 0.0) -> Fit:
    """The first experts that are trained whole in so many seconds, of which `each` of them takes some afterwards.

    The devices share the queue; each step is shared by all adapters in it, so that a device takes as long for eight
    together as for eight one after the other at the same rate.
    """
    busy = [0.0] * len(rates)
    names: list[str] = []
    for row in rows:
        place = min(range(len(rates)), key=lambda index: busy[index])
        more = seconds_per_expert(max(0, row.total - row.tokens), rates[place])
        if max(busy[place] + more, *busy) + each * (len(names) + 1) > seconds:
            break
        busy[place] += more
        names.append(row.name)
    return Fit(tuple(names), max(busy))


class TimeIsUp(BaseException):
    """The hour has come in the middle of a stage; what the stage had finished is on disk, as after any stop.

    Like Ctrl-C no `Exception`, so that nobody who handles errors takes it for one.
    """


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise `TimeIsUp` in the main thread after so many seconds. Every stage may be broken off at any moment."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("an alarm rings in the main thread only")

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
