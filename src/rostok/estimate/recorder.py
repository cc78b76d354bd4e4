"""An engine that notes what it was asked and how long the answers took, and the engine's pace found from such notes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rostok.engines.protocol import Completion, Engine, OnText, Request, Score
from rostok.estimate.pace import EnginePace, steps


class Enough(Exception):
    """Raised out of a stage that was only to be timed, when it was timed long enough."""


@dataclass
class Wave:
    """Requests that were asked for together: tokens of each, in their order, 0 where no answer came.

    `began` and `ended`, when the last answer came, are seconds of `time.perf_counter`.
    """

    lengths: list[int]
    began: float
    ended: float

    @property
    def requests(self) -> int:
        return len(self.lengths)

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Recorder(Engine):
    """Passes everything on to another engine, which it does not own, and keeps a `Wave` of everything that is submitted.

    Args:
        watch: called before every wave; what it raises reaches the stage that asked.
    """

    def __init__(self, engine: Engine, watch: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._engine, self._watch = engine, watch
        self.name, self.context, self.template, self.adds_bos = engine.name, engine.context, engine.template, engine.adds_bos
        self.waves: list[Wave] = []

    @property
    def tokens(self) -> int:
        """Tokens of all completions so far."""
        return sum(sum(wave.lengths) for wave in self.waves)

    def _start_all(self, requests: Sequence[tuple[Request, OnText | None]]) -> list[Future[Completion]]:
        self._watch()
        now = time.perf_counter()
        wave = Wave([0] * len(requests), now, now)
        self.waves.append(wave)

        def note(place: int, future: Future[Completion]) -> None:
            if not future.cancelled() and future.exception() is None:
                wave.lengths[place] = future.result().tokens
                wave.ended = time.perf_counter()

        if any(on_text is not None for _, on_text in requests):
            futures = [self._engine.submit(request, on_text) for request, on_text in requests]
        else:
            futures = self._engine.submit_all([request for request, _ in requests])
        for place, future in enumerate(futures):
            future.add_done_callback(partial(note, place))
        return futures

    def submit_scores(self, prompt: str, continuations: Sequence[str], *, adapter: str | None = None,
                      scale: float = 1.0) -> list[Future[Score]]:
        return self._engine.submit_scores(prompt, continuations, adapter=adapter, scale=scale)

    def add_adapter(self, name: str, path: Path) -> None:
        self._engine.add_adapter(name, path)

    def remove_adapter(self, name: str) -> None:
        self._engine.remove_adapter(name)

    def tokenize(self, text: str) -> list[int]:
        return self._engine.tokenize(text)

    def close(self) -> None:
        """Nothing: the engine belongs to whoever opened it."""


def fit(waves: Sequence[Wave], sequences: int, open_s: float) -> EnginePace:
    """The pace of the engine that answered these waves, by least squares on their seconds.

    A wave's time is that of its steps, of its tokens and of its prompts (`EnginePace.seconds`); none of the three can be
    negative, so the one that comes out so is left out and the rest fitted again.
    """
    import numpy as np

    answered = [wave for wave in waves if sum(wave.lengths)]
    rows = np.array([[steps(wave.lengths, sequences), sum(wave.lengths), len(wave.lengths)] for wave in answered], float)
    seconds = np.array([wave.seconds for wave in answered])
    # Least squares of the ratio: a long wave must not drown the short ones, of which a small corpus has many.
    scaled = rows / np.sqrt(np.maximum(seconds, 1e-6))[:, None]
    wanted = seconds / np.sqrt(np.maximum(seconds, 1e-6))
    kept = [0, 1, 2]
    while True:
        found = np.linalg.lstsq(scaled[:, kept], wanted, rcond=None)[0]
        if (found >= 0).all() or len(kept) == 1:
            break
        kept.pop(int(found.argmin()))
    cost = [0.0, 0.0, 0.0]
    for place, value in zip(kept, found, strict=True):
        cost[place] = max(0.0, float(value))
    return EnginePace(open_s=open_s, step_s=cost[0], token_s=cost[1], request_s=cost[2], sequences=sequences)
