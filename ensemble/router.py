"""Which expert answers: the nearest pages, seeds and nodes of a question vote; where none is near, the base does.

Retrieval over training examples needs no training of its own (LoRA retrieval: arXiv 2602.21222); votes are
weighted as in cluster-BTM, softmax(similarity / temperature). A new way of voting is one class with `scores`, see
`Strategy` and rostok/ensemble/keyword.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rostok.config import RouterSettings, Settings
from rostok.ensemble import corpus
from rostok.ensemble.memory import Memory, Neighbour
from rostok.errors import DataError, RunError
from rostok.records import Record, digest, read_record, write_atomic
from rostok.runs import Run
from rostok.seeds.record import Seed

_SAMPLE = 200  # training pages whose first sentences set the threshold


class Strategy(Protocol):
    """How the seeds are weighed against each other."""

    name: str

    def scores(self, question: str, neighbours: Sequence[Neighbour]) -> dict[str, float]:
        """{seed: weight}, any scale, larger is better. `neighbours`: remembered texts, the nearest first."""
        ...


class Nearest:
    """The default: every neighbour votes for its seed with its soft-max weight. The weights add up to 1."""

    name = "nearest"

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def scores(self, question: str, neighbours: Sequence[Neighbour]) -> dict[str, float]:
        """{seed: sum of softmax(cosine / temperature) over its neighbours}."""
        if not neighbours:
            return {}
        similarities = np.array([one.similarity for one in neighbours])
        weights = np.exp((similarities - similarities.max()) / self.temperature)
        weights /= weights.sum()
        votes: dict[str, float] = {}
        for one, weight in zip(neighbours, weights, strict=True):
            votes[one.seed] = votes.get(one.seed, 0.0) + float(weight)
        return votes


class Route(Record):
    """Where a question goes.

    Attributes:
        seed: of the expert that answers, None for the base.
        score: cosine between the question and the nearest remembered text of the best seed.
        threshold: below it the experts abstain.
        scores: {seed: weight}, the best first.
        neighbours: the evidence, nearest first.
        pinned: the user chose; the scores are told all the same.
    """

    seed: str | None
    score: float
    threshold: float
    scores: dict[str, float]
    neighbours: tuple[Neighbour, ...]
    pinned: bool = False


class Router:
    """Routes questions over one memory."""

    def __init__(self, memory: Memory, settings: RouterSettings, threshold: float,
                 strategy: Strategy | None = None) -> None:
        self.memory, self.settings, self.threshold = memory, settings, threshold
        self.strategy: Strategy = strategy or Nearest(settings.temperature)

    def scores(self, question: str) -> dict[str, float]:
        """{seed: weight}, the best first."""
        return self.route(question).scores

    def route(self, question: str) -> Route:
        """The expert for this question, or the base."""
        return self.routes([question])[0]

    def routes(self, questions: Sequence[str], *, without: Sequence[str] | None = None) -> list[Route]:
        """`route` of many questions at once; `without` as in `Memory.nearest`."""
        found = self.memory.nearest(questions, self.settings.neighbours, without=without)
        return [self._decide(question, row) for question, row in zip(questions, found, strict=True)]

    def _decide(self, question: str, neighbours: Sequence[Neighbour]) -> Route:
        scores = self.strategy.scores(question, neighbours)
        scores = dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
        best = next(iter(scores), None)
        score = max((one.similarity for one in neighbours if one.seed == best), default=0.0)
        return Route(seed=best if best is not None and score >= self.threshold else None, score=score,
                     threshold=self.threshold, scores=scores, neighbours=tuple(neighbours))


class Calibration(Record):
    """memory/router.json: the threshold and what it was found on.

    Attributes:
        kept: share of the corpora's own sentences that are not abstained from.
        rejected: share of the general questions that are.
        general: those questions, kept so that a change of the corpora needs nobody to give them again.
    """

    made_from: str
    threshold: float
    positives: int
    negatives: int
    kept: float
    rejected: float
    general: tuple[str, ...]


def calibrate(run: Run, settings: Settings, memory: Memory, seeds: Sequence[Seed],
              general: Sequence[str] | None = None) -> Calibration:
    """The threshold of this run, from memory/router.json where that still fits, else found anew and written.

    Args:
        general: questions that no seed is about (never the held-out ones); None takes the last calibration's.

    Raises:
        RunError: None was given and there is no earlier calibration.
    """
    path = run.memory / "router.json"
    try:
        old = read_record(path, Calibration)
    except (DataError, OSError, UnicodeDecodeError):
        old = None
    if general is None and old is None:
        raise RunError(f"{path} is missing or damaged, so nobody knows when the base should answer. "
                       f"Run: rostok swarm train {run.folder}")
    negatives = tuple(general) if general is not None else old.general if old is not None else ()
    made_from = digest(memory.made_from, settings.router, list(negatives))
    if old is not None and old.made_from == made_from:
        return old
    positives = _positives(run, settings, memory, seeds)
    found = _scores(Router(memory, settings.router, 0.0), negatives)
    threshold = choose_threshold(positives, found, settings.router.keep)
    new = Calibration(
        made_from=made_from, threshold=threshold, positives=len(positives), negatives=len(found),
        kept=sum(score >= threshold for score in positives) / max(1, len(positives)),
        rejected=sum(score < threshold for score in found) / max(1, len(found)), general=negatives)
    write_atomic(path, new.model_dump_json(indent=1) + "\n")
    return new


def choose_threshold(positives: Sequence[float], negatives: Sequence[float], keep: float) -> float:
    """The threshold that keeps at least the share `keep` of the positives and rejects as many negatives as it can.

    Every value between the highest rejected negative and the highest threshold that keeps enough does the same on
    these scores; the middle is furthest from both.
    """
    if not positives:
        return 0.0
    ordered = sorted(positives, reverse=True)
    highest = ordered[max(1, int(np.ceil(keep * len(ordered) - 1e-9))) - 1]
    lowest = max((score for score in negatives if score < highest), default=highest)
    middle = round((lowest + highest) / 2, 4)
    return middle if lowest < middle <= highest else highest


def _positives(run: Run, settings: Settings, memory: Memory, seeds: Sequence[Seed]) -> list[float]:
    """Scores of training pages' own first sentences, each with its page left out; evenly over the corpora."""
    pages = [(f"{seed}:{page.spec}", page) for seed in corpus.manifests(run, seeds)
             for page in corpus.pages(run, seed, held_out=False)]
    if not pages:
        return []
    places = np.linspace(0, len(pages) - 1, min(len(pages), _SAMPLE)).round().astype(int)
    chosen = [pages[place] for place in places]
    router = Router(memory, settings.router, 0.0)
    return _scores(router, [corpus.first_sentence(page) for _, page in chosen], [key for key, _ in chosen])


def _scores(router: Router, questions: Sequence[str], without: Sequence[str] | None = None) -> list[float]:
    return [route.score for route in router.routes(questions, without=without)]
