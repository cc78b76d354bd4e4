"""The ensemble of another process: what `rostok serve` offers, for the commands of the same user's other shells.

A run belongs to one process. The server writes where it is and with which token into serve.json, which its owner alone can
read; `connect` finds it there. Errors come back as what they were raised as.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import httpx2

from rostok import errors
from rostok.config import Mixing
from rostok.engines.protocol import Message, Sampling
from rostok.ensemble.history.answer import BASE, Answer, Conversation, Hit, Note, Transcript, Turn
from rostok.ensemble.history.archive import Forgettable
from rostok.ensemble.recall.memory import Remembered
from rostok.ensemble.routing.router import Route
from rostok.ensemble.serving import Serving, serving_file
from rostok.errors import DataError, RostokError, RunError, ServerError
from rostok.records import read_record
from rostok.runs import Run
from rostok.swarm.records import Expert

_SILENCE = 60.0  # seconds; a server at work says at least every ten that it is still there

OnText = Callable[[str], None]
OnRoute = Callable[[Route], None]


@contextmanager
def connect(run: Run) -> Iterator[RemoteEnsemble | None]:
    """The server that holds the run; None where there is none, or where it is gone and left its file.

    Nobody is asked but the process that holds the run: at a port that a killed server has left, anybody may listen.
    """
    try:
        serving = read_record(serving_file(run), Serving)
    except (DataError, OSError):
        yield None
        return
    if run.holder_pid() != serving.pid:
        yield None
        return
    wire = Wire(serving)
    try:
        if wire.answers():
            yield RemoteEnsemble(wire)
        else:
            yield None
    finally:
        wire.close()


class Wire:
    """HTTP to the server. It is on this machine, so no proxy of the environment is asked."""

    def __init__(self, serving: Serving) -> None:
        self.address = serving.address
        self._http = httpx2.Client(
            base_url=serving.address, trust_env=False, follow_redirects=False, timeout=httpx2.Timeout(_SILENCE, connect=2.0),
            headers={"authorization": f"Bearer {serving.token}", "user-agent": "rostok"})

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def answers(self) -> bool:
        """Whether somebody is there who takes the token."""
        try:
            return self._http.get("/api/notes").status_code == 200
        except httpx2.HTTPError:
            return False

    def get(self, path: str, **query: object) -> Any:
        """The JSON at a path."""
        return self._told(lambda: self._http.get(path, params={key: str(value) for key, value in query.items()}))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that is answered."""
        return self._told(lambda: self._http.post(path, json=dict(body)))

    def delete(self, path: str) -> None:
        """Have something deleted."""
        self._told(lambda: self._http.delete(path))

    def text(self, path: str, **query: object) -> str:
        """The text at a path."""
        return self._answer(lambda: self._http.get(path, params={key: str(value) for key, value in query.items()})).text

    @contextmanager
    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[Iterator[tuple[str, Any]]]:
        """Events of a stream. Leaving the block closes the connection, by which the server stops answering."""
        try:
            with self._http.stream("POST", path, json=dict(body)) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise _error(answer)
                yield _events(answer)
        except httpx2.HTTPError as error:
            raise self._broken(error) from None

    def _told(self, ask: Callable[[], httpx2.Response]) -> Any:
        return self._answer(ask).json()

    def _answer(self, ask: Callable[[], httpx2.Response]) -> httpx2.Response:
        try:
            answer = ask()
        except httpx2.HTTPError as error:
            raise self._broken(error) from None
        if answer.status_code >= 400:
            raise _error(answer)
        return answer

    def _broken(self, error: Exception) -> ServerError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return ServerError(f"the server at {self.address} does not answer ({reason}). If rostok serve has ended, run the same "
                           "command again.")


class RemoteEnsemble:
    """`rostok.ensemble.talker.Talker` over the wire.

    Attributes:
        conversations: see `Talks`.
        experts, skipped: as of when the connection was made.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        told = wire.get("/api/run")
        self.experts = {seed: Expert.model_validate(card) for seed, card in told["cards"].items()}
        self.skipped: list[str] = told["skipped"]
        self._titles: dict[str, str] = told["titles"]
        self.conversations = RemoteTalks(wire)

    def title(self, seed: str | None) -> str:
        """What people call who answers."""
        return BASE if seed is None else self._titles.get(seed, seed)

    def check_pin(self, pin: str | None) -> None:
        """Raises `RunError` when nobody is meant by `pin`, or more than one."""
        self._wire.post("/api/pin", {"pin": pin})

    # ── talking ─────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, question: str, thread: str, on_text: OnText | None = None, on_route: OnRoute | None = None,
            pin: str | None = None, *, mixing: Mixing | None = None, stop: threading.Event | None = None, again: bool = False,
            retrieval: bool | None = None) -> Answer:
        """See `Ensemble.ask`. Ctrl-C closes the connection; the server keeps what was said, as after a stop."""
        path = f"/api/conversations/{quote(thread, safe='')}"
        body = {"question": question, "pin": pin, "mixing": mixing, "again": again, "retrieval": retrieval}
        with _watching(stop, lambda: bool(self._wire.post(f"{path}/stop", {})["stopped"])):
            return self._one(f"{path}/ask", body, on_text, on_route)

    def reply(self, messages: Sequence[Message], on_text: OnText | None = None, on_route: OnRoute | None = None,
              pin: str | None = None, *, sampling: Sampling | None = None, mixing: Mixing | None = None,
              stop: threading.Event | None = None, seed: int | None = None, retrieval: bool | None = None) -> Answer:
        """See `Ensemble.reply`. A stop ends it with what was said; what it cost is then not known."""
        body = {"messages": [asdict(one) for one in messages], "pin": pin, "mixing": mixing, "retrieval": retrieval, "seed": seed,
                "sampling": None if sampling is None else asdict(sampling)}
        return self._one("/api/reply", body, on_text, on_route, stop)

    def route(self, question: str) -> Route:
        """See `Ensemble.route`."""
        return Route.model_validate(self._wire.post("/api/route", {"question": question})["route"])

    def compare(self, question: str, count: int = 2) -> list[Answer]:
        """See `Ensemble.compare`."""
        answers: dict[int, Answer] = {}
        with self._wire.events("/api/compare", {"question": question, "count": count}) as events:
            for name, data in events:
                if name == "error":
                    raise _raised(data["error"])
                if name == "done":
                    answers[data["who"]] = Answer.model_validate(data["answer"])
        return [answer for _, answer in sorted(answers.items())]

    def _one(self, path: str, body: Mapping[str, Any], on_text: OnText | None, on_route: OnRoute | None,
             stop: threading.Event | None = None) -> Answer:
        route: Route | None = None
        said: list[str] = []
        with self._wire.events(path, body) as events:
            for name, data in events:
                if name == "begun":
                    route = Route.model_validate(data["route"])
                    if on_route is not None:
                        on_route(route)
                elif name == "text":
                    said.append(data["text"])
                    if on_text is not None:
                        on_text(data["text"])
                elif name == "done":
                    return Answer.model_validate(data["answer"])
                elif name == "error":
                    raise _raised(data["error"])
                if stop is not None and stop.is_set() and route is not None:
                    seed = route.seed if route.seed in self.experts else None
                    return Answer(text="".join(said).strip(), seed=seed, experts=() if seed is None else (seed,),
                                  title=self.title(seed), route=route, memories=(), prompt_tokens=0, tokens=0, seconds=0.0,
                                  finish="stopped")
        raise ServerError("the server has ended in the middle of the answer. What was said until then is kept in the run.")

    # ── what is remembered ──────────────────────────────────────────────────────────────────────────────────

    def notes(self) -> list[Note]:
        """See `Archive.notes`."""
        return [Note.model_validate(one) for one in self._wire.get("/api/notes")["notes"]]

    def remember(self, text: str) -> str:
        """See `Archive.remember`."""
        return str(self._wire.post("/api/notes", {"text": text})["id"])

    def found(self, what: str | Sequence[str]) -> Forgettable:
        """See `Archive.found`."""
        return Forgettable.model_validate(self._wire.post("/api/found", {"what": _plain(what)}))

    def forget(self, what: str | Sequence[str]) -> int:
        """See `Archive.forget`."""
        return int(self._wire.post("/api/forget", {"what": _plain(what)})["forgotten"])

    def recall(self, question: str, count: int = 5) -> list[Remembered]:
        """See `Ensemble.recall`."""
        told = self._wire.post("/api/recall", {"question": question, "count": count})
        return [Remembered.model_validate(one) for one in told["remembered"]]


class RemoteTalks:
    """`rostok.ensemble.talker.Talks` over the wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def list(self) -> list[Conversation]:
        """All conversations, the one spoken in last first."""
        return [Conversation.model_validate(one) for one in self._wire.get("/api/conversations")["conversations"]]

    def get(self, thread: str) -> Conversation:
        """One conversation. Raises `RunError` when there is none of that id."""
        told = self._wire.get(self._path(thread))
        return Conversation.model_validate({name: told[name] for name in Conversation.model_fields})

    def last(self) -> Conversation | None:
        """The conversation spoken in last."""
        return next(iter(self.list()), None)

    def turns(self, thread: str) -> Sequence[Turn]:
        """The turns of a conversation; none where there is no such conversation."""
        try:
            told = self._wire.get(self._path(thread))
        except RunError:
            return []
        return [Turn.model_validate({name: one[name] for name in Turn.model_fields}) for one in told["said"]]

    def search(self, text: str, count: int = 50) -> Sequence[Hit]:
        """Turns in which the words occur."""
        if not text.strip():
            return []
        return [Hit.model_validate(one) for one in self._wire.get("/api/conversations", q=text)["hits"][:count]]

    def export(self, threads: Sequence[str] | None = None) -> Iterator[Transcript]:
        """The conversations with all that was said in them."""
        texts = ([self._wire.text("/api/export", format="jsonl")] if threads is None else
                 [self._wire.text("/api/export", format="jsonl", thread=thread) for thread in threads])
        for line in "".join(texts).split("\n"):  # and no splitlines(), which ends lines at U+2028 and its like too
            if line:
                yield Transcript.model_validate_json(line)

    def fork(self, thread: str, upto: int) -> str:
        """A new conversation with the first `upto` turns of this one."""
        return str(self._wire.post(f"{self._path(thread)}/fork", {"upto": upto})["thread"])

    def rename(self, thread: str, title: str) -> None:
        """Give a conversation another title."""
        self._wire.post(f"{self._path(thread)}/title", {"title": title})

    def drop_last(self, thread: str) -> None:
        """Take the last turn away."""
        self._wire.post(f"{self._path(thread)}/drop", {})

    def delete(self, thread: str) -> None:
        """Take a whole conversation away."""
        self._wire.delete(self._path(thread))

    @staticmethod
    def _path(thread: str) -> str:
        return f"/api/conversations/{quote(thread, safe='')}"


@contextmanager
def _watching(stop: threading.Event | None, does: Callable[[], bool]) -> Iterator[None]:
    """While inside: when `stop` is set, from any thread, do it until it says that there was something to be stopped."""
    if stop is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        with suppress(RostokError):  # whoever waits for the answer hears what is wrong with the server
            while not over.wait(0.02) and not (stop.wait(0.05) and does()):
                pass

    watcher = threading.Thread(target=watch, name="stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _events(answer: httpx2.Response) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def _error(answer: httpx2.Response) -> RostokError:
    try:
        told = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        told = {"message": f"the server answered {answer.status_code}."}
    return _raised(told)


def _raised(told: Mapping[str, Any]) -> RostokError:
    """The error as it was raised over there; of what only a server says, a `RunError`."""
    kind = getattr(errors, str(told.get("error")), RunError)
    known = isinstance(kind, type) and issubclass(kind, RostokError)
    return (kind if known else RunError)(str(told.get("message")))


def _plain(what: str | Sequence[str]) -> str | list[str]:
    return what if isinstance(what, str) else list(what)
