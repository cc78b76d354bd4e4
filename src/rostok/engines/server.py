"""A model on a server: llama-server, vLLM, Ollama, LM Studio, or whatever else speaks OpenAI's protocol.

    with ServerEngine("http://127.0.0.1:8080") as engine:
        completion = engine.submit(request).result()

One thread with an event loop of its own sends everything. A request that is cancelled, or whose deadline passes, closes its
connection, by which the server knows that nobody waits any more. What each kind of server can do: `rostok.engines.dialects`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from rostok.engines.dialects import ChatServer
from rostok.engines.llama_server import LlamaServer
from rostok.engines.protocol import QUEUE, Completion, Engine, OnText, Request, Score
from rostok.engines.templates import TEMPLATES, template_for
from rostok.engines.vllm_server import VllmServer
from rostok.engines.wire import Refusal, Wire
from rostok.errors import DeadlinePassed, ModelError, ServerError

_RETRIES = 5    # after 0.5, 1, 2, 4 and 8 s: a server that is started again is back by then
_LOADING = 120  # seconds to wait for a server that says it is loading its model
_SPARE = 2      # connections besides those of completions; older llama-servers have four threads more than slots

T = TypeVar("T")


class ServerEngine(Engine):
    """A model on a server. See `rostok.engines.protocol.Engine`.

    Attributes:
        kind: what the server was recognised as.
        leaves_out: fields of `Sampling` that this kind of server cannot keep.

    Args:
        url: of the server, with or without `/v1`.
        model: as the server calls it; None takes the first it has.
        context: tokens of one request, prompt and completion together; None takes what the server tells (4096 where it
            does not tell). More than the server's is not possible.
        parallel: requests sent at once; None takes as many as the server answers at once (64 for vLLM, 4 where it does
            not tell). More than llama-server has slots is not possible.
        key: None takes ROSTOK_API_KEY.
        queue: requests that may wait or run at once; who submits more waits.
        retries: tries after the first, when there is no connection, or the server says 429 or 5xx.

    Raises:
        ServerError: nobody answers at the address, it is no model server, or it wants another key.
        ModelError: it has no such model.
    """

    def __init__(self, url: str, *, model: str | None = None, context: int | None = None, parallel: int | None = None,
                 key: str | None = None, queue: int = QUEUE, retries: int = _RETRIES) -> None:
        super().__init__(queue)
        key = key if key is not None else os.environ.get("ROSTOK_API_KEY")
        self._wire = Wire(url, key or None, retries=retries, connections=(parallel or 64) + _SPARE)
        self.name = self._wire.url
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="model server", daemon=True)
        self._thread.start()
        try:
            self._server = self._do(recognise(self._wire, model))
        except BaseException:
            self.close()
            raise
        if context is not None:
            self._server.context = min(context, self._server.context) if self._server.tells_context else context
        if parallel is not None:  # what waits here costs the server nothing, and leaves at once when it is cancelled
            self._server.parallel = min(parallel, self._server.parallel) if self._server.tells_parallel else parallel
        self.name, self.kind, self.context = self._server.name, self._server.kind, self._server.context
        self.template, self.adds_bos, self.leaves_out = self._server.template, self._server.adds_bos, self._server.leaves_out
        self._places = asyncio.Semaphore(self._server.parallel)

    # ── what callers reach ──────────────────────────────────────────────────────────────────────────────────

    def _start_all(self, requests: Sequence[tuple[Request, OnText | None]]) -> list[Future[Completion]]:
        return [self._begin(self._complete(request, on_text, monotonic())) for request, on_text in requests]

    def submit_scores(self, prompt: str, continuations: Sequence[str], *, adapter: str | None = None,
                      scale: float = 1.0) -> list[Future[Score]]:
        """Queue the scoring of each continuation after the raw prompt; see `Engine.score`."""
        return [self._begin(self._placed(self._server.score(prompt, text, adapter, scale))) for text in continuations]

    def add_adapter(self, name: str, path: Path) -> None:
        """Register a LoRA adapter with the server; see `Engine.add_adapter`. To llama-server it must be known already."""
        self._do(self._server.add_adapter(name, path))

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; see `Engine.remove_adapter`."""
        self._do(self._server.remove_adapter(name))

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the text, with the beginning-of-sequence token where the model wants one.

        Raises `ModelError` when this kind of server does not tell.
        """
        return self._do(self._server.tokenize(text))

    def close(self) -> None:
        """Close all connections; requests in flight raise `ModelError`. The server goes on."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ── in the loop's thread ────────────────────────────────────────────────────────────────────────────────

    async def _complete(self, request: Request, on_text: OnText | None, since: float) -> Completion:
        left = None if request.deadline is None else request.deadline - (monotonic() - since)
        choked: list[Exception] = []

        def tell(text: str) -> None:
            try:
                if on_text is not None:
                    on_text(text)
            except Exception as error:
                choked.append(error)
                raise

        try:
            async with asyncio.timeout(left):
                return await self._placed(self._server.complete(request, tell if on_text is not None else None))
        except ServerError:
            if choked:  # the caller's own error, and no fault of the server
                raise choked[0] from None
            raise
        except TimeoutError:
            raise DeadlinePassed(f"{self.name} had no answer within the {request.deadline:g} s that it was given. "
                                 "Allow more time, or ask for fewer tokens.") from None

    async def _placed(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work when the server has a place for it."""
        try:
            async with self._places:
                return await _answered(work)
        finally:
            work.close()  # if it never began

    async def _hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._wire.close()

    # ── between threads ─────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Have the loop do the work; cancelling the future cancels it."""
        future: Future[T] = Future()
        started: list[asyncio.Task[T]] = []

        def start() -> None:
            if future.cancelled():
                work.close()
                return
            task = self._loop.create_task(work)
            started.append(task)
            self._tasks.add(task)
            task.add_done_callback(finish)

        def finish(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            with suppress(InvalidStateError):  # cancelled: nobody waits for it
                if task.cancelled():
                    future.set_exception(ModelError(f"the engine of {self.name} was closed before the answer was done."))
                elif (error := task.exception()) is not None:
                    future.set_exception(error)
                else:
                    future.set_result(task.result())

        def stop() -> None:
            for task in started:
                task.cancel()

        def gone(done: Future[T]) -> None:
            if done.cancelled():
                with suppress(RuntimeError):  # the loop is closed, and with it all that ran
                    self._loop.call_soon_threadsafe(stop)

        with self._lock:
            if self._closing:
                work.close()
                raise ModelError(f"the engine of {self.name} is closed.")
            self._loop.call_soon_threadsafe(start)
        future.add_done_callback(gone)
        return future

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the loop do the work, and wait for it."""
        return self._begin(_answered(work)).result()


async def _answered(work: Coroutine[Any, Any, T]) -> T:
    """The result of the work; an answer that lacks what the protocol promises is the server's error, not ours."""
    try:
        return await work
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ServerError(f"the model server answered without what its protocol promises ({type(error).__name__}: {error}). "
                          "Is it of a supported kind and version?") from error


async def recognise(wire: Wire, model: str | None) -> ChatServer:
    """What listens at the other end.

    Raises:
        ServerError: nobody, or no model server.
        ModelError: it has no such model.
    """
    cards = (await _awake(wire) or {}).get("data")
    if not isinstance(cards, list):
        raise ServerError(f"{wire.url} has no /v1/models, so it is no model server. Check the address.")
    served = {str(card["id"]): card for card in cards}
    if not served or (model is not None and model not in served):
        raise ModelError(f"the model server at {wire.url} has {'no model' if model is None else f'no model {model!r}'}. "
                         f"It has: {', '.join(served) or 'none; load one there'}.")
    name = model or next(iter(served))
    server: ChatServer | None = None
    props = await wire.get("/props")
    if isinstance(props, dict) and "default_generation_settings" in props:
        server = LlamaServer(wire, name, props, await wire.get("/lora-adapters") or [])
    elif served[name].get("owned_by") == "vllm" and await wire.get("/version"):
        server = VllmServer(wire, name, served[name])
    if server is not None and await _has_template(server):
        return server
    server = ChatServer(wire, name)
    if await wire.get("/api/version"):
        server.kind = "Ollama server"
    return server


async def _awake(wire: Wire) -> Any:
    """The list of models; waits while the server is loading one."""
    until = monotonic() + _LOADING
    while True:
        try:
            return await wire.get("/v1/models")
        except Refusal as refusal:
            if refusal.status != 503 or monotonic() > until:
                raise
        await asyncio.sleep(0.5)


async def _has_template(server: ChatServer) -> bool:
    """Find the template of ours for the server's model."""
    bare = len(await server.tokenize(""))
    server.adds_bos = bare > 0
    whole = {marker: len(await server.tokenize(marker)) - bare == 1 for marker in (template.marker for template in TEMPLATES)}
    try:
        server.template = template_for(whole.__getitem__, server.name)
    except ModelError:
        return False
    return True
