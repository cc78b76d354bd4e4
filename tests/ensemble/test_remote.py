"""The ensemble of another process, against the one of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from rostok.engines.protocol import Message, Sampling
from rostok.ensemble.conversation import Ensemble
from rostok.ensemble.remote import RemoteEnsemble, Wire
from rostok.ensemble.routing.router import Route
from rostok.ensemble.serving import Serving
from rostok.ensemble.talker import Talker
from rostok.errors import PromptTooLong, QuestionError, RostokError, RunError, ServerError
from rostok.seeds.record import Seed
from tests.ensemble.serve.at_work import TOKEN, Served, serving

CLOCK = "What does the escapement do?"


@pytest.fixture(scope="module")
def served(ensemble: Ensemble) -> Iterator[Served]:
    with serving(ensemble) as served:
        yield served


@pytest.fixture
def remote(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteEnsemble]:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody's; the machine's own server is not asked through it
    wire = Wire(Serving(address=served.address, token=TOKEN, pid=0))
    yield RemoteEnsemble(wire)
    wire.close()


def test_it_is_a_talker(remote: RemoteEnsemble, ensemble: Ensemble) -> None:
    """Prevents: a command that works alone and breaks beside a server; mypy checks the signatures here."""
    talkers: list[Talker] = [remote, ensemble]
    assert talkers[0].experts == talkers[1].experts and list(talkers[0].skipped) == list(talkers[1].skipped)
    for seed in (None, *ensemble.experts, "s-unknown"):
        assert remote.title(seed) == ensemble.title(seed)


def test_the_same_answers(remote: RemoteEnsemble, ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: an answer that loses its route, its memories or its cost on the way."""
    pieces: list[str] = []
    routes: list[Route] = []
    far = remote.ask(CLOCK, "far", pieces.append, routes.append)
    near = ensemble.ask(CLOCK, "near")
    leave = {"id", "seconds"}
    assert far.model_dump(exclude=leave) == near.model_dump(exclude=leave)
    assert "".join(pieces).strip() == far.text and routes == [far.route]
    assert remote.route(CLOCK) == ensemble.route(CLOCK)
    assert remote.ask("", "far", again=True).id == far.id
    drawn = Sampling(max_tokens=3, temperature=0.0)
    said = [Message("user", CLOCK)]
    assert remote.reply(said, sampling=drawn, pin="base").text == ensemble.reply(said, sampling=drawn, pin="base").text


def test_the_same_comparison(remote: RemoteEnsemble, ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: a comparison that reads the user's notes beside a server, and gives other answers than without one."""
    note = ensemble.remember("The escapement of my clock is broken.")
    try:
        question = "What is wrong with the escapement of my clock?"
        assert note in [one.id for one in ensemble.reply([Message("user", question)]).memories]
        far, near = remote.compare(question, 1), ensemble.compare(question, 1)
        assert [one.seed for one in far] == [None, seeds[1].id]
        assert [(one.text, one.memories) for one in far] == [(one.text, one.memories) for one in near]
    finally:
        ensemble.forget([note])


def test_a_stop_from_another_thread(remote: RemoteEnsemble, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: Ctrl-C in a shell that waits for the whole answer of the server."""
    stop = threading.Event()

    def endless(*_: object, on_text: Callable[[str], None], stop: threading.Event, **__: object) -> Any:
        from rostok.ensemble.speak import Spoken

        while not stop.wait(0.01):
            on_text("word ")
        return Spoken("word", (), "stopped", 1, 1, 0.1, ())

    monkeypatch.setattr(ensemble.speaker, "speak", endless)
    for ask in (lambda: remote.ask(CLOCK, "cut", lambda _: stop.set(), stop=stop),
                lambda: remote.reply([Message("user", CLOCK)], lambda _: stop.set(), stop=stop)):
        stop.clear()
        assert ask().finish == "stopped"
    assert remote.conversations.turns("cut")[-1].text == "word"


@pytest.mark.parametrize(("ask", "error"), [
    (lambda one: one.ask("  ", "x"), QuestionError), (lambda one: one.ask(CLOCK, "x", pin="nobody"), RunError),
    (lambda one: one.ask("long " * 3000, "x"), PromptTooLong), (lambda one: one.ask("y" * 90_000, "x"), QuestionError),
    (lambda one: one.check_pin("nobody"), RunError), (lambda one: one.ask("", "no-thread", again=True), RunError),
    (lambda one: one.conversations.get("no-thread"), RunError), (lambda one: one.conversations.fork("no-thread", 1), RunError),
    (lambda one: one.remember("  "), QuestionError), (lambda one: list(one.conversations.export(["no-thread"])), RunError)])
def test_errors_are_what_they_were(remote: RemoteEnsemble, ensemble: Ensemble, ask: Callable[[Any], object],
                                   error: type[RostokError]) -> None:
    """Prevents: a mistake of the user's that looks like a broken server, or a bug, once a server holds the run."""
    for one in (ensemble, remote):
        with pytest.raises(error):
            ask(one)


def test_conversations_and_notes(remote: RemoteEnsemble, ensemble: Ensemble) -> None:
    """Prevents: a shelf that shows less than there is, or changes another conversation."""
    remote.ask("Tell me of the mainspring.", "shelf")
    remote.ask("And of the loupe?", "shelf")
    shelf, own = remote.conversations, ensemble.conversations
    assert shelf.list() == own.list() and shelf.get("shelf") == own.get("shelf") and shelf.last() == own.last()
    assert list(shelf.turns("shelf")) == own.turns("shelf") and list(shelf.turns("nobody")) == []
    assert list(shelf.search("mainspring")) == own.search("mainspring") and list(shelf.search(" ")) == []
    assert list(shelf.export(["shelf"])) == list(own.export(["shelf"]))
    branch = shelf.fork("shelf", 1)
    shelf.rename(branch, "A branch")
    assert own.get(branch).title == "A branch" and len(own.turns(branch)) == 1
    shelf.drop_last("shelf")
    assert len(own.turns("shelf")) == 1
    shelf.delete(branch)
    assert branch not in [one.id for one in own.list()]
    note = remote.remember("My loupe is scratched.")
    assert remote.notes() == ensemble.notes()
    assert [one.id for one in remote.found("scratched").notes] == [note]
    assert [one.id for one in remote.recall("What is wrong with my loupe?")] == [
        one.id for one in ensemble.recall("What is wrong with my loupe?")]
    assert remote.forget([note]) == 1 and remote.notes() == []


def test_letters_that_end_a_line_for_some(remote: RemoteEnsemble, ensemble: Ensemble) -> None:
    """Prevents: a note or a question with U+2028, U+2029 or U+0085 that breaks every stream and export it stands in."""
    odd = "The escapement\u2028of my clock\u2029was stolen\u0085in Vienna."
    note = remote.remember(odd)
    try:
        pieces: list[str] = []
        answer = remote.ask(odd, "odd", pieces.append)
        assert odd in [one.text for one in answer.memories] and "".join(pieces).strip() == answer.text
        assert list(remote.conversations.export(["odd"])) == list(ensemble.conversations.export(["odd"]))
        assert next(iter(remote.conversations.export(["odd"]))).said[0].question == odd
    finally:
        remote.forget([note])


def test_a_server_that_has_gone(tmp_path: Path, ensemble: Ensemble) -> None:
    """Prevents: a traceback of the HTTP client where a sentence is due."""
    with serving(ensemble) as served:
        remote = RemoteEnsemble(Wire(Serving(address=served.address, token=TOKEN, pid=0)))
    with pytest.raises(ServerError, match="rostok serve"):
        remote.route(CLOCK)
    with pytest.raises(ServerError, match="rostok serve"):
        remote.ask(CLOCK, "x")
    with pytest.raises(RunError, match="token"), serving(ensemble) as served:
        cast(Talker, RemoteEnsemble(Wire(Serving(address=served.address, token="old", pid=0))))
