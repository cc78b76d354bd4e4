"""The job table: transitions that happen once, whoever else is there, and what it makes of deaths."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rostok.errors import DataError
from rostok.swarm.jobs import QUARANTINE_AFTER, JobTable, Order


def order(name: str, made_from: str = "x") -> Order:
    return Order(name=name, title=f"The tale of {name}", made_from=made_from, steps=10, total=1000)


@pytest.fixture
def table(tmp_path: Path) -> JobTable:
    opened = JobTable(tmp_path / "jobs.sqlite")
    opened.enter([order("a"), order("b"), order("c")])
    return opened


def states(table: JobTable) -> dict[str, str]:
    return {row.name: row.state for row in table.rows()}


def _claim(path: Path, worker: str) -> bool:
    try:
        with JobTable(path) as table:
            table.claim("a", worker)
    except DataError:
        return False
    return True


def test_of_many_processes_one_gets_the_job(table: JobTable) -> None:
    """Prevents: two workers that train the same expert, and a database that is locked for a moment taken for a refusal."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        got = pool.starmap(_claim, [(table.path, f"cpu {number}") for number in range(12)])
    assert sum(got) == 1
    assert table.row("a").attempts == 1


def test_only_the_holder_ends_a_job_and_only_once(table: JobTable) -> None:
    """Prevents: a worker that was thought dead and ends, after its successor, what is not its own any more."""
    table.claim("a", "cpu 1")
    table.blame("a", "cpu 1", "it died")
    table.claim("a", "cpu 2")
    with pytest.raises(DataError, match="a cannot go from running to done for cpu 1"):
        table.finish("a", "cpu 1", "done", "late")
    table.progress("a", "cpu 1", 9, 900, 1.0)
    assert table.row("a").step == 0
    table.finish("a", "cpu 2", "done", "all steps")
    with pytest.raises(DataError, match="cannot go from running to done"):
        table.finish("a", "cpu 2", "done", "again")
    assert [move.after for move in table.transitions() if move.name == "a"] == ["queued", "running", "queued", "running", "done"]


def test_two_deaths_make_it_run_alone_and_three_take_it_out(table: JobTable) -> None:
    """Prevents: a night that ends with the first job that kills its worker; and one that never gives such a job up."""
    for death in (1, 2, 3):
        table.claim("a", "cpu 1")
        table.taken("a", "cpu 1", 0, 10, 1000)
        if death < 3:
            table.claim("b", "cpu 1")
            assert table.blame("b", "cpu 1", "it died") == "queued"
        assert table.blame("a", "cpu 1", "it died") == ("queued" if death < QUARANTINE_AFTER else "quarantined")
        assert table.row("a").alone == (death >= 2)
        assert table.row("b").alone == (death == 2)  # with the culprit found, its company is acquitted
    assert states(table) == {"a": "quarantined", "b": "queued", "c": "queued"}
    table.enter([order("a"), order("b"), order("c")])
    assert states(table)["a"] == "quarantined"
    assert table.release() == ["a"]
    assert (table.row("a").state, table.row("a").failures) == ("queued", 0)


def test_a_job_that_gets_further_every_time_is_not_to_blame(table: JobTable) -> None:
    """Prevents: quarantine for a long job on a machine that is switched off every hour."""
    for kept in range(1, 9):
        table.claim("a", "cpu 1")
        table.keep("a", "cpu 1", kept)
        assert table.blame("a", "cpu 1", "switched off") == "queued"
        assert table.row("a").failures == 1
    assert table.row("a").step == 8


def test_what_is_asked_for_anew_is_queued_anew(table: JobTable) -> None:
    """Prevents: an expert of an older corpus that counts as done; a failed job that nobody can try again."""
    for name, state in (("a", "done"), ("b", "failed")):
        table.claim(name, "cpu 1")
        table.finish(name, "cpu 1", state, "why")  # type: ignore[arg-type]
    table.enter([order("d"), order("a", "y"), order("b")])
    assert [(row.name, row.state) for row in table.rows()] == [("d", "queued"), ("a", "queued"), ("b", "queued")]


def test_a_damaged_table_and_one_of_another_format_are_named(tmp_path: Path) -> None:
    """Prevents: a traceback of SQLite in the middle of the night."""
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 10)
    with pytest.raises(DataError, match=r"jobs.sqlite is damaged .* Delete it; it is made again"):
        JobTable(path)
    path.unlink()
    table = JobTable(path)
    table._db.execute("PRAGMA user_version=7")
    with pytest.raises(DataError, match="has format 7, this Rostok reads 1"):
        JobTable(path)


def test_a_wish_counts_only_for_those_who_were_there(table: JobTable) -> None:
    """Prevents: a stop that nobody heard and that ends the next night at its start."""
    assert not table.stop_wanted(0.0)
    table.ask_to_stop()
    assert table.stop_wanted(0.0)
    assert not table.stop_wanted(4e9)
    table.forget_wishes()
    assert not table.stop_wanted(0.0)


def happen(table: JobTable, name: str, what: str, step: int) -> None:
    match what:
        case "claim":
            table.claim(name, "w")
        case "keep":
            table.keep(name, "w", step)
        case "blame":
            table.blame(name, "w", "died")
        case "give":
            table.give_back(name, "w", "stopped")
        case "done":
            table.finish(name, "w", "done", "whole")
        case "found" if table.row(name).state == "done":
            table.found(name, False, "its files are gone")


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["claim", "keep", "blame", "give", "done", "found"])),
                max_size=40))
def test_whatever_happens_a_job_is_in_one_state_and_its_history_leads_there(tmp_path_factory: pytest.TempPathFactory,
                                                                         events: list[tuple[str, str]]) -> None:
    """Prevents: transitions that are not written down, a worker left at an idle job, or a job done twice."""
    with JobTable(tmp_path_factory.mktemp("jobs") / "jobs.sqlite") as table:
        table._db.execute("PRAGMA synchronous=OFF")
        table.enter([order("a"), order("b"), order("c")])
        for step, (name, what) in enumerate(events):
            with suppress(DataError):
                happen(table, name, what, step)
        for row in table.rows():
            moves = [move for move in table.transitions() if move.name == row.name]
            assert moves[-1].after == row.state
            assert all(a.after == b.before for a, b in pairwise(moves))
            assert bool(row.worker) == (row.state == "running")
            assert sum(move.after == "running" for move in moves) == row.attempts
            assert row.failures <= QUARANTINE_AFTER
