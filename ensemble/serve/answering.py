"""Between the event loop and the ensemble, whose calls block: each runs on a thread, and tells what it says as it says it.

Whoever leaves, or asks to stop, sets the answer's stop event; the engine's sequence and the place are free at the next token.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rostok.ensemble.history.answer import Answer
from rostok.ensemble.routing.router import Route
from rostok.ensemble.serve.limits import Places
from rostok.ensemble.serve.metrics import Metrics
from rostok.ensemble.serve.refusal import Refusal, refused

T = TypeVar("T")
log = logging.getLogger("rostok.serve")
_SPARE = 8  # threads for what is no answer: lists, searches, notes


class Speaks(Protocol):
    """One question to the ensemble, all but its listeners."""

    def __call__(self, on_text: Callable[[str], None], on_route: Callable[[Route], None], stop: threading.Event) -> Answer:
        """Blocks until the answer is whole."""
        ...


@dataclass(frozen=True)
class Begun:
    """Who answers, told before the first text."""

    route: Route


class Answering:
    """The answers in the making of one server. Its methods belong to the event loop's thread."""

    def __init__(self, places: int, metrics: Metrics) -> None:
        self.places, self.metrics = Places(places), metrics
        self._threads = ThreadPoolExecutor(places + _SPARE, thread_name_prefix="answer")
        self._stops: dict[str, threading.Event] = {}  # of the conversations that are being answered
        self._others: set[threading.Event] = set()
        self._settled, self._telling = asyncio.Condition(), set[asyncio.Future[None]]()
        self.closing = self._closed = False  # no answers are begun any more; nothing is

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """A blocking function's result. Raises `Refusal` 503 when the server has ended before."""
        if self._closed:
            raise _ending()
        working = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await working
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if self._closed and asking is not None and not asking.cancelling():  # the pool's own doing, and nobody's wish
                raise _ending() from None
            raise

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place among the answers, for what takes as long as one. Raises `Refusal` when none is free, or the server ends."""
        if self.closing:
            raise _ending()
        self.places.take()
        try:
            yield
        finally:
            self._give()

    async def stream(self, speak: Speaks, thread: str | None = None) -> AsyncGenerator[Begun | str | Answer]:
        """Who answers, the pieces, the answer. Leaving the iteration stops the answer.

        Args:
            thread: the conversation that is answered; one answer at a time.

        Raises:
            Refusal: no place is free, the conversation is being answered already, or the server ends.
            RostokError: as the ensemble's call.
        """
        if self.closing:
            raise _ending()
        if thread is not None and thread in self._stops:
            raise Refusal(409, "this conversation is being answered. Stop that answer first, or wait.", "busy")
        self.places.take()  # given back by the thread that speaks, not by whoever listens: a client may leave earlier
        taken = self._begin(speak, thread)
        try:
            while True:
                item = await taken.items.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if isinstance(item, Answer):
                    return
        finally:
            taken.stop.set()

    async def whole(self, speak: Speaks, thread: str | None = None) -> Answer:
        """The whole answer. Raises like `stream`; cancelling it stops the answer."""
        async with aclosing(self.stream(speak, thread)) as stream:
            async for item in stream:
                if isinstance(item, Answer):
                    return item
        raise AssertionError("a stream ends with its answer")

    def stop(self, thread: str) -> bool:
        """Stop the answer in this conversation; what was said is kept. False when there is none."""
        event = self._stops.get(thread)
        if event is not None:
            event.set()
        return event is not None

    async def settled(self, thread: str, seconds: float = 10.0) -> None:
        """Wait until nobody answers in this conversation any more: whoever reloads the page wants to see what was kept."""
        try:
            async with asyncio.timeout(seconds), self._settled:
                await self._settled.wait_for(lambda: thread not in self._stops or not self._stops[thread].is_set())
        except TimeoutError:
            return

    async def close(self, seconds: float = 5.0) -> None:
        """Stop all answers, and wait until what was said is kept."""
        self.closing = True
        for event in (*self._stops.values(), *self._others):
            event.set()
        try:
            async with asyncio.timeout(seconds), self._settled:
                await self._settled.wait_for(lambda: self.places.taken == 0)
        except TimeoutError:
            log.warning("%d answers have not ended within %g s", self.places.taken, seconds)
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ── one answer ──────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, speak: Speaks, thread: str | None) -> _Taken:
        loop, started = asyncio.get_running_loop(), time.monotonic()
        taken = _Taken(asyncio.Queue(), threading.Event())
        first = True

        def tell(item: Begun | str) -> None:
            loop.call_soon_threadsafe(taken.items.put_nowait, item)

        def said(piece: str) -> None:
            nonlocal first
            if first:
                first = False
                self.metrics.first.observe(time.monotonic() - started)
            tell(piece)

        def work() -> Answer | BaseException:
            try:
                answer = speak(said, lambda route: tell(Begun(route)), taken.stop)
                self._count(answer, time.monotonic() - started)
                return answer
            except BaseException as error:  # noqa: BLE001  # it belongs to whoever asked
                if refused(error).status >= 500:
                    # without the error's own words, which may be what somebody has asked
                    frames = "".join(traceback.format_tb(error.__traceback__))
                    log.error("an answer failed: %s\n%s", type(error).__name__, frames)
                return error

        if thread is None:
            self._others.add(taken.stop)
        else:
            self._stops[thread] = taken.stop
        self.metrics.active.inc()
        future = loop.run_in_executor(self._threads, work)
        future.add_done_callback(lambda done: self._done(taken, thread, done.result()))
        return taken

    def _done(self, taken: _Taken, thread: str | None, last: Answer | BaseException) -> None:
        """Free the place and the conversation, and only then say that it is over: whoever hears of it may ask at once."""
        self.metrics.active.dec()
        self._others.discard(taken.stop)
        if thread is not None:
            self._stops.pop(thread, None)
        self._give()
        taken.items.put_nowait(last)

    def _give(self) -> None:
        self.places.give()
        task = asyncio.ensure_future(self._tell_settled())
        self._telling.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._telling.discard)

    async def _tell_settled(self) -> None:
        async with self._settled:
            self._settled.notify_all()

    def _count(self, answer: Answer, seconds: float) -> None:
        self.metrics.answers.labels(answer.seed or "base", answer.finish).inc()
        self.metrics.tokens.labels("written").inc(answer.tokens)
        self.metrics.tokens.labels("read").inc(answer.prompt_tokens)
        self.metrics.seconds.observe(seconds)


def _ending() -> Refusal:
    return Refusal(503, "the server is shutting down.", "unavailable")


@dataclass(frozen=True)
class _Taken:
    items: asyncio.Queue[Begun | str | Answer | BaseException]
    stop: threading.Event
