"""Texts, colours, Markdown and typing: what a terminal shows and takes."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from rostok.ensemble.history.answer import hue
from rostok.ensemble.shell.screen import Answering, colour
from rostok.ensemble.shell.typing_in import Lines, completions
from rostok.ensemble.shell.wording import TEXTS, Wording


def test_languages_have_the_same_texts_and_blanks() -> None:
    """Prevents: a KeyError in one language."""
    english, russian = TEXTS["en"], TEXTS["ru"]
    assert english.keys() == russian.keys()
    for key, text in english.items():
        if isinstance(text, str):
            blanks = [sorted(re.findall(r"\{(\w+)", str(one))) for one in (text, russian[key])]
            assert blanks[0] == blanks[1], key
    assert [line.split()[0] for line in Wording("en").commands] == [line.split()[0] for line in Wording("ru").commands]


def test_words_are_no_markup() -> None:
    """Prevents: `[bold]` or an escape sequence in a model's words that reaches the terminal."""
    out = io.StringIO()
    answering = Answering(Console(file=out, width=20))
    answering.open()
    answering.piece("\n [red]x[/red] :smile: \x1b[2J" + "long " * 10)
    answering.close()
    assert out.getvalue() == "[red]x[/red] :smile: [2J" + "long " * 10 + "\n"


def test_markdown_is_drawn_when_the_answer_is_whole() -> None:
    """Prevents: asterisks on the screen; lines of a poem run together; a link that shows one address and opens another."""
    out = io.StringIO()
    answering = Answering(Console(file=out, force_terminal=True, width=40, height=10))
    answering.open()
    for piece in ("**Bees**\n", "make\nwax [here](http://evil.example)", "\x1b]8;;http://x\x07", "\n\n| a |\n|--|\n| 1 |"):
        answering.piece(piece)
    answering.close()
    last = out.getvalue().rpartition("\x1b[2K")[2]
    assert "**" not in last and "\x1b[1mBees" in last and "make" in last.splitlines()[1]
    assert "http://evil.example" in last and "\x1b]" not in out.getvalue()


def test_colours_are_stable() -> None:
    """Prevents: another colour at every start, since Python's own hash differs."""
    assert hue("s-d69b") == 80 and colour("s-d69b") == colour("s-d69b") != colour("s-71f0") and hue(None) is None


def test_completion_of_commands_and_names() -> None:
    """Prevents: a title with spaces that is completed from its last word."""
    names = {"/pin": lambda: ["The Hive That Kept Accounts", "The Clock", "base"]}
    assert completions("/e", ["/experts", "/pin"], names) == ["/experts"]
    assert completions("/pin the H", ["/pin"], names) == ["/pin The Hive That Kept Accounts"]
    assert completions("hello /e", ["/experts"], names) == completions("/why x", ["/why"], names) == []


def test_plain_lines_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a backslash at the end of a line that is sent to the model."""
    lines = iter(["one\\", "two\\", "three"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert Lines().read("> ") == "one\ntwo\nthree"
