"""The baseline router: words that the question shares with the names of a seed's nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rostok.ensemble.memory import Neighbour
from rostok.seeds.record import Seed

_WORD = re.compile(r"\w+")


class Keyword:
    """A `Strategy`: for every node the share of its name's words that stand in the question, summed per seed."""

    name = "keyword"

    def __init__(self, seeds: Sequence[Seed]) -> None:
        self._names = {seed.id: [_words(node.name) for node in seed.nodes] for seed in seeds}

    def scores(self, question: str, neighbours: Sequence[Neighbour]) -> dict[str, float]:
        """{seed: words shared}; seeds that share none are left out. The neighbours are not looked at."""
        asked = _words(question)
        shared = {seed: sum(len(asked & name) / len(name) for name in names if name)
                  for seed, names in self._names.items()}
        return {seed: score for seed, score in shared.items() if score > 0}


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
