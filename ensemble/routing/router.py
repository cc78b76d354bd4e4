"""Which expert answers: a strategy weighs the seeds, and where it is not sure enough, the base answers.

A strategy is one small file with one class and its method `scores`, see `Strategy`; `rostok.ensemble.routing.strategies`
names them all. Here a route is made of the scores; `rostok.ensemble.routing.calibrate` finds how sure is sure enough.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rostok.config import RouterSettings
from rostok.ensemble.recall.memory import Memory, Neighbour
from rostok.records import Record


@dataclass(frozen=True)
class Question:
    """What a strategy may look at.

    Attributes:
        text: as it was asked.
        neighbours: remembered pages, scenes and nodes, the nearest first.
        memory: gives the vector.
    """

    text: str
    neighbours: Sequence[Neighbour]
    memory: Memory

    @property
    def vector(self) -> NDArray[np.float32]:
        """The question in the embedder's space, shape [dimensions], of length 1."""
        return self.memory.vector(self.text)


class Strategy(ABC):
    """A way to weigh the seeds against each other.

    Attributes:
        learned_from: hash of what it learned from that is neither corpus nor embedder, or "".
    """

    name: str
    learned_from: str = ""

    @abstractmethod
    def scores(self, question: Question) -> dict[str, float]:
        """{seed: weight}, none below 0, on any scale, larger is better; seeds without any may be left out."""

    def confidence(self, question: Question, scores: dict[str, float]) -> float:
        """How sure it is that the question belongs to a seed at all; compared with a threshold found by calibration."""
        return max(scores.values(), default=0.0)


class Route(Record):
    """Where a question goes.

    Attributes:
        seed: of the expert that answers, None for the base.
        score: how sure the strategy is, on its own scale.
        threshold: below it the experts abstain.
        scores: {seed: weight}, the best first.
        neighbours: the nearest remembered texts, whatever the strategy.
        strategy: by which name it was chosen.
        pinned: the user chose; the scores are told all the same.
    """

    seed: str | None
    score: float
    threshold: float
    scores: dict[str, float]
    neighbours: tuple[Neighbour, ...]
    strategy: str = "nearest"
    pinned: bool = False


class Router:
    """Routes questions over one memory, by one strategy and its threshold."""

    def __init__(self, memory: Memory, settings: RouterSettings, threshold: float, strategy: Strategy) -> None:
        self.memory, self.settings, self.threshold, self.strategy = memory, settings, threshold, strategy

    def scores(self, question: str) -> dict[str, float]:
        """{seed: weight}, the best first."""
        return self.route(question).scores

    def route(self, question: str) -> Route:
        """The expert for this question, or the base."""
        return self.routes([question])[0]

    def routes(self, questions: Sequence[str], *, without: Sequence[str] | None = None) -> list[Route]:
        """`route` of many questions at once; `without` as in `Memory.nearest`."""
        return [self.decide(question) for question in self.read(questions, without=without)]

    def read(self, questions: Sequence[str], *, without: Sequence[str] | None = None) -> list[Question]:
        """The questions with their neighbours, as strategies look at them."""
        found = self.memory.nearest(questions, self.settings.neighbours, without=without)
        return [Question(text, row, self.memory) for text, row in zip(questions, found, strict=True)]

    def decide(self, question: Question) -> Route:
        """The route of a question that was read."""
        found = self.strategy.scores(question)
        scores = dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
        best, sure = next(iter(scores), None), self.strategy.confidence(question, scores)
        return Route(seed=best if sure >= self.threshold else None, score=sure, threshold=self.threshold, scores=scores,
                     neighbours=tuple(question.neighbours), strategy=self.strategy.name)
