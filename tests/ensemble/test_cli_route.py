"""`rostok route`: the table for people, the JSON for programs, and what it says when it must refuse."""

from __future__ import annotations

import json

import pytest

from rostok.cli import run_command
from rostok.runs import Run
from rostok.seeds.record import Seed


def test_table_and_json_tell_every_strategy(ready: Run, seeds: list[Seed], capsys: pytest.CaptureFixture[str]) -> None:
    """A strategy that is missing, or a table that says otherwise than the chat would do."""
    command = ["route", str(ready.folder), "Where is the winding key?"]
    chosen = [item for name in ("evidence", "nearest", "keyword", "random") for item in ("--strategy", name)]
    assert run_command([*command, *chosen]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("evidence", "nearest", "keyword", "random", "must be", f"→ {seeds[1].title}"))
    assert run_command([*command, *chosen, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seed"] == seeds[1].id and found["title"] == seeds[1].title and found["strategy"] == "evidence"
    assert set(found["strategies"]) == {"evidence", "nearest", "keyword", "random"}
    nearest = found["strategies"]["nearest"]
    assert nearest["seed"] == seeds[1].id and sum(nearest["scores"].values()) == pytest.approx(1)
    assert nearest["score"] >= nearest["threshold"] and len(found["neighbours"]) == 8
    assert run_command(["route", str(ready.folder), "Why is the sky blue?", "--strategy", "evidence"]) == 0
    assert "→ base" in capsys.readouterr().out


def test_what_it_refuses(ready: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback for an empty question, a misspelt strategy, or a run that somebody holds."""
    for arguments, said in ((["  "], "the question is empty"), (["a", "--strategy", "neerest"], "no strategy 'neerest'")):
        assert run_command(["route", str(ready.folder), *arguments]) == 2
        assert said in capsys.readouterr().err
