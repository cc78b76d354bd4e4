"""What a stage shows while it works: a live bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task
from rich.text import Text

_PLAIN_EVERY = 5.0   # seconds between two lines where there is no terminal
_WINDOW = 60.0       # seconds over which a rate is measured; the first pages of a stage are slower than the rest
_LEAST_SAMPLES = 8   # kept even when older: an expert takes minutes
_REFRESH = 2.0       # redraws a second; every redraw takes time from a cramped processor


def plain(text: str) -> str:
    """Text of a model without control characters, which could move a terminal's cursor or change its title."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def clock(seconds: float) -> str:
    """Seconds as `0:07`, `12:30` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class _Sample:
    """How far a stage was at a time."""

    time: float
    done: int
    tokens: int


class _Stage:
    """The figures of one stage while it runs."""

    def __init__(self, name: str, total: int, unit: str, done: int, now: float) -> None:
        self.name, self.total, self.unit = plain(name), total, unit
        self.begun, self.before = now, done
        self.done, self.tokens = done, 0
        self.samples = deque([_Sample(now, done, 0)])

    def add(self, count: int, tokens: int, now: float) -> None:
        self.done += count
        self.tokens += tokens
        self.samples.append(_Sample(now, self.done, self.tokens))
        while len(self.samples) > _LEAST_SAMPLES and self.samples[1].time < now - _WINDOW:
            self.samples.popleft()

    def rates(self) -> tuple[float, float]:
        """Units and tokens per second of late."""
        first, last = self.samples[0], self.samples[-1]
        seconds = last.time - first.time
        if seconds <= 0:
            return 0.0, 0.0
        return (last.done - first.done) / seconds, (last.tokens - first.tokens) / seconds

    def left(self, now: float) -> float | None:
        """Seconds that the rest will take at the rate of late, or None when that is unknown."""
        rate, _ = self.rates()
        if rate <= 0:
            return None
        return max((self.total - self.done) / rate - (now - self.samples[-1].time), 0.0)

    def progress(self, now: float) -> str:
        """`120/800 pages · 3.2 pages/s · 610 tokens/s · 0:38 · 3:30 left`."""
        units, tokens = self.rates()
        left = self.left(now)
        return _joined(
            f"{self.done:,}/{self.total:,} {self.unit}", self._speed(units),
            f"{tokens:,.0f} tokens/s" if tokens else "", clock(now - self.begun),
            f"{clock(left)} left" if left is not None and self.done < self.total else "")

    def closing(self, now: float, note: str) -> str:
        """The line that stays: all of the stage, with mean rates."""
        seconds = max(now - self.begun, 1e-6)
        made = self.done - self.before
        speed = self._speed(made / seconds) if made and seconds >= 1 else ""
        tokens = f"{self.tokens / seconds:,.0f} tokens/s" if self.tokens else ""
        return f"{self.name}: " + _joined(
            f"{self.done:,}/{self.total:,} {self.unit} in {clock(seconds)}", speed, tokens, plain(note))

    def _speed(self, rate: float) -> str:
        if rate <= 0:
            return ""
        return f"{rate:,.1f} {self.unit}/s" if rate >= 0.1 else f"{rate * 60:,.1f} {self.unit}/min"


class _Figures(ProgressColumn):
    """The stage's figures behind the bar."""

    def __init__(self, figures: Callable[[], str]) -> None:
        super().__init__()
        self._figures = figures

    def render(self, task: Task) -> Text:
        return Text(self._figures(), no_wrap=True, overflow="ellipsis")


class Watch:
    """Progress of one stage after another. All methods may be called from any thread.

    On a terminal a live bar shows done/total, the rate in units and tokens per second, the time taken and the time
    left. Elsewhere a plain line comes at most every five seconds. Either way one closing line per stage stays.

    Args:
        console: where it is shown; whoever prints while a stage runs must use the same one.
        quiet: show nothing at all.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or Console()
        self._quiet = quiet
        self._lock = threading.RLock()
        self._stage: _Stage | None = None
        self._bar: Progress | None = None
        self._spoken = 0.0

    def start(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Begin a stage; one that still runs is finished first.

        Args:
            stage: its name.
            total: units in all.
            unit: what is counted, in the plural, such as `pages`.
            done: units that an earlier session has made; they do not count for the rate.
        """
        with self._lock:
            if self._stage is not None:
                self.finish()
            self._stage = _Stage(stage, total, unit, done, time.monotonic())
            self._spoken = self._stage.begun
            if self._quiet or not self._console.is_terminal:
                return
            self._bar = Progress(
                SpinnerColumn(), _Figures(lambda: self._stage.name if self._stage else ""),
                BarColumn(bar_width=24),
                _Figures(lambda: self._stage.progress(time.monotonic()) if self._stage else ""),
                console=self._console, refresh_per_second=_REFRESH, transient=True)
            self._bar.add_task("", total=max(total, 1), completed=done)
            self._bar.start()

    def advance(self, count: int = 1, tokens: int = 0) -> None:
        """So many more units are done, for which the model sampled or was trained on so many tokens."""
        with self._lock:
            if self._stage is None:
                return
            now = time.monotonic()
            self._stage.add(count, tokens, now)
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], completed=self._stage.done)
            elif now - self._spoken >= _PLAIN_EVERY:
                self._spoken = now
                self._say(f"{self._stage.name}: {self._stage.progress(now)}")

    def note(self, text: str) -> None:
        """A line above the bar. Markup and control characters in it are shown as they are, never obeyed."""
        with self._lock:
            self._say("  " + plain(text))

    def finish(self, note: str = "") -> None:
        """End the stage: the bar goes, one line stays."""
        with self._lock:
            if self._stage is None:
                return
            self._clear()
            self._say(self._stage.closing(time.monotonic(), note))
            self._stage = None

    def close(self) -> None:
        """Give the terminal back without a closing line, for a stage that was broken off."""
        with self._lock:
            self._clear()
            self._stage = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)
