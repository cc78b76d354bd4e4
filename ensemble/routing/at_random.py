"""A baseline: any seed, the same one for the same question."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rostok.ensemble.routing.router import Question, Strategy
from rostok.records import stable_seed
from rostok.seeds.record import Seed


class AtRandom(Strategy):
    """Draws the weights; abstains from what its dice leave below the threshold."""

    name = "random"

    def __init__(self, seeds: Sequence[Seed], random_seed: int = 0) -> None:
        self._seeds, self._random_seed = [seed.id for seed in seeds], random_seed

    def scores(self, question: Question) -> dict[str, float]:
        """{seed: a number between 0 and 1}."""
        dice = random.Random(stable_seed(self._random_seed, question.text))
        return {seed: dice.random() for seed in self._seeds}
