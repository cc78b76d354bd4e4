"""Until when, and what fits."""

from __future__ import annotations

import datetime
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.errors import ConfigError
from rostok.swarm.deadline import TimeIsUp, alarm, fitting, parse_until
from rostok.swarm.jobs import JobRow

NOW = datetime.datetime(2026, 11, 22, 23, 30)


@pytest.mark.parametrize(("text", "moment"), [
    ("07:00", datetime.datetime(2026, 11, 23, 7, 0)), ("7:05", datetime.datetime(2026, 11, 23, 7, 5)),
    ("23:31", datetime.datetime(2026, 11, 22, 23, 31)), ("23:30", datetime.datetime(2026, 11, 23, 23, 30)),
    (" 0:00 ", datetime.datetime(2026, 11, 23, 0, 0)), ("2026-11-25T07:00", datetime.datetime(2026, 11, 25, 7, 0)),
    ("2026-11-25 07:00", datetime.datetime(2026, 11, 25, 7, 0))])
def test_a_clock_means_the_next_time_it_shows_that(text: str, moment: datetime.datetime) -> None:
    """Prevents: a night until seven that is over at once because it is past seven in the evening."""
    assert parse_until(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "7", "25:00", "07:60", "seven", "07:00:00 tomorrow", "2026-11-25", "2026-13-01T07:00",
                                  "7.30", "-1:00", "٠٧:٠٠x"])
def test_other_formats_are_refused_with_an_example(text: str) -> None:
    """Prevents: a typing error that lets a machine train through the day."""
    with pytest.raises(ConfigError, match="--until takes a time such as 07:00"):
        parse_until(text, NOW)


def test_a_day_that_has_passed_is_refused() -> None:
    """Prevents: a night without time that trains nothing and says nothing."""
    with pytest.raises(ConfigError, match="has passed: it is 2026-11-22 23:30 now"):
        parse_until("2026-11-22T23:29", NOW)


@given(st.text(max_size=12))
def test_any_text_is_a_moment_ahead_or_refused(text: str) -> None:
    """Prevents: tracebacks for what people type."""
    with suppress(ConfigError):
        assert parse_until(text, NOW) > NOW


def row(name: str, total: int, tokens: int = 0) -> JobRow:
    return JobRow(name=name, title=name, made_from="x", place=0, state="queued", reason="", worker="", attempts=0,
                  failures=0, failed_at=-1, step=0, steps=10, kept=0, tokens=tokens, total=total, seconds=0.0, queued="",
                  started="", ended="")


@given(st.lists(st.integers(1, 10_000), max_size=12), st.lists(st.floats(10, 1000), min_size=1, max_size=3), st.floats(0, 100))
def test_what_fits_is_a_beginning_of_the_queue_that_is_done_in_time(totals: list[int], rates: list[float],
                                                                   seconds: float) -> None:
    """Prevents: a plan that promises more than there is time for, or leaves out what came first."""
    rows = [row(str(place), total) for place, total in enumerate(totals)]
    fit = fitting(rows, rates, seconds)
    assert fit.names == tuple(one.name for one in rows[: len(fit.names)])
    assert fit.seconds <= seconds + 1e-9
    assert sum(totals[: len(fit.names)]) <= sum(rates) * seconds + 1e-6
    if len(fit.names) < len(rows):  # the next would be late wherever it went first
        assert fit.seconds + totals[len(fit.names)] / min(rates) > seconds - 1e-9


def test_what_is_half_trained_counts_half() -> None:
    """Prevents: a resumed night that plans as if nothing had been done."""
    assert fitting([row("a", 1000, tokens=900)], [10.0], 11.0).names == ("a",)
    assert fitting([row("a", 1000)], [10.0], 99.0).names == ()


def test_the_alarm_breaks_off_what_waits_and_rings_no_more_afterwards() -> None:
    """Prevents: a stage that works on past the hour, or a report that is broken off by an alarm of before."""
    with pytest.raises(TimeIsUp), alarm(0.05):
        time.sleep(30)
    with alarm(0.05):
        pass
    time.sleep(0.08)
