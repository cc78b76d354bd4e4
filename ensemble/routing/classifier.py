"""A small classifier: scikit-learn's logistic regression over the words of the corpora's own sentences, and nobody's.

Over the embedder's vectors the same regression found 48% of the paraphrased questions where words found 95%: the vectors of
sentences lie by their wording, and a node is two words in twelve (docs/routing.md).
"""

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

_STRENGTH = 100.0  # C: the classes share most words, so that little regularisation is better
_STEPS = 60


def fit(texts: Mapping[str, Sequence[str]], nobodys: Sequence[str]) -> kept.Arrays:
    """Coefficients from {seed: sentences and names}, and questions that belong to nobody."""
    import warnings

    from scipy.sparse import csr_matrix
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows = [(place, Counter(terms(text))) for place, own in enumerate([*texts.values(), nobodys]) for text in own]
    spread = Counter(term for _, row in rows for term in row)
    index = {term: place for place, term in enumerate(sorted(term for term, count in spread.items() if count > 1))}
    rare = np.array([math.log((1 + len(rows)) / (1 + spread[term])) + 1 for term in index], np.float32)
    data: list[float] = []
    columns: list[int] = []
    ends = [0]
    for _, row in rows:
        places, weights = _weighed(row, index, rare)
        data += weights.tolist()
        columns += places
        ends.append(len(columns))
    model = LogisticRegression(C=_STRENGTH, max_iter=_STEPS)
    with warnings.catch_warnings():  # 60 steps are enough: 200 change no route
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(csr_matrix((data, columns, ends), shape=(len(rows), len(index))), [place for place, _ in rows])
    slope, start = model.coef_, model.intercept_
    if len(slope) == 1:  # one seed and nobody: scikit-learn keeps one row, for the second class
        slope, start = np.concatenate([-slope, slope]) / 2, np.concatenate([-start, start]) / 2
    return {"seeds": kept.joined(list(texts)), "terms": kept.joined(list(index)), "rare": rare,
            "slope": np.ascontiguousarray(slope.T, np.float32), "start": start.astype(np.float32)}


class Classifier(Strategy):
    """Scores by the arrays of `fit`."""

    name = "classifier"

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._seeds = kept.split(arrays["seeds"])
        self._index = {term: place for place, term in enumerate(kept.split(arrays["terms"]))}
        self._rare, self._slope, self._start = arrays["rare"], arrays["slope"], arrays["start"]

    def scores(self, question: Question) -> dict[str, float]:
        """{seed: probability}; what is missing to 1 is nobody's."""
        places, weights = _weighed(Counter(terms(question.text)), self._index, self._rare)
        levels = self._start + weights @ self._slope[places]
        powers = np.exp(levels - levels.max())
        shares = powers / powers.sum()
        return {seed: float(share) for seed, share in zip(self._seeds, shares, strict=False)}


def _weighed(row: Mapping[str, int], index: Mapping[str, int],
             rare: NDArray[np.float32]) -> tuple[list[int], NDArray[np.float32]]:
    """The places of a text's known terms, and their TF-IDF weights as a vector of length 1."""
    known = [(index[term], count) for term, count in row.items() if term in index]
    places = [place for place, _ in known]
    weights = np.array([1 + math.log(count) for _, count in known], np.float32) * rare[places]
    return places, weights / (np.float32(np.linalg.norm(weights)) or np.float32(1.0))
