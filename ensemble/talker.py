"""Whoever can be talked to: the ensemble in this process, or a server that holds the run and is reached over its API.

A run belongs to one process. Where `rostok serve` has it, the commands of another shell speak to it through
`rostok.ensemble.remote`; else they hold the run themselves. Both sides of the choice satisfy the protocols here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from rostok.config import Mixing, Settings
from rostok.engines.protocol import Message, Sampling
from rostok.ensemble.history.answer import Answer, Conversation, Hit, Note, Transcript, Turn
from rostok.ensemble.history.archive import Forgettable
from rostok.ensemble.recall.memory import Remembered
from rostok.ensemble.routing.router import Route
from rostok.runs import Run
from rostok.swarm.records import Expert

OnText = Callable[[str], None]
OnRoute = Callable[[Route], None]


class Talks(Protocol):
    """The conversations of a run; see `rostok.ensemble.history.threads.Conversations`."""

    def list(self) -> Sequence[Conversation]: ...
    def get(self, thread: str) -> Conversation: ...
    def last(self) -> Conversation | None: ...
    def turns(self, thread: str) -> Sequence[Turn]: ...
    def search(self, text: str, count: int = 50) -> Sequence[Hit]: ...
    def export(self, threads: Sequence[str] | None = None) -> Iterable[Transcript]: ...
    def fork(self, thread: str, upto: int) -> str: ...
    def rename(self, thread: str, title: str) -> None: ...
    def drop_last(self, thread: str) -> None: ...
    def delete(self, thread: str) -> None: ...


class Keeper(Protocol):
    """What a run remembers of people; see `rostok.ensemble.history.archive.Archive`."""

    @property
    def conversations(self) -> Talks: ...
    def notes(self) -> Sequence[Note]: ...
    def remember(self, text: str) -> str: ...
    def found(self, what: str | Sequence[str]) -> Forgettable: ...
    def forget(self, what: str | Sequence[str]) -> int: ...
    def recall(self, question: str, count: int = 5) -> Sequence[Remembered]: ...


class Talker(Keeper, Protocol):
    """What a conversation needs of the ensemble; see `rostok.ensemble.conversation.Ensemble`."""

    @property
    def experts(self) -> Mapping[str, Expert]: ...
    @property
    def skipped(self) -> Sequence[str]: ...
    def title(self, seed: str | None) -> str: ...
    def check_pin(self, pin: str | None) -> None: ...
    def ask(self, question: str, thread: str, on_text: OnText | None = None, on_route: OnRoute | None = None,
            pin: str | None = None, *, mixing: Mixing | None = None, stop: threading.Event | None = None, again: bool = False,
            retrieval: bool | None = None) -> Answer: ...
    def reply(self, messages: Sequence[Message], on_text: OnText | None = None, on_route: OnRoute | None = None,
              pin: str | None = None, *, sampling: Sampling | None = None, mixing: Mixing | None = None,
              stop: threading.Event | None = None, seed: int | None = None, retrieval: bool | None = None) -> Answer: ...
    def route(self, question: str) -> Route: ...
    def compare(self, question: str, count: int = 2) -> Sequence[Answer]: ...


@contextmanager
def open_talker(run: Run, settings: Settings, command: str, *, sequences: int = 4) -> Iterator[Talker]:
    """The server that holds the run, or the ensemble, loaded here with the run held meanwhile.

    Args:
        command: what is told to others who want the run.
        sequences: answers that may be in the making at once, where it is loaded here.

    Raises:
        RunError: another process than a server holds the run.
        RostokError: as `open_ensemble`.
    """
    with server_of(run) as server:
        if server is not None:
            yield server
            return
    with run.held(command):
        from rostok.ensemble.conversation import open_ensemble

        with open_ensemble(run, settings, sequences=sequences) as ensemble:
            yield ensemble


@contextmanager
def open_keeper(run: Run, command: str, settings: Settings | None = None) -> Iterator[Keeper]:
    """What a run remembers, from the server that holds it, or read here without loading the base.

    Args:
        settings: given where something is to be recalled, which needs the embedder.

    Raises:
        RunError: another process than a server holds the run.
        DataError: the conversations or the memory are damaged.
    """
    with server_of(run) as server:
        if server is not None:
            yield server
            return
    with run.held(command), ExitStack() as stack:
        from rostok.ensemble.history.archive import open_archive

        if settings is None:
            yield stack.enter_context(open_archive(run))
            return
        from rostok.embedder import Embedder
        from rostok.ensemble.recall.memory import Memory
        from rostok.models import find_embedder
        from rostok.seeds.library import Library

        memory = stack.enter_context(Memory(run.memory, Embedder(find_embedder(settings.models.embedder))))
        titles = {seed.id: seed.title for seed in Library(run.seeds).seeds()}
        yield stack.enter_context(open_archive(run, memory, settings.ensemble, titles))


@contextmanager
def server_of(run: Run) -> Iterator[Talker | None]:
    """The server that holds the run, by its serve.json; None when there is none or it is gone."""
    if not (run.folder / "serve.json").is_file():
        yield None
        return
    from rostok.ensemble.remote import connect

    with connect(run) as server:
        yield server
