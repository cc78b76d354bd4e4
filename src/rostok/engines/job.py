"""One request on its way through the llama.cpp engine, and the text that grows from it."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rostok.engines.protocol import Completion, OnText, Request, Score
from rostok.engines.shelf import Line
from rostok.engines.speech import Speech

if TYPE_CHECKING:
    from rostok.engines.sampling import Sampler


@dataclass(eq=False)
class Job:
    """A request: waiting, in prefill (`fed < len(tokens) - 1`), or decoding.

    Attributes:
        prompt: tokens of the prompt; those behind it were drawn, or are to be scored.
        line: the adapters it is computed with, which it must have in common with the others of its batch.
        shared: leading tokens that other requests have too.
        scoring: whether `tokens[prompt:]` is to be scored instead of anything being drawn.
        until: the clock's time at which the request is given up, or None.
    """

    request: Request
    tokens: list[int]
    prompt: int
    outcome: Future[Any] = field(default_factory=Future)
    line: Line = ()
    on_text: OnText | None = None
    shared: int = 0
    scoring: bool = False
    until: float | None = None
    sequence: int = -1
    fed: int = 0
    sampler: Sampler | None = None
    logprobs: list[float] = field(default_factory=list)
    _speech: Speech = field(init=False)
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def __post_init__(self) -> None:
        self._speech = Speech(self.request.sampling.stop, self.on_text)

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
        self.tokens.append(token)
        try:
            stopped = self._speech.take(self._decoder.decode(piece))
        except Exception as error:  # noqa: BLE001  # the caller's own, out of on_text: it gets it back, and the others go on
            self.fail(error)
            return "stop"
        if stopped:
            return "stop"
        return "length" if len(self.tokens) - self.prompt >= self.request.sampling.max_tokens else None

    def answer(self, finish: str) -> None:
        """Give the caller what was drawn or scored."""
        if self.scoring:
            self._settle(Score(sum(self.logprobs), len(self.logprobs)))
            return
        try:
            text = self._speech.end()
        except Exception as error:  # noqa: BLE001  # as above
            self.fail(error)
        else:
            self._settle(Completion(text, finish, self.prompt, len(self.tokens) - self.prompt, tuple(self.logprobs),
                                    self.request.tag))

    def fail(self, error: Exception) -> None:
        """Give the caller an error instead."""
        with suppress(InvalidStateError):  # cancelled: nobody waits for it
            self.outcome.set_exception(error)

    def _settle(self, result: object) -> None:
        with suppress(InvalidStateError):  # cancelled in this very moment
            self.outcome.set_result(result)


def common(one: Sequence[int], two: Sequence[int]) -> int:
    """How many leading tokens two prompts share."""
    count = 0
    for a, b in zip(one, two, strict=False):
        if a != b:
            break
        count += 1
    return count


def share_equal_prompts(jobs: Sequence[Job]) -> None:
    """Best-of-N asks the same prompt N times: compute it once, all but its last token."""
    seen = Counter(tuple(job.tokens) for job in jobs)
    for job in jobs:
        if seen[tuple(job.tokens)] > 1:
            job.shared = len(job.tokens) - 1
