"""`rostok route`: the table for people, the JSON for programs, and what it says when it must refuse."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from rostok.cli import run_command
from rostok.cli_route import _show
from rostok.config import Settings
from rostok.ensemble.recall.memory import Neighbour
from rostok.ensemble.routing.router import Route
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


def test_without_options_what_can_be_asked_is_asked(ready: Run, seeds: list[Seed], capsys: pytest.CaptureFixture[str]) -> None:
    """A command that dies since one of the strategies, Arrow, finds no adapters that it can read."""
    assert run_command(["route", str(ready.folder), "Where is the winding key?"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Note: arrow is not available: " in shown and f"→ {seeds[1].title}" in shown
    assert all(word in shown for word in ("evidence", "nearest", "classifier", "tfidf", "keyword", "random"))


def test_hostile_words_of_a_run_do_nothing_to_the_terminal(settings: Settings) -> None:
    """A title, a page or an error that moves the cursor, or turns the line around."""
    evil, shown = "a\x1b[2J\x9b1m\u202eb", io.StringIO()
    decided = Route(seed="s-1", score=0.9, threshold=0.4, scores={"s-1": 1.0}, strategy="evidence",
                    neighbours=(Neighbour(id="s-1:1", seed="s-1", kind="page", label=evil, similarity=0.9),))
    _show({"evidence": (decided, 1.0)}, {"s-1": evil}, [evil], settings, Console(file=shown, width=120))
    assert shown.getvalue().count("a[2J1mb") >= 4 and not set("\x1b\x9b\u202e") & set(shown.getvalue())


def test_what_it_refuses(ready: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback for an empty question, a misspelt strategy, or a run that somebody holds."""
    for arguments, said in ((["  "], "the question is empty"), (["a", "--strategy", "neerest"], "no strategy 'neerest'")):
        assert run_command(["route", str(ready.folder), *arguments]) == 2
        assert said in capsys.readouterr().err
