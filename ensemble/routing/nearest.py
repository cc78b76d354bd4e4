"""The nearest remembered texts vote for their seeds: retrieval over training examples, which needs no training (2602.21222)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rostok.ensemble.recall.memory import Neighbour
from rostok.ensemble.routing.router import Question, Strategy


class Nearest(Strategy):
    """Every neighbour of the nucleus votes with its soft-max weight, as in cluster-BTM. The weights add up to 1.

    Args:
        temperature: of the soft-max over cosines.
        nucleus: the fewest nearest neighbours that hold this share of the weight vote; the others would only blur.
    """

    name = "nearest"

    def __init__(self, temperature: float, nucleus: float = 1.0) -> None:
        self.temperature, self.nucleus = temperature, nucleus

    def scores(self, question: Question) -> dict[str, float]:
        """{seed: sum of softmax(cosine / temperature) over its neighbours in the nucleus}."""
        return votes(question.neighbours, self.temperature, self.nucleus)

    def confidence(self, question: Question, scores: dict[str, float]) -> float:
        """The cosine of the nearest text of the best seed."""
        best = next(iter(scores), None)
        return max((one.similarity for one in question.neighbours if one.seed == best), default=0.0)


def votes(neighbours: Sequence[Neighbour], temperature: float, nucleus: float) -> dict[str, float]:
    """{seed: share of the votes} of neighbours that come the nearest first."""
    if not neighbours:
        return {}
    similarities = np.array([one.similarity for one in neighbours])
    weights = np.exp((similarities - similarities.max()) / temperature)
    weights /= weights.sum()
    count = int(np.searchsorted(np.cumsum(weights), nucleus - 1e-9)) + 1
    weights = weights[:count] / weights[:count].sum()
    shares: dict[str, float] = {}
    for one, weight in zip(neighbours, weights, strict=False):
        shares[one.seed] = shares.get(one.seed, 0.0) + float(weight)
    return shares
