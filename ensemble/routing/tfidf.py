"""Every seed as one document of all its pages: cosine of TF-IDF over words and pairs of words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rostok.ensemble.routing import kept
from rostok.ensemble.routing.router import Question, Strategy
from rostok.ensemble.routing.terms import terms

_LEAST = 2  # a term that a seed's pages hold only once is nobody's word


def fit(texts: Mapping[str, Sequence[str]]) -> kept.Arrays:
    """The weights of terms in documents, from {seed: its texts}. Term frequencies count as 1 + log, lengths as 1."""
    counts = {seed: Counter(term for text in own for term in terms(text)) for seed, own in texts.items()}
    known = {seed: {term: count for term, count in row.items() if count >= _LEAST} for seed, row in counts.items()}
    spread = Counter(term for row in known.values() for term in row)
    rare = {term: math.log((1 + len(known)) / (1 + count)) + 1 for term, count in spread.items()}
    postings: dict[str, list[tuple[int, float]]] = {term: [] for term in rare}
    for place, row in enumerate(known.values()):
        weights = {term: (1 + math.log(count)) * rare[term] for term, count in row.items()}
        length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        for term, weight in weights.items():
            postings[term].append((place, weight / length))
    ends = np.cumsum([len(found) for found in postings.values()])
    return {
        "seeds": kept.joined(list(known)), "terms": kept.joined(list(postings)), "ends": ends.astype(np.int64),
        "rare": np.array(list(rare.values()), np.float32),
        "places": np.array([place for found in postings.values() for place, _ in found], np.int32),
        "weights": np.array([weight for found in postings.values() for _, weight in found], np.float32)}


class Tfidf(Strategy):
    """Scores by the arrays of `fit`."""

    name = "tfidf"

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.seeds = kept.split(arrays["seeds"])
        self._index = {term: place for place, term in enumerate(kept.split(arrays["terms"]))}
        self._starts = np.concatenate([[0], arrays["ends"]])
        self._rare, self._places, self._weights = arrays["rare"], arrays["places"], arrays["weights"]

    def scores(self, question: Question) -> dict[str, float]:
        """{seed: cosine}; seeds that share no term are left out."""
        found = self.cosines(question.text)
        return {self.seeds[place]: float(found[place]) for place in np.flatnonzero(found)}

    def cosines(self, text: str) -> NDArray[np.float32]:
        """Cosine of the text with every seed's document, shape [seeds]."""
        total = np.zeros(len(self.seeds), np.float32)
        norm = 0.0
        for term, count in Counter(terms(text)).items():
            place = self._index.get(term)
            if place is None:
                continue
            weight = (1 + math.log(count)) * float(self._rare[place])
            norm += weight * weight
            own = slice(self._starts[place], self._starts[place + 1])
            total[self._places[own]] += weight * self._weights[own]
        return total / np.float32(math.sqrt(norm) or 1.0)
