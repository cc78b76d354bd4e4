"""The terminal: what is shown, what is asked for, and that nothing a model or a page says can take it over."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from rostok.config import Settings
from rostok.engines.protocol import Message
from rostok.ensemble.conversation import Ensemble
from rostok.ensemble.history.answer import Answer, Transcript
from rostok.ensemble.shell import chat as module
from rostok.ensemble.shell.chat import Conversation, Wish, chat
from rostok.ensemble.shell.wording import Wording
from rostok.ensemble.talk import Fleeting, Kept, Manner, Talk
from rostok.errors import ConfigError, QuestionError
from rostok.runs import Run
from rostok.seeds.record import Seed


@pytest.fixture
def shared(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Ensemble:
    """The module's one ensemble under `chat`, so that each test need not load the base."""
    @contextmanager
    def opened(run: Run, settings: Settings, command: str) -> Iterator[Ensemble]:
        yield ensemble

    monkeypatch.setattr(module, "open_talker", opened)
    return ensemble


class _Typed:
    """Somebody who types these lines; an exception is raised in their place."""

    def __init__(self, lines: Sequence[str | type[BaseException]], yes: str = "y") -> None:
        self.lines, self.yes, self.prompts = iter([*lines, EOFError]), yes, list[str]()

    def read(self, prompt: str) -> str:
        self.prompts.append(prompt)
        line = next(self.lines)
        if isinstance(line, str):
            return line
        raise line

    def confirm(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self.yes


def _talk(ensemble: Ensemble, lines: Sequence[str | type[BaseException]], talk: Talk | None = None, language: str = "en",
          yes: str = "y") -> tuple[str, _Typed]:
    from rostok.ensemble.shell.screen import Screen

    out, typed = io.StringIO(), _Typed(lines, yes)
    console = Console(file=out, width=200)
    Conversation(ensemble, Screen(console, console, Wording(language)), talk or Kept(ensemble), Manner(), typed).loop()
    return out.getvalue(), typed


# ── one question ────────────────────────────────────────────────────────────────────────────────────────────


def test_answer_alone_goes_to_the_output(shared: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: `rostok chat RUN "…" > answer.txt` with names, colours and sources in the file."""
    out, side = io.StringIO(), io.StringIO()
    wish = Wish(question="What does the escapement do?")
    chat(shared.run, shared.settings, wish, Console(file=out, width=60), Console(file=side, width=60))
    last = shared.conversations.last()
    assert last is not None
    assert out.getvalue() == shared.conversations.turns(last.id)[0].text + "\n"
    assert side.getvalue().startswith(f"[{seeds[1].title}  0.") and "read 0." in side.getvalue()
    assert "\x1b" not in out.getvalue() + side.getvalue()


def test_last_conversation_goes_on_and_none_is_kept_with_n(shared: Ensemble) -> None:
    """Prevents: `-c` that begins anew, and `-n` that leaves a trace."""
    def ask(wish: Wish) -> None:
        chat(shared.run, shared.settings, wish, Console(file=io.StringIO()), Console(file=io.StringIO()))

    ask(Wish(question="Why is the sky blue?"))
    first = shared.conversations.last()
    assert first is not None
    ask(Wish(question="And the sea?", thread=""))
    assert [turn.question for turn in shared.conversations.turns(first.id)] == ["Why is the sky blue?", "And the sea?"]
    before = len(shared.conversations.list())
    ask(Wish(question="A secret?", kept=False))
    assert len(shared.conversations.list()) == before and shared.conversations.search("secret") == []


@pytest.mark.parametrize(("question", "reason"), [("  \n", "is empty"), ("word " * 200_000, "999,999 characters; 32,000")])
def test_question_that_cannot_be_asked_loads_nothing(ready: Run, settings: Settings, question: str, reason: str) -> None:
    """Prevents: an empty variable in a script, or a file of a megabyte, that loads the base only to fail."""
    (ready.folder / "experts.jsonl").unlink()
    with pytest.raises(QuestionError, match=reason):
        chat(ready, settings, Wish(question=question), Console(file=io.StringIO()), Console(file=io.StringIO()))


# ── a conversation ──────────────────────────────────────────────────────────────────────────────────────────


def test_talk(shared: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: commands that are answered by the model; an empty line or Ctrl-C that ends the talk."""
    asked = "What does the queen bee do?"
    lines = ["/why", "/again", "/compare", "/save x", "", KeyboardInterrupt, "/nothing", "/expert", "/experts", asked, "/why",
             "/HELP"]
    text, _ = _talk(shared, lines)
    assert text.count("Nothing was asked yet") == 4
    for wanted in ("Ask something", "/quit leaves", "no command /nothing", "did you mean /experts?", "base  (answers",
                   f"[{seeds[0].title}  0.", "of the votes", "Ctrl-D", "tokens read, "):
        assert wanted in text
    assert all(f"  {seed.title}  (" in text for seed in seeds)
    assert "Ask something" in _talk(shared, ["  ", "/quit", "Why?"])[0]


def test_pin_compare_and_another_answer(shared: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: a pin that does not last, a comparison that is kept, a second answer beside the first."""
    talk = Kept(shared)
    lines = ["/pin", "/pin nobody", f"/pin {seeds[2].title.upper()}", "Why is the sky blue?", "/why", "/unpin",
             "Why is the sky blue?", "/again", "/compare", "/compare What does the drone do?"]
    text, typed = _talk(shared, lines, talk)
    assert "/pin NAME" in text and "no expert 'nobody'" in text and "was pinned" in text
    assert typed.prompts.count(f"[{seeds[2].title}] > ") == 3
    turns = talk.turns()
    assert [turn.speaker for turn in turns] == [seeds[2].title, "base"] and len(turns) == 2
    assert text.count("[base  0.") == 2  # asked, and asked again
    compared = text[text.index("│") - 400 :]
    assert compared.count("base") >= 2 and compared.count(seeds[0].title) >= 1


def test_notes_and_forgetting(shared: Ensemble) -> None:
    """Prevents: something erased that nobody said yes to; \"nothing of that is kept\" while a title holds it."""
    talk = Kept(shared)
    text, _ = _talk(shared, ["/notes", "/remember", "/remember My boat is the Kittiwake.", "What is my boat?", "/notes",
                             "/forget", "/forget never said", "/forget kittiwake"], talk, yes="n")
    assert "There are no notes" in text and "For example" in text and "Kept as n-" in text and "Nothing of that is kept" in text
    assert "Nothing was erased." in text and len(shared.notes()) == 1
    text, typed = _talk(shared, ["/forget kittiwake"], talk)
    assert "Erased for good" in text and "Erase this for good? [y/N] " in typed.prompts
    assert shared.notes() == [] and shared.found("kittiwake").ids == []
    named = Kept(shared)
    _talk(shared, ["Why is the sky blue?"], named)
    shared.conversations.rename(named.thread, "Of the Kittiwake")
    assert "Nothing of that is kept" in _talk(shared, ["/forget kittiwake"], named)[0]
    assert shared.conversations.get(named.thread).title == "Why is the sky blue?"


def test_save_undo_and_new(shared: Ensemble, tmp_path: Path) -> None:
    """Prevents: a saved talk that cannot be read, or overwrites another file."""
    talk = Kept(shared)
    lines = ["Why is the sky blue?", "And the sea?", f"/save {tmp_path}/talk.md", f"/save {tmp_path}/talk.jsonl",
             f"/save {tmp_path}/talk.md", "/save", "/undo", "/new", "/undo"]
    text, _ = _talk(shared, lines, talk)
    assert "is there already" in text and "Where to?" in text and "The last turn is gone." in text
    assert "A new conversation." in text and "nothing was said" in text
    assert [turn.question for turn in talk.turns()] == ["Why is the sky blue?"]
    saved = (tmp_path / "talk.md").read_text()
    assert saved.startswith("# Why is the sky blue?\n") and saved.count("**You**") == 2 and saved.count("**base**") == 2
    assert Transcript.model_validate_json((tmp_path / "talk.jsonl").read_text()).turns == 2


def test_conversation_that_is_not_kept(shared: Ensemble, tmp_path: Path) -> None:
    """Prevents: `-n` that forgets the turn before, and so cannot be talked with."""
    before, heard = len(shared.conversations.list()), list[list[Message]]()
    reply = shared.reply

    def listening(messages: Sequence[Message], *values: object, **named: object) -> Answer:
        heard.append(list(messages))
        return reply(messages, *values, **named)  # type: ignore[arg-type]

    shared.reply = listening  # type: ignore[method-assign]
    try:
        talk = Fleeting(shared)
        text, _ = _talk(shared, ["Why is the sky blue?", "And the sea?", "/again", f"/save {tmp_path}/x.md", "/undo"], talk)
    finally:
        del shared.reply
    assert "Nothing of this conversation is kept." in text and len(shared.conversations.list()) == before
    assert [len(messages) for messages in heard] == [1, 3, 3] and len(talk.turns()) == 1
    assert (tmp_path / "x.md").read_text().count("**You**") == 2


def test_one_bad_question_does_not_end_the_talk(shared: Ensemble) -> None:
    """Prevents: a question that is too long, or two Ctrl-C in an answer, that cost the whole talk."""
    text, _ = _talk(shared, ["word " * 700, "word " * 200_000, "Why is the sky blue?"])
    assert "do not fit the context" in text and "999,999 characters" in text and "[base  0." in text

    class Interrupted(Kept):
        def ask(self, *_: object, **__: object) -> Answer:
            raise KeyboardInterrupt

    text, _ = _talk(shared, ["Why?", "/help"], Interrupted(shared))
    assert "(stopped)" in text and "Ctrl-D" in text


def test_greeting_of_a_conversation_that_goes_on(shared: Ensemble) -> None:
    """Prevents: `-c` into a conversation that nobody can recall."""
    talk = Kept(shared)
    _talk(shared, ["Why is the sky blue?"], talk)
    text, _ = _talk(shared, [], Kept(shared, talk.thread))
    assert "“Why is the sky blue?” goes on after 1 turns." in text and "> Why is the sky blue?" in text


def test_the_interface_speaks_russian(shared: Ensemble) -> None:
    """Prevents: a text that one language lacks, or blanks that are not filled in."""
    text, typed = _talk(shared, ["/help", "/forget x" * 9, "/why", "/remember Лодка зовётся Кайра."], language="ru")
    assert "Слушают эксперты (3)" in text and "этот текст" in text and "Ещё ничего не спрошено." in text
    assert typed.prompts[0] == "> "
    assert "Стёрто навсегда: 1." in _talk(shared, ["/forget кайра"], language="ru", yes="Да")[0]
    with pytest.raises(ConfigError, match="en, ru"):
        Wording("de")
