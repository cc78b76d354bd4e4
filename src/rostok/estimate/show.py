"""An estimate for people, as tables, and for programs, as one object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rostok.estimate.pace import Pace
from rostok.estimate.predict import BOOK_PAGES, Estimate
from rostok.progress import clock

if TYPE_CHECKING:
    from rich.console import Console

_DAY = 86_400


def show(estimate: Estimate, books: Sequence[Estimate], pace: Pace, console: Console) -> None:
    """Print what was found out about the machine, the stages of the configuration, the libraries, and where it is from."""
    from rich.table import Table
    from rich.text import Text

    about = "" if pace.how == "measured" else "~"
    console.print(Text(_headline(pace), "bold"))
    table = Table(title=Text(f"{_count(estimate.seeds, 'seed')} × {estimate.pages:,} pages"), title_justify="left", box=None,
                  pad_edge=False)
    table.add_column("stage")
    for name in ("time", "disk", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in estimate.stages:
        table.add_row(stage.name, about + duration(stage.seconds), amount(stage.disk_bytes), amount(stage.memory_mib * 2**20))
    table.add_row("in all", about + _range(estimate.seconds, pace), amount(estimate.disk_bytes),
                  amount(estimate.memory_mib * 2**20), style="bold")
    console.print(table)
    table = Table(title=Text(f"books of {BOOK_PAGES} pages"), title_justify="left", box=None, pad_edge=False,
                  collapse_padding=True)
    for name in ("books", *(stage.name for stage in estimate.stages), "in all", "disk", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in books:
        table.add_row(f"{row.seeds:,}", *(about + duration(stage.seconds) for stage in row.stages), about + duration(row.seconds),
                      amount(row.disk_bytes), amount(row.memory_mib * 2**20))
    console.print(table)
    for note in (*warnings(estimate, pace), *pace.notes):
        console.print(Text(f"· {note}"))


def as_json(estimate: Estimate, books: Sequence[Estimate], pace: Pace) -> dict[str, Any]:
    """The same with seconds, bytes and MiB. `how` is `measured` or `reckoned`."""
    low, high = pace.spread
    return {
        "how": pace.how, "machine": pace.machine, "model": pace.model, "measuring_s": pace.seconds,
        **_plain(estimate), "seconds_low": round(estimate.seconds * low, 1), "seconds_high": round(estimate.seconds * high, 1),
        "books": [{"books": row.seeds, **_plain(row)} for row in books],
        "rates": rates(pace),
        "warnings": list(warnings(estimate, pace)), "notes": list(pace.notes),
        "pace": pace.model_dump(mode="json", exclude={"notes"}),
    }


def rates(pace: Pace) -> dict[str, float]:
    """The speeds that people compare: tokens, pages and seeds per second."""
    step = pace.swarm.step_tokens
    return {
        "writing_tokens_s": round(pace.engine.rate(), 1),
        "training_tokens_s": round(step / (pace.swarm.step_s + step * pace.swarm.token_s), 1),
        "gates_pages_s": round(1 / max(pace.corpus.page_s, 1e-6), 1),
        "remembering_pages_s": round(1 / max(pace.memory.remember_s, 1e-6), 1),
        "probes_s": round(pace.swarm.probe_s + 8 * pace.swarm.read_s, 3),
    }


def warnings(estimate: Estimate, pace: Pace) -> tuple[str, ...]:
    """What does not fit the machine."""
    found = []
    if pace.room_mib and estimate.memory_mib > pace.room_mib:
        found.append(f"{amount(estimate.memory_mib * 2**20)} of memory are needed, {amount(pace.room_mib * 2**20)} are there: "
                     "lower models.sequences, models.context or training.together.")
    # Stage by stage: more of one thing than was reckoned with leaves no room for another.
    missing = sum(max(0.0, stage.disk_bytes - pace.lying.get(stage.name, 0.0)) for stage in estimate.stages)
    if pace.room_bytes and missing > pace.room_bytes:
        more, where = "more " if any(pace.lying.values()) else "", "where the run lies" if pace.lying else "here"
        found.append(f"{amount(missing)} {more}of disk are needed, {amount(pace.room_bytes)} are free {where}.")
    return tuple(found)


def duration(seconds: float) -> str:
    """`0:07`, `12:30`, from an hour on `1 h 02`, from two days on `4.2 days`."""
    if seconds < 3_600:
        return clock(seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02}" if seconds < 2 * _DAY else f"{seconds / _DAY:,.1f} days"


def amount(size: float) -> str:
    """Bytes as `740 KiB`, `12 MiB` or `3.4 GiB`."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 2**20:,.0f} MiB" if size >= 2**20 else f"{size / 2**10:,.0f} KiB"


def _headline(pace: Pace) -> str:
    speeds = rates(pace)
    told = (f"writing {speeds['writing_tokens_s']:,.0f} tokens/s, training {speeds['training_tokens_s']:,.0f} tokens/s "
            f"({_count(pace.swarm.together, 'expert')} in a step)")
    if pace.how == "reckoned":
        return f"Reckoned, not measured, for {pace.machine} with {pace.model}: {told}"
    return (f"Measured on this machine ({pace.machine}) with {pace.model} in {pace.seconds:.0f} s: {told}, composing and gates "
            f"{speeds['gates_pages_s']:,.0f} pages/s, measuring {speeds['probes_s']:.1f} s for each expert and seed")


def _range(seconds: float, pace: Pace) -> str:
    low, high = pace.spread
    return duration(seconds) + (f" ({duration(seconds * low)} to {duration(seconds * high)})" if low < high else "")


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {
        "seeds": estimate.seeds, "pages": estimate.pages, "seconds": round(estimate.seconds, 1),
        "disk_bytes": round(estimate.disk_bytes), "memory_mib": round(estimate.memory_mib),
        "sampled_tokens": round(estimate.sampled), "trained_tokens": round(estimate.trained),
        "measuring_share": round(estimate.measuring, 3),
        "stages": [{"name": stage.name, "seconds": round(stage.seconds, 1), "disk_bytes": round(stage.disk_bytes),
                    "memory_mib": round(stage.memory_mib)} for stage in estimate.stages]}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
