"""The terminal: what is shown, and that nothing a model or a page says can take it over."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from rich.console import Console

from rostok.config import Settings
from rostok.ensemble import chat as module
from rostok.ensemble.chat import chat
from rostok.ensemble.conversation import Ensemble
from rostok.runs import Run
from rostok.seeds.record import Seed


@pytest.fixture
def shared(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Ensemble:
    """The module's one ensemble under `chat`, so that each test need not load the base."""
    @contextmanager
    def opened(run: Run, settings: Settings) -> Iterator[Ensemble]:
        yield ensemble

    monkeypatch.setattr(module, "open_ensemble", opened)
    return ensemble


def _talk(ensemble: Ensemble, lines: Sequence[str | type[BaseException]], monkeypatch: pytest.MonkeyPatch) -> str:
    waiting = iter([*lines, EOFError])

    def typed(prompt: str = "") -> str:
        line = next(waiting)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", typed)
    out = io.StringIO()
    chat(ensemble.run, ensemble.settings, None, Console(file=out, width=200))
    return out.getvalue()


def test_one_question_from_a_pipe(shared: Ensemble, seeds: list[Seed]) -> None:
    """Colours and cursor movements in a file; the expert's name after its words."""
    out = io.StringIO()
    chat(shared.run, shared.settings, "What does the escapement do?", Console(file=out, width=60), thread="pipe")
    lines = out.getvalue().splitlines()
    assert "\x1b" not in out.getvalue()
    assert lines[0].startswith(f"[{seeds[1].title}  0.")
    assert lines[1] == shared.turns("pipe")[1]["content"].splitlines()[0]
    assert [line for line in lines if line.startswith("remembered 0.") and "page" in line]


def test_talk(shared: Ensemble, seeds: list[Seed], monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that are answered by the model; an empty line or Ctrl-C that ends the talk."""
    asked = "What does the queen bee do?"
    lines = ["/why", "", KeyboardInterrupt, "/nothing", "/experts", asked, "/why", "/help"]
    text = _talk(shared, lines, monkeypatch)
    for wanted in ("Nothing was asked yet", "Ask something", "/quit leaves", "no command /nothing",
                   "base  (answers", f"[{seeds[0].title}  0.", "of the votes", "end of file"):
        assert wanted in text
    assert all(f"  {seed.title}  (" in text for seed in seeds)
    assert "Ask something" in _talk(shared, ["  ", "/quit", "Why?"], monkeypatch)


def test_one_bad_question_does_not_end_the_talk(shared: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that is too long, and Ctrl-C in an answer, cost this answer only."""
    text = _talk(shared, ["word " * 700, "Why is the sky blue?"], monkeypatch)
    assert "do not fit the context" in text and "[base  0." in text

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shared, "ask", interrupted)
    assert "stopped; this turn is not remembered" in _talk(shared, ["Why?", "/help"], monkeypatch)


def test_empty_question_loads_nothing(ready: Run, settings: Settings) -> None:
    """An empty variable in a script: a friendly line, no traceback, no model loaded."""
    out = io.StringIO()
    chat(ready, settings, "  ", Console(file=out))
    assert "The question is empty" in out.getvalue()


def test_words_are_no_markup(shared: Ensemble) -> None:
    """`[bold]` or an escape sequence in a model's words."""
    out = io.StringIO()
    talk = module._Talk(shared, Console(file=out, force_terminal=True, width=20), "t")
    talk._on_text(" [red]x[/red] :smile: \x1b[2J" + "long " * 10)
    assert out.getvalue() == " [red]x[/red] :smile: [2J" + "long " * 10
