"""How an estimate is told to people."""

from __future__ import annotations

import pytest

from rostok.config import resolve
from rostok.estimate.pace import Pace
from rostok.estimate.predict import books, predict, sized
from rostok.estimate.show import amount, as_json, duration, warnings


@pytest.mark.parametrize(("seconds", "told"), [
    (7, "0:07"), (750, "12:30"), (3_599.4, "59:59"), (3_725, "1 h 02"), (171_000, "47 h 30"), (363_000, "4.2 days")])
def test_times_are_told_in_fitting_units(seconds: float, told: str) -> None:
    """Prevents: days told in minutes, or `60:00` beside `1 h 00`."""
    assert duration(seconds) == told


@pytest.mark.parametrize(("size", "told"), [
    (300_000, "293 KiB"), (5 * 2**20, "5 MiB"), (3.4 * 2**30, "3.4 GiB"), (2**40, "1.0 TiB")])
def test_sizes_are_told_in_fitting_units(size: float, told: str) -> None:
    """Prevents: terabytes told in kilobytes."""
    assert amount(size) == told


def test_what_does_not_fit_is_told(pace: Pace) -> None:
    """Prevents: a night begun on a disk that is full by three."""
    settings = sized(resolve(), 100, 500)
    told = predict(settings, pace)
    assert warnings(told, pace) == ()  # nobody knows how much there is
    tight = pace.model_copy(update={"room_mib": 1_000.0, "room_bytes": 1e9})
    memory, disk = warnings(told, tight)
    assert "of memory are needed, 1,000 MiB are there" in memory
    assert "of disk are needed, 954 MiB are free here." in disk
    printed = as_json(told, books(settings, pace), tight)
    assert printed["warnings"] == [memory, disk]
    assert printed["seconds_low"] == printed["seconds_high"] == printed["seconds"]


def test_what_a_run_holds_is_not_needed_again(pace: Pace) -> None:
    """Prevents: a run that is nearly done and told not to fit; a stage that took more than it should and hides another's need."""
    told = predict(sized(resolve(), 100, 500), pace)
    needed = {stage.name: stage.disk_bytes for stage in told.stages}
    tight = pace.model_copy(update={"room_bytes": needed["memory"] + 1e6})
    assert len(warnings(told, tight)) == 1
    begun = {stage: 0.0 if stage in ("memory", "report") else size for stage, size in needed.items()}
    assert warnings(told, tight.model_copy(update={"lying": begun, "room_bytes": needed["memory"] + 2e6})) == ()
    begun["author"] *= 100
    (disk,) = warnings(told, tight.model_copy(update={"lying": begun, "room_bytes": needed["memory"]}))
    assert f"{amount(needed['memory'] + 1e6)} more of disk are needed" in disk and "free where the run lies." in disk
