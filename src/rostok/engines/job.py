"""One request on its way through the llama.cpp engine, and the text that grows from it."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rostok.engines.protocol import Completion, OnText, Request, Score

if TYPE_CHECKING:
    from rostok.engines.sampling import Sampler


@dataclass(eq=False)
class Adapter:
    """One version of a registered adapter; `handle` is llama.cpp's."""

    name: str
    handle: Any
    users: int = 0        # jobs that wait or run with it
    retired: bool = False  # removed or replaced: freed when the last of them is done


@dataclass(eq=False)
class Job:
    """A request: waiting, in prefill (`fed < len(tokens) - 1`), or decoding.

    Attributes:
        prompt: tokens of the prompt; those behind it were drawn, or are to be scored.
        shared: leading tokens that other requests have too.
        scoring: whether `tokens[prompt:]` is to be scored instead of anything being drawn.
        until: the clock's time at which the request is given up, or None.
    """

    request: Request
    tokens: list[int]
    prompt: int
    outcome: Future[Any] = field(default_factory=Future)
    adapter: Adapter | None = None
    on_text: OnText | None = None
    shared: int = 0
    scoring: bool = False
    until: float | None = None
    sequence: int = -1
    fed: int = 0
    sampler: Sampler | None = None
    text: str = ""
    logprobs: list[float] = field(default_factory=list)
    _emitted: int = 0
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    @property
    def line(self) -> tuple[Adapter | None, float]:
        """What it must have in common with the others of its batch."""
        return self.adapter, self.request.scale if self.adapter is not None else 1.0

    @property
    def left(self) -> int:
        """Tokens that are known and not computed yet."""
        return len(self.tokens) - self.fed

    @property
    def over(self) -> bool:
        """Whether the caller has its answer, or no longer wants one."""
        return self.outcome.done()

    def free(self) -> None:
        """Free the samplers."""
        if self.sampler is not None:
            self.sampler.free()

    def grow(self, token: int, piece: bytes) -> str | None:
        """Take a drawn token. Returns why the completion is finished, or None."""
        sampling = self.request.sampling
        self.tokens.append(token)
        self.text += self._decoder.decode(piece)
        for stop in sampling.stop:
            at = self.text.find(stop)
            if at >= 0:
                self.text = self.text[:at]
                return "stop"
        if len(self.tokens) - self.prompt >= sampling.max_tokens:
            return "length"
        self._emit(hold=max((_overlap(self.text, stop) for stop in sampling.stop), default=0))
        return None

    def answer(self, finish: str) -> None:
        """Give the caller what was drawn or scored."""
        if self.scoring:
            self._settle(Score(sum(self.logprobs), len(self.logprobs)))
        elif not self.over:
            self._emit()
            self._settle(Completion(self.text, finish, self.prompt, len(self.tokens) - self.prompt, tuple(self.logprobs),
                                    self.request.tag))

    def fail(self, error: Exception) -> None:
        """Give the caller an error instead."""
        with suppress(InvalidStateError):  # cancelled: nobody waits for it
            self.outcome.set_exception(error)

    def _settle(self, result: object) -> None:
        with suppress(InvalidStateError):  # cancelled in this very moment
            self.outcome.set_result(result)

    def _emit(self, hold: int = 0) -> None:
        """Give the caller the new text, but not a tail that may become a stop string."""
        end = len(self.text) - hold
        if self.on_text is not None and end > self._emitted:
            self.on_text(self.text[self._emitted : end])
            self._emitted = end


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


def common(one: Sequence[int], two: Sequence[int]) -> int:
    """How many leading tokens two prompts share."""
    count = 0
    for a, b in zip(one, two, strict=False):
        if a != b:
            break
        count += 1
    return count
