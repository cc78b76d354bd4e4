"""What the page, and the command line beside a running server, ask for. All of it needs the token or the key."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from rostok import __version__
from rostok.engines.protocol import Message, Sampling
from rostok.ensemble.history.answer import BASE, Answer
from rostok.ensemble.history.archive import check_message
from rostok.ensemble.history.threads import new_thread
from rostok.ensemble.routing.router import Route
from rostok.ensemble.serve.answering import Begun, Speaks
from rostok.ensemble.serve.desk import Desk
from rostok.ensemble.serve.markup import html
from rostok.ensemble.serve.page_request import (
    Ask,
    Comparing,
    Forgetting,
    Forking,
    Naming,
    Noting,
    Pinning,
    Recalling,
    Replying,
    Routing,
)
from rostok.ensemble.serve.refusal import Refusal, bad, refused
from rostok.ensemble.serve.sse import EventStream, unless_gone
from rostok.ensemble.serve.words import read

_THREAD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Talk = AsyncGenerator[Begun | str | Answer, None]


class Talks:
    """Conversations, questions and notes: the paths below /api that reach the ensemble."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.ensemble = desk, desk.ensemble

    def paths(self) -> list[Path]:
        """For Starlette."""
        one = "/api/conversations/{thread}"
        return [
            Path("/api/run", self.run), Path("/api/route", self.route, methods=["POST"]),
            Path("/api/compare", self.compare, methods=["POST"]), Path("/api/reply", self.reply, methods=["POST"]),
            Path("/api/recall", self.recall, methods=["POST"]), Path("/api/pin", self.pin, methods=["POST"]),
            Path("/api/conversations", self.list), Path("/api/conversations", self.begin, methods=["POST"]),
            Path(one, self.get), Path(one, self.delete, methods=["DELETE"]),
            Path(f"{one}/ask", self.ask, methods=["POST"]), Path(f"{one}/stop", self.stop, methods=["POST"]),
            Path(f"{one}/fork", self.fork, methods=["POST"]), Path(f"{one}/drop", self.drop, methods=["POST"]),
            Path(f"{one}/title", self.rename, methods=["POST"]),
            Path("/api/notes", self.notes), Path("/api/notes", self.remember, methods=["POST"]),
            Path("/api/found", self.found, methods=["POST"]), Path("/api/forget", self.forget, methods=["POST"]),
        ]

    async def run(self, request: Request) -> Response:
        """The run, the experts, and the map of the seeds."""
        desk = self.desk
        return JSONResponse({
            "name": self.ensemble.run.folder.resolve().name, "theme": self.ensemble.settings.theme, "version": __version__,
            "experts": [face.told() for face in desk.faces.serving],
            "seeds": [{**desk.faces.of(seed).told(), "place": desk.map.seeds.get(seed)} for seed in desk.seeds],
            "starters": {seed.id: seed.name(seed.walk()[0].source) for seed in desk.seeds.values()},
            "cards": {seed: expert.model_dump(mode="json") for seed, expert in self.ensemble.experts.items()},
            "pages": desk.map.pages, "skipped": list(self.ensemble.skipped), "mixing": self.ensemble.settings.ensemble.mixing,
            "language": self.ensemble.settings.ensemble.language,
            "titles": self.ensemble.titles, "threshold": self.ensemble.router.threshold})

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────────

    async def ask(self, request: Request) -> Response:
        """One answer in a conversation, as events: begun, text …, done; or error."""
        thread, asked = _thread(request), await read(request, Ask)
        if not asked.again:
            check_message(asked.question)
        self.ensemble.check_pin(asked.pin)

        def speak(on_text: Callable[[str], None], on_route: Callable[[Route], None], stop: threading.Event) -> Answer:
            return self.ensemble.ask(asked.question, thread, on_text, on_route, asked.pin, mixing=asked.mixing, stop=stop,
                                     again=asked.again, retrieval=asked.retrieval)

        told = self._told(self.desk.answering.stream(speak, thread), asked.question)
        return EventStream(await unless_gone(request, anext(told)), told)

    async def pin(self, request: Request) -> Response:
        """Whether somebody, and only one, is meant."""
        self.ensemble.check_pin((await read(request, Pinning)).pin)
        return JSONResponse({"known": True})

    async def reply(self, request: Request) -> Response:
        """One answer to a conversation that the caller keeps; the events of `ask`."""
        asked = await read(request, Replying)
        drawing = None if asked.sampling is None else asked.sampling.model_dump()
        sampling = None if drawing is None else Sampling(**{**drawing, "stop": tuple(drawing["stop"])})
        messages = [Message(one.role, one.content) for one in asked.messages]
        self.ensemble.check_pin(asked.pin)

        def speak(on_text: Callable[[str], None], on_route: Callable[[Route], None], stop: threading.Event) -> Answer:
            return self.ensemble.reply(messages, on_text, on_route, asked.pin, sampling=sampling, mixing=asked.mixing, stop=stop,
                                       seed=asked.seed, retrieval=asked.retrieval)

        told = self._told(self.desk.answering.stream(speak), messages[-1].content)
        return EventStream(await unless_gone(request, anext(told)), told)

    async def stop(self, request: Request) -> Response:
        """End the answer in a conversation; what was said is kept."""
        return JSONResponse({"stopped": self.desk.answering.stop(_thread(request))})

    async def compare(self, request: Request) -> Response:
        """The base and the nearest experts on one question, side by side: the events of `ask`, with `who` in each."""
        asked = await read(request, Comparing)
        route = await self.desk.answering.call(self.ensemble.route, asked.question)
        serving = [seed for seed in route.scores if seed in self.ensemble.experts][: asked.count]
        streams = [self._told(self.desk.answering.stream(self._alone(asked.question, pin)), asked.question, who)
                   for who, pin in enumerate([BASE, *serving])]
        told = _together(streams)
        return EventStream(await unless_gone(request, anext(told)), told)

    async def route(self, request: Request) -> Response:
        """Who would answer, why, and where the question lies."""
        asked = await read(request, Routing)
        route = await self.desk.answering.call(self.ensemble.route, asked.question)
        return JSONResponse(await self._begun(route, asked.question))

    def _alone(self, question: str, pin: str) -> Speaks:
        def speak(on_text: Callable[[str], None], on_route: Callable[[Route], None], stop: threading.Event) -> Answer:
            return self.ensemble.reply([Message("user", question)], on_text, on_route, pin, stop=stop, notes=False)

        return speak

    async def _told(self, stream: Talk, question: str, who: int | None = None) -> AsyncGenerator[str, None]:
        """A stream as events. What goes wrong before the first of them is raised: it gets a status of its own."""
        begun, more = False, {} if who is None else {"who": who}
        try:
            async with aclosing(stream):
                async for item in stream:
                    begun = True
                    if isinstance(item, Begun):
                        yield _event("begun", await self._begun(item.route, question) | more)
                    elif isinstance(item, str):
                        yield _event("text", {"text": item, **more})
                    else:
                        yield _event("done", {"answer": item.model_dump(mode="json"), "html": html(item.text), **more})
        except Exception as error:
            if not begun and who is None:
                raise
            yield _event("error", refused(error).body() | more)

    async def _begun(self, route: Route, question: str) -> dict[str, Any]:
        place = None
        if question.strip():
            place = self.desk.map.of(await self.desk.answering.call(self.ensemble.memory.vector, question.strip()))
        return {"route": route.model_dump(mode="json"), "speaker": self.desk.speaker_of(route), "place": place}

    # ── conversations ───────────────────────────────────────────────────────────────────────────────────────

    async def list(self, request: Request) -> Response:
        """All conversations, the last first; with `q`, the turns in which these words stand."""
        kept, words = self.ensemble.conversations, request.query_params.get("q", "")[:500]
        if words.strip():
            hits = await self.desk.answering.call(kept.search, words)
            return JSONResponse({"hits": [hit.model_dump(mode="json") for hit in hits]})
        found = await self.desk.answering.call(kept.list)
        return JSONResponse({"conversations": [one.model_dump(mode="json") for one in found]})

    async def begin(self, request: Request) -> Response:
        """The id of a new conversation. It is kept from its first answer on."""
        return JSONResponse({"thread": new_thread()}, 201)

    async def get(self, request: Request) -> Response:
        """A conversation with its turns. While a stopped answer is being kept, this waits for it."""
        thread = _thread(request)
        await self.desk.answering.settled(thread)
        turns = await self.desk.answering.call(self.ensemble.conversations.turns, thread)
        if not turns:
            raise Refusal(404, "there is no such conversation.", "not_found")
        one = await self.desk.answering.call(self.ensemble.conversations.get, thread)
        return JSONResponse({**one.model_dump(mode="json"), "said": [
            {**turn.model_dump(mode="json"), "html": html(turn.text)} for turn in turns]})

    async def delete(self, request: Request) -> Response:
        """Erase a conversation."""
        await self._idle(request)
        await self.desk.answering.call(self.ensemble.conversations.delete, _thread(request))
        return JSONResponse({"deleted": True})

    async def fork(self, request: Request) -> Response:
        """A new conversation that begins as this one."""
        asked = await read(request, Forking)
        new = await self.desk.answering.call(self.ensemble.conversations.fork, _thread(request), asked.upto)
        return JSONResponse({"thread": new}, 201)

    async def drop(self, request: Request) -> Response:
        """Erase the last turn."""
        await self._idle(request)
        await self.desk.answering.call(self.ensemble.conversations.drop_last, _thread(request))
        return JSONResponse({"dropped": True})

    async def rename(self, request: Request) -> Response:
        """Give it another title."""
        asked = await read(request, Naming)
        await self.desk.answering.call(self.ensemble.conversations.rename, _thread(request), asked.title)
        return JSONResponse({"renamed": True})

    async def _idle(self, request: Request) -> None:
        """What is taken away must not be answered at the same time."""
        thread = _thread(request)
        self.desk.answering.stop(thread)
        await self.desk.answering.settled(thread)

    # ── notes ───────────────────────────────────────────────────────────────────────────────────────────────

    async def notes(self, request: Request) -> Response:
        """What the user asked to be remembered."""
        notes = await self.desk.answering.call(self.ensemble.notes)
        return JSONResponse({"notes": [note.model_dump(mode="json") for note in notes]})

    async def remember(self, request: Request) -> Response:
        """Keep a note."""
        asked = await read(request, Noting)
        return JSONResponse({"id": await self.desk.answering.call(self.ensemble.remember, asked.text)}, 201)

    async def found(self, request: Request) -> Response:
        """What forgetting would erase."""
        asked = await read(request, Forgetting)
        found = await self.desk.answering.call(self.ensemble.found, asked.what)
        return JSONResponse(found.model_dump(mode="json"))

    async def recall(self, request: Request) -> Response:
        """Notes, words and pages that bear on a question."""
        asked = await read(request, Recalling)
        found = await self.desk.answering.call(self.ensemble.recall, asked.question, asked.count)
        return JSONResponse({"remembered": [one.model_dump(mode="json") for one in found]})

    async def forget(self, request: Request) -> Response:
        """Erase notes and turns."""
        asked = await read(request, Forgetting)
        return JSONResponse({"forgotten": await self.desk.answering.call(self.ensemble.forget, asked.what)})


def _thread(request: Request) -> str:
    thread = str(request.path_params["thread"])
    if not _THREAD.fullmatch(thread):
        raise bad("a conversation's id has up to 64 letters, digits, dots, dashes and underscores.", "thread")
    return thread


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"  # ASCII: readers take U+2028 and its like for the end of the line


async def _together(streams: list[AsyncGenerator[str, None]]) -> AsyncGenerator[str, None]:
    """Several streams as one, in whatever order their events come."""
    events: asyncio.Queue[str | None] = asyncio.Queue()

    async def carry(stream: AsyncGenerator[str, None]) -> None:
        try:
            async with aclosing(stream):
                async for event in stream:
                    events.put_nowait(event)
        finally:
            events.put_nowait(None)

    tasks = [asyncio.ensure_future(carry(stream)) for stream in streams]
    try:
        left = len(tasks)
        while left:
            event = await events.get()
            if event is None:
                left -= 1
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
