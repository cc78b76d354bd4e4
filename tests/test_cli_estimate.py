"""`rostok estimate` from the command line: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rostok.cli import run_command
from rostok.config import resolve
from rostok.runs import Run

CARD = ["estimate", "--machine", "RTX 4090, 24 GB", "--parameters", "1.3e9"]


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    assert run_command([*argv, "--json"]) == 0
    loaded: dict[str, object] = json.loads(capsys.readouterr().out)
    return loaded


def test_a_reckoned_estimate_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a figure from a table that reads like one from this machine."""
    told = printed(capsys, *CARD, "--count", "3", "--pages", "120")
    assert told["how"] == "reckoned"
    assert told["seeds"] == 3
    assert told["pages"] == 120
    assert [stage["name"] for stage in told["stages"]] == ["author", "corpus", "swarm", "memory", "report"]  # type: ignore[attr-defined]
    assert [row["books"] for row in told["books"]] == [1, 10, 100, 1000]  # type: ignore[attr-defined]
    assert run_command(CARD) == 0
    shown = capsys.readouterr().out
    assert "Reckoned, not measured" in shown
    assert "books of 500 pages" in shown


def test_a_run_brings_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: an estimate of the demo for somebody who asked about a run of their own; or a run changed by looking at it."""
    run = Run(tmp_path / "run")
    with run.held("test"):
        run.start(resolve(options={"author": {"count": 7}, "corpus": {"pages": 333}}))
    before = sorted(path.name for path in run.folder.iterdir())
    told = printed(capsys, *CARD, str(run.folder))
    assert (told["seeds"], told["pages"]) == (7, 333)
    assert sorted(path.name for path in run.folder.iterdir()) == before


@pytest.mark.parametrize(("argv", "reason"), [
    (["--machine", "abacus"], "no figures of 'abacus'"),
    (["--machine", "RTX 4091"], "did you mean 'RTX 4090'"),
    (["--flops", "165e12"], "--flops needs --memory"),
    (["--flops", "0", "--memory", "24"], "--flops must be above 0"),
    (["--memory", "24"], "--memory is about a machine that is not at hand"),
    (["--machine", "A100", "--parameters", "-5"], "--parameters must lie between"),
    (["--machine", "A100", "--set", "models.base=absent.gguf"], "no file or folder 'absent.gguf'"),
    (["--pages", "0"], "corpus.pages"),
    (["--count", "0"], "author.count"),
    (["--set", "corpus.page=3"], "did you mean 'pages'"),
    (["--profile", "demi"], "did you mean 'demo'"),
    (["absent-run"], "holds no run")])
def test_a_mistake_is_told_in_one_sentence(argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a minute of measuring before a typo is told, or a traceback for it."""
    assert run_command(["estimate", *argv]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("rostok: ")
    assert told.err.count("\n") == 1
    assert reason in told.err
    assert told.out == ""
