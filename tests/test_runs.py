"""Run folders: one process at a time, one format, one model per role."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rostok.config import resolve
from rostok.errors import DataError, RunError, StorageError
from rostok.records import append_jsonl
from rostok.runs import Event, PeakMemory, Run, installed_versions

HOLD = """
import sys, time
from pathlib import Path
from rostok.runs import Run
with Run(Path(sys.argv[1])).held("rostok night somewhere"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A real process that holds the run until the block ends."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_told_who_holds_the_run(tmp_path: Path) -> None:
    """Prevents: two nights that write into the same folder."""
    with another_process(tmp_path / "run") as process:
        with pytest.raises(RunError) as caught, Run(tmp_path / "run").held("rostok chat"):
            pass
        assert f"'rostok night somewhere' (process {process.pid} on " in str(caught.value)


def test_a_refused_process_does_not_wipe_the_holder(tmp_path: Path) -> None:
    """Prevents: a second attempt that empties the lock file, so that a third one cannot say who holds the run."""
    with another_process(tmp_path) as process:
        for _ in range(2):
            with pytest.raises(RunError, match=f"process {process.pid} "), Run(tmp_path).held("rostok chat"):
                pass


def test_kill_9_releases_the_run(tmp_path: Path) -> None:
    """Prevents: a lock that outlives its process and has to be deleted by hand."""
    with another_process(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
        with Run(tmp_path).held("rostok chat"):
            pass


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    """Prevents: a failed stage that keeps the run held for the rest of the process."""
    run = Run(tmp_path)
    with pytest.raises(KeyError), run.held("one"):
        raise KeyError("x")
    with run.held("two"):
        pass


def test_a_run_of_another_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Prevents: a newer run that is read with an older meaning, or overwritten."""
    text = '{"format": 99, "rostok": "7.0.0"}'
    (tmp_path / "run.json").write_text(text)
    run = Run(tmp_path)
    for attempt in (run.read, lambda: run.start(resolve())):
        with pytest.raises(RunError, match=r"run format 99.*7\.0\.0"):
            attempt()
    assert run.file.read_text() == text


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}'])
def test_a_damaged_run_file_is_told(tmp_path: Path, text: str) -> None:
    """Prevents: a traceback from the JSON parser for a run.json that was cut."""
    (tmp_path / "run.json").write_text(text)
    with pytest.raises((DataError, RunError), match=r"run"):
        Run(tmp_path).read()


def test_a_folder_without_a_run_says_how_to_start_one(tmp_path: Path) -> None:
    """Prevents: a report of an empty folder."""
    with pytest.raises(RunError, match=r"holds no run\. Start one with: rostok night"):
        Run(tmp_path).read()


def test_another_model_in_the_same_role_is_refused(tmp_path: Path) -> None:
    """Prevents: experts of two bases in one run, whose figures are compared as if they were of one."""
    run = Run(tmp_path)
    run.start(resolve())
    run.note_model("base", "SmolLM2", "a" * 64)
    run.note_model("base", "renamed", "a" * 64)
    run.note_model("embedder", "MiniLM", "b" * 64)
    with pytest.raises(
        RunError, match=r"was made with the base SmolLM2 \(sha256 aaaaaaaaaaaa\), now it would be Other"
    ):
        run.note_model("base", "Other", "c" * 64)
    assert {role: model.sha256[0] for role, model in run.read().models.items()} == {"base": "a", "embedder": "b"}


def test_starting_again_keeps_models_and_date(tmp_path: Path) -> None:
    """Prevents: a resumed run that forgets which models it was made with."""
    run = Run(tmp_path)
    run.start(resolve())
    run.note_model("base", "SmolLM2", "a" * 64)
    first = run.read()
    run.start(resolve(options={"author": {"count": 9}}))
    second = run.read()
    assert (second.created, second.models) == (first.created, first.models)
    assert second.settings.author.count == 9
    assert second.versions["torch"] == installed_versions()["torch"] != "not installed"


def test_the_journal_tells_the_cost_of_a_stage(tmp_path: Path) -> None:
    """Prevents: a stage that was finished before and is journalled as if it had cost nothing again."""
    run = Run(tmp_path)
    with run.stage("corpora") as cost:
        cost.add(tokens=120)
        cost.add(tokens=3)
    with run.stage("corpora"):
        pass
    ends = [event for event in run.events() if event.kind == "end"]
    assert [(event.stage, event.tokens) for event in ends] == [("corpora", 123)]
    assert ends[0].peak_mib > 10


def test_a_half_written_journal_line_is_dropped_when_the_run_is_held(tmp_path: Path) -> None:
    """Prevents: a kill while the journal was written that stops every later command."""
    run = Run(tmp_path)
    append_jsonl(run.journal_path, [Event(time="now", kind="start", stage="seeds")])
    with run.journal_path.open("a") as file:
        file.write('{"time":"no')
    with run.held("rostok night"):
        run.journal(Event(time="later", kind="start", stage="corpora"))
    assert [event.stage for event in run.events()] == ["seeds", "corpora"]


def test_a_file_in_the_run_s_place_is_told(tmp_path: Path) -> None:
    """Prevents: a traceback when the run's name belongs to a file."""
    (tmp_path / "run").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*run"), Run(tmp_path / "run").held("rostok night"):
        pass


def test_peak_memory_sees_what_was_freed_again() -> None:
    """Prevents: figures that miss memory which a stage took only for a while."""
    import time

    with PeakMemory() as before:
        pass
    with PeakMemory() as peak:
        block = bytearray(200 << 20)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(0.6)
        del block
    assert peak.mib > before.mib + 150


def test_a_run_from_before_there_was_a_school_has_none(tmp_path: Path) -> None:
    """Prevents: finished experts that are refused, since a setting that they were grown without has a default now."""
    run = Run(tmp_path)
    run.start(resolve())
    assert run.read().settings.school.drills > 0
    raw = json.loads(run.file.read_text())
    del raw["settings"]["school"]
    run.file.write_text(json.dumps(raw))
    assert run.read().settings.school.drills == 0
