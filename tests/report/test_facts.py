"""The object that `rostok report RUN --json` prints."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rostok.errors import DataError, RunError
from rostok.report.facts import facts
from rostok.runs import Event, Run

KEYS = [
    "seeds",
    "pages",
    "stages",
    "matrix",
    "probes",
    "structure_probes",
    "chat_probes",
    "chance",
    "general",
    "router",
    "retrieval",
    "versions",
    "models",
]


def test_the_keys_are_those_that_the_design_names(finished) -> None:
    """Prevents: a script that reads the JSON breaks because a key was renamed, added or left out."""
    assert list(facts(finished())) == KEYS


def test_a_run_that_has_just_begun_has_nulls_not_zeros(started: Run) -> None:
    """Prevents: `0 pages` or `accuracy 0` reported for stages that never ran."""
    found = facts(started)
    assert list(found) == KEYS
    assert {key for key, value in found.items() if value is not None} == {"versions"}


def test_pages_are_summed_over_finished_corpora_only(finished) -> None:
    """Prevents: a half-written corpus counted as accepted pages."""
    run = finished()
    next(iter(sorted(run.corpora.glob("*/manifest.json")))).unlink()
    assert facts(run)["pages"] == {
        "accepted": 600,
        "rejected": {"near_duplicate": 63, "loops": 27, "too_short": 12},
    }


def test_stages_add_up_over_sessions(finished) -> None:
    """Prevents: a night that was resumed reports the last session's cost alone, or the sum of memory peaks."""
    run = finished()
    run.journal(
        Event(time="2026-11-22T01:00:00", kind="end", stage="seeds", seconds=9.6, peak_mib=5000, tokens=800)
    )
    stages = facts(run)["stages"]
    assert [stage["name"] for stage in stages] == ["seeds", "corpora", "swarm", "measure", "memory"]
    assert stages[0] == {"name": "seeds", "seconds": 200.0, "peak_mib": 5000, "tokens": 42_000}


def test_a_stage_that_only_started_costs_nothing_yet(finished) -> None:
    """Prevents: a running stage shown with zero seconds."""
    run = finished()
    run.journal(Event(time="2026-11-22T01:00:00", kind="start", stage="encore"))
    assert "encore" not in [stage["name"] for stage in facts(run)["stages"]]


def test_measurements_are_passed_on_unchanged(finished) -> None:
    """Prevents: rounded or renamed figures, so that report and matrix.json contradict each other."""
    run = finished()
    found, written = facts(run), json.loads(run.measurements.read_text())
    for key in ("matrix", "probes", "structure_probes", "chat_probes", "chance", "general", "router", "retrieval"):
        assert found[key] == written[key]
    assert found["seeds"][0] == {
        "id": next(iter(found["matrix"])),
        "title": "The Lamp That Fears the Dawn",
        "theme": "a harbour town and the sea that feeds it",
    }
    assert found["models"]["base"] == {"name": "SmolLM2-135M-Instruct.Q4_1.gguf", "sha256": "a" * 64}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_line_that_is_being_written_does_not_stop_the_report(finished) -> None:
    """Prevents: looking at a running night, or at one that was killed, fails on the last half line of a file."""
    run = finished()
    before = facts(run)
    for path in (run.journal_path, run.seeds / "library.jsonl"):
        with path.open("a", encoding="utf-8") as file:
            file.write('{"time":"2026-11-22T0')
    assert facts(run) == before


def test_a_damaged_line_is_named(finished) -> None:
    """Prevents: a line damaged in the middle of a file silently left out of the figures."""
    run = finished()
    path = run.journal_path
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(DataError, match=r"journal\.jsonl, line 1"):
        facts(run)


def test_reading_changes_nothing_and_takes_no_lock(finished) -> None:
    """Prevents: a look at a running night refused because the night holds the lock, or writing into its folder."""
    run = finished()
    with run.held("night"):
        before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
        facts(run)
        assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_a_folder_without_a_run_is_refused(tmp_path) -> None:
    """Prevents: an empty report for a mistyped path."""
    with pytest.raises(RunError, match="holds no run"):
        facts(Run(tmp_path / "nowhere"))


def test_no_heavy_library_is_imported() -> None:
    """Prevents: `rostok report` taking ten seconds because some import pulls in torch."""
    code = (
        "import sys, rostok.report.page; "
        "print([name for name in ('torch', 'chromadb', 'llama_cpp', 'transformers') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )
