"""A baseline: words that the question shares with the names of a seed's nodes."""

from __future__ import annotations

from collections.abc import Sequence

from rostok.ensemble.routing.router import Question, Strategy
from rostok.ensemble.routing.terms import words
from rostok.seeds.record import Seed


class Keyword(Strategy):
    """For every node the share of its name's words that stand in the question, summed per seed."""

    name = "keyword"

    def __init__(self, seeds: Sequence[Seed]) -> None:
        self._names = {seed.id: [set(words(node.name)) for node in seed.nodes] for seed in seeds}

    def scores(self, question: Question) -> dict[str, float]:
        """{seed: words shared}; seeds that share none are left out."""
        asked = set(words(question.text))
        shared = {seed: sum(len(asked & name) / len(name) for name in names if name)
                  for seed, names in self._names.items()}
        return {seed: score for seed, score in shared.items() if score > 0}
