"""What a stage may ask of a local model, whatever runs it.

A stage only says what it wants and gathers the answers; how many run side by side is the engine's affair:

    completions = await asyncio.gather(*(engine.complete(request) for request in requests))

Threads ask with `submit`, which gives a future at once. Cancelling the task or the future frees the request's place.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rostok.engines.room import Room
from rostok.errors import ModelError

if TYPE_CHECKING:
    from rostok.engines.templates import Template  # which needs Message from here

QUEUE = 4096  # requests that wait or run at once; who comes later waits, so that 100,000 pages need no 100,000 samplers


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. `temperature=0` is greedy.

    `dry` is the multiplier of the DRY sampler, which keeps a small model from looping; 0 switches it off.
    """

    max_tokens: int = 160
    temperature: float = 0.8
    min_p: float = 0.05
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    dry: float = 0.8
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Request:
    """One completion to make.

    Attributes:
        messages: the conversation, rendered with the project's own template for the model's family.
        prefill: text the answer begins with; it is part of the prompt, and not of the completion's text.
            Without messages it is the whole prompt, raw.
        seed: of this request's own random generator.
        grammar: GBNF that the completion must follow, or None.
        schema: JSON schema that the completion must follow, or None; not together with `grammar`.
        adapter: id of an adapter registered with `add_adapter`, or None for the base.
        scale: how strongly the adapter acts; 1 as it was trained.
        blend: adapters with their scales that act at once, their changes added up; instead of `adapter`.
        voices: adapters (None: the base) with weights that add up to 1, whose distributions of the next word are mixed;
            instead of `adapter`. Both need an engine that `mixes`.
        shared: how many leading messages other requests share; their keys and values are computed once.
        logprobs: whether the completion is to carry the log-probability of every token that was drawn.
        deadline: seconds from submission after which the request is given up with `DeadlinePassed`, or None.
        tag: what the caller wants to find again on the completion.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    prefill: str = ""
    seed: int = 0
    grammar: str | None = None
    schema: Mapping[str, Any] | None = None
    adapter: str | None = None
    scale: float = 1.0
    blend: tuple[tuple[str, float], ...] = ()
    voices: tuple[tuple[str | None, float], ...] = ()
    shared: int = 0
    logprobs: bool = False
    deadline: float | None = None
    tag: object = None


@dataclass(frozen=True)
class Completion:
    """What came back.

    Attributes:
        finish: `stop` (end of turn or a stop string) or `length` (max_tokens reached).
        logprobs: nats of each drawn token under the model's own distribution, before sampling; empty unless asked for.
    """

    text: str
    finish: str
    prompt_tokens: int
    tokens: int
    logprobs: tuple[float, ...] = ()
    tag: object = None


@dataclass(frozen=True)
class Score:
    """Log-probability of a given continuation: the sum in nats, and over how many tokens."""

    nats: float
    tokens: int

    @property
    def mean(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens


OnText = Callable[[str], None]


class Engine(ABC):
    """A model at hand. Methods may be called from any thread; the asynchronous ones from any event loop.

    Attributes:
        name: what people call the model.
        context: tokens of one request, prompt and completion together.
        template: how the model's family writes a conversation.
        adds_bos: whether `tokenize` puts a beginning-of-sequence token first.
        mixes: whether several adapters may answer one request; see `Request.blend` and `Request.voices`.
    """

    name: str
    context: int
    template: Template
    adds_bos: bool = False
    mixes: bool = False

    def __init__(self, queue: int = QUEUE) -> None:
        self._room = Room(queue)

    # ── what stages call ────────────────────────────────────────────────────────────────────────────────────

    async def complete(self, request: Request, on_text: OnText | None = None) -> Completion:
        """The completion of one request. Raises like `submit`'s future; cancelling the task frees the place."""
        await self._room.entered()
        return await asyncio.wrap_future(self._start([(request, on_text)])[0])

    async def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        """Pieces of text as they come, and the whole completion as the last item."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()
        task = asyncio.ensure_future(self.complete(
            request, lambda text: _call(loop, pieces.put_nowait, text)))
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield await task
        finally:
            task.cancel()

    def submit(self, request: Request, on_text: OnText | None = None) -> Future[Completion]:
        """Queue one request; waits while the queue is full.

        `on_text` gets whole pieces of text as they come, from the engine's thread. The future raises:
            PromptTooLong: prompt and completion do not fit the context; nothing is cut.
            GrammarError: the grammar or schema cannot be compiled.
            AdapterError: no adapter of this name is registered.
            DeadlinePassed: the request's deadline.
            ModelError: the engine failed or was closed.
        """
        self._room.enter()
        return self._start([(request, on_text)])[0]

    def submit_all(self, requests: Sequence[Request]) -> list[Future[Completion]]:
        """Queue many at once, so that what shares a batch does not depend on who was scheduled first."""
        futures: list[Future[Completion]] = []
        for start in range(0, len(requests), self._room.places):
            part = requests[start : start + self._room.places]
            for _ in part:
                self._room.enter()
            futures += self._start([(request, None) for request in part])
        return futures

    def score(self, prompt: str, continuations: Sequence[str], *, adapter: str | None = None, scale: float = 1.0) -> list[Score]:
        """Log-probability of each continuation after the raw prompt."""
        return [future.result() for future in self.submit_scores(prompt, continuations, adapter=adapter, scale=scale)]

    # ── what an engine brings ───────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def _start_all(self, requests: Sequence[tuple[Request, OnText | None]]) -> list[Future[Completion]]:
        """Begin the requests without waiting. What is wrong with one of them is its future's exception."""

    @abstractmethod
    def submit_scores(self, prompt: str, continuations: Sequence[str], *, adapter: str | None = None,
                      scale: float = 1.0) -> list[Future[Score]]:
        """Queue the scoring of each continuation after the raw prompt; see `score`."""

    @abstractmethod
    def add_adapter(self, name: str, path: Path) -> None:
        """Register a LoRA adapter under `name`; a name that is there already is given the new one.

        Args:
            path: the expert's folder, as PEFT saves it; llama.cpp reads the adapter.gguf in it, or a GGUF that is named.

        Raises `AdapterError` when it does not fit the base.
        """

    @abstractmethod
    def remove_adapter(self, name: str) -> None:
        """Forget an adapter and free its memory; requests in flight with it are finished first."""

    def hold(self, adapters: int) -> None:
        """Keep so many adapters in memory at once, where the engine lets that be chosen; what was used longest ago goes."""
        return

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Token ids of the text; control tokens are recognised."""

    @abstractmethod
    def close(self) -> None:
        """Free the model. Requests in flight raise `ModelError`."""

    # ── what they share ─────────────────────────────────────────────────────────────────────────────────────

    def prompt(self, request: Request) -> str:
        """The request's whole prompt as text."""
        return (self.template.render(request.messages) if request.messages else "") + request.prefill

    def _start(self, requests: Sequence[tuple[Request, OnText | None]]) -> list[Future[Completion]]:
        """`_start_all` for requests that have a place in the queue; the place is given back when they are done."""
        try:
            if not self.mixes and any(request.blend or request.voices for request, _ in requests):
                raise ModelError(f"{self.name} runs on an engine that gives a request one adapter at most. "
                                 "Set ensemble.mixing to one, or models.engine to llama.cpp.")
            futures = self._start_all(requests)
        except BaseException:
            for _ in requests:
                self._room.leave()
            raise
        for future in futures:
            future.add_done_callback(lambda _: self._room.leave())
        return futures

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[str], None], text: str) -> None:
    """Call in the loop's thread; a loop that was closed meanwhile has nobody left to tell."""
    try:
        loop.call_soon_threadsafe(function, text)
    except RuntimeError as error:
        if not loop.is_closed():
            raise ModelError(f"the event loop refused a piece of text: {error}") from None
