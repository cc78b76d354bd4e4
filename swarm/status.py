"""The job table for people: `rostok swarm status RUN`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rostok.progress import clock, plain
from rostok.runs import Run
from rostok.swarm.jobs import STATES, JobRow, JobTable, WorkerRow

if TYPE_CHECKING:
    from rich.console import Console, Group

_EVERY = 1.0  # seconds between two looks
_STYLES = {"queued": "dim", "running": "bold", "done": "green", "failed": "red", "quarantined": "bold red"}


@dataclass(frozen=True)
class Status:
    """The table at one moment; `holder` is the command that is at work on the run, None when nobody is."""

    rows: Sequence[JobRow]
    workers: Sequence[WorkerRow]
    holder: str | None

    @property
    def rate(self) -> float:
        """Tokens a second of all workers."""
        return sum(worker.rate for worker in self.workers) if self.holder else 0.0

    def left(self, rows: Sequence[JobRow] | None = None) -> float | None:
        """Seconds until the jobs that can still be done are done, None when the rate is not known."""
        if not self.rate:
            return None
        rows = self.rows if rows is None else rows
        tokens = sum(max(0, row.total - row.tokens) for row in rows if row.state in ("queued", "running"))
        return tokens / self.rate


def read(run: Run) -> Status:
    """The table now.

    Raises:
        RunError: the run has no training jobs yet.
    """
    from rostok.errors import RunError

    run.read()
    if not run.jobs.exists():
        holder = run.holder()
        if holder is not None:
            raise RunError(f"{run.folder} has no training jobs yet; {holder} is at work on it. Ask again in a minute.")
        raise RunError(f"{run.folder} has no training jobs yet. Run: rostok swarm train {run.folder}")
    with JobTable(run.jobs) as table:
        return Status(table.rows(), table.workers(), run.holder())


def show(run: Run, console: Console, *, live: bool) -> None:
    """Print the table; on a terminal follow it until nobody is at work any more, or Ctrl-C."""
    status = read(run)
    if not live or status.holder is None:
        console.print(draw(status))
        return
    from rich.live import Live

    with Live(draw(status), console=console, refresh_per_second=2) as screen:
        while status.holder is not None:
            time.sleep(_EVERY)
            status = read(run)
            screen.update(draw(status))


def draw(status: Status) -> Group:
    """The jobs, and under them what is going on."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("expert", "state", "steps", "tokens", "took", "tries", "why", box=None, pad_edge=False)
    for row in status.rows:
        state = row.state if row.state != "running" or status.holder else "broken off"
        share = f"{row.step / row.steps:4.0%} {_bar(row.step / row.steps)}" if row.steps else ""
        if row.state == "done":
            share = "100% " + _bar(1.0)
        table.add_row(Text(f"{row.name} {plain(row.title)}", overflow="ellipsis", no_wrap=True), Text(state, _STYLES[row.state]),
                      share, f"{row.tokens:,}" if row.tokens else "", clock(row.seconds) if row.seconds else "",
                      str(row.attempts or ""), Text("" if row.reason.startswith("all ") else plain(row.reason), overflow="fold"))
    counts = [f"{count} {state}" for state in STATES if (count := sum(row.state == state for row in status.rows))]
    lines = [Text(" · ".join(counts))]
    if status.holder is None:
        waits = any(row.state in ("queued", "running") for row in status.rows)
        lines.append(Text("nobody is at work" + (": rostok swarm resume goes on" if waits else "")))
    else:
        lines.append(Text(f"at work: {status.holder}"))
        for worker in status.workers:
            lines.append(Text(f"{worker.name}: {worker.together} at once, passes of {worker.pass_tokens} tokens, "
                              f"{worker.rate:,.0f} tokens/s, since {worker.since[11:]}"))
        left = status.left()
        if left is not None:
            lines.append(Text(f"{status.rate:,.0f} tokens/s in all, {clock(left)} left"))
    return Group(table, Text(""), *lines)


def _bar(share: float) -> str:
    full = round(8 * min(1.0, share))
    return "█" * full + "░" * (8 - full)
