"""What the others see, weighed together: a conditional logit over the seeds and nobody (McFadden 1974).

For each seed: are its nodes named in the question, as a phrase, scattered, or in part by a rare word; how do the words of its
pages fit; what share of the nearest texts is its own, and how near are they. Seven weights, learned from the corpora's own
sentences, from short questions about their nodes, and from questions that belong to nobody, tell how much each counts:

    P(seed) = exp(w · evidence) / (exp(w_nobody) + Σ exp(w · evidence))

Long polite wordings around a node's name drown it for an embedder and for TF-IDF; names alone know nothing of a seed whose
node is called otherwise. Together they hardly err where the others do (docs/routing.md).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rostok.ensemble.routing.nearest import votes
from rostok.ensemble.routing.router import Question, Strategy
from rostok.ensemble.routing.terms import words
from rostok.ensemble.routing.tfidf import Tfidf
from rostok.seeds.record import Seed

KINDS = ("phrase", "scattered", "partly", "terms", "share", "nearness")
_PHRASE, _SCATTERED, _PARTLY, _TERMS, _SHARE, _NEARNESS = range(len(KINDS))
_NEAR = 0.3     # cosine from which a text counts as near at all: unrelated pairs reach 0.2 with all-MiniLM-L6-v2
_LEAST = 1e-4   # a seed with less is not told
_HOLD = 1e-3    # L2, which keeps the weights finite on a handful of seeds
_FRAMES = (     # around a node's name, for learning; no page and no measurement says it so
    "By the way, do you know anything about the {x}?", "And the {x}, how is that connected with the rest?",
    "Someone asked me about the {x} and I had no answer.", "{x}?", "a word about the {x} please",
    "Let us talk about the {x} for a while, and about whatever it brings with it.",
    "Why would anybody care about the {x}, and about where it takes us?",
)


class Evidence(Strategy):
    """Probabilities of the seeds; what is missing to 1 is nobody's.

    Args:
        weights: by `KINDS`, and `nobody`.
    """

    name = "evidence"

    def __init__(self, seeds: Sequence[Seed], tfidf: Tfidf, temperature: float, nucleus: float,
                 weights: Mapping[str, float]) -> None:
        self._sight = Sight(seeds, tfidf, temperature, nucleus)
        self._weights = np.array([weights[kind] for kind in KINDS])
        self._nobody = weights["nobody"]

    def scores(self, question: Question) -> dict[str, float]:
        """{seed: probability}."""
        shares = _shares(self._sight.of(question)[None], self._weights, self._nobody)[0, :-1]
        return {self._sight.seeds[place]: float(shares[place]) for place in np.flatnonzero(shares > _LEAST)}

    def confidence(self, question: Question, scores: dict[str, float]) -> float:
        """The probability that it is anybody's."""
        return sum(scores.values())


class Sight:
    """The evidence of a question for each seed, in the order of `KINDS`."""

    def __init__(self, seeds: Sequence[Seed], tfidf: Tfidf, temperature: float, nucleus: float) -> None:
        self.seeds = [seed.id for seed in seeds]
        self._tfidf, self._temperature, self._nucleus = tfidf, temperature, nucleus
        place = {seed: number for number, seed in enumerate(self.seeds)}
        self._place = place
        self._documents = [(place[seed], row) for row, seed in enumerate(tfidf.seeds) if seed in place]
        self._owners: dict[tuple[str, ...], set[int]] = {}
        for number, seed in enumerate(seeds):
            for node in seed.nodes:
                self._owners.setdefault(tuple(words(node.name)), set()).add(number)
        self._names: dict[str, list[tuple[str, ...]]] = {}
        for name in self._owners:
            for word in set(name):
                self._names.setdefault(word, []).append(name)
        self._longest = max(map(len, self._owners), default=1)
        self._rarity = {word: 1 - math.log(count) / math.log(len(seeds) + 1) for word, count in spread(seeds).items()}

    def of(self, question: Question) -> NDArray[np.float64]:
        """The evidence, shape [seeds, kinds]."""
        found = np.zeros((len(self.seeds), len(KINDS)))
        self._named(question.text, found)
        cosines = self._tfidf.cosines(question.text)
        for place, row in self._documents:
            found[place, _TERMS] = cosines[row]
        for seed, share in votes(question.neighbours, self._temperature, self._nucleus).items():
            if seed in self._place:
                found[self._place[seed], _SHARE] = share
        for one in question.neighbours:
            place_of = self._place.get(one.seed)
            if place_of is not None:
                found[place_of, _NEARNESS] = max(found[place_of, _NEARNESS], one.similarity - _NEAR)
        return found

    def _named(self, text: str, found: NDArray[np.float64]) -> None:
        asked = words(text)
        known = set(asked)
        phrases = {tuple(asked[i : i + size]) for size in range(1, self._longest + 1) for i in range(len(asked) - size + 1)}
        for name in {name for word in known for name in self._names.get(word, ())}:
            owners = list(self._owners[name])
            if name in phrases or known.issuperset(name):
                found[owners, _PHRASE if name in phrases else _SCATTERED] += 1
            else:
                part = sum(self._rarity[word] for word in name if word in known) / len(name)
                found[owners, _PARTLY] = np.maximum(found[owners, _PARTLY], part)
        np.log1p(found[:, :_PARTLY], out=found[:, :_PARTLY])


def spread(seeds: Sequence[Seed]) -> Counter[str]:
    """In the names of how many seeds each word stands."""
    return Counter(word for seed in seeds for word in {word for node in seed.nodes for word in words(node.name)})


def lessons(seeds: Sequence[Seed], each: int, random_seed: int) -> list[tuple[str, str]]:
    """Short questions about nodes, as (seed, question): by name, by a word that no other seed's names have, and turned round."""
    dice, known, made = random.Random(random_seed), spread(seeds), []
    for seed in seeds:
        for number, node in enumerate(dice.sample(seed.nodes, min(each, len(seed.nodes)))):
            first, _, rest = node.name.partition(" ")
            own = [word for word in words(node.name) if known[word] == 1]
            name = f"{rest} of {first}" if rest and number % 3 == 2 else own[0] if own and number % 3 == 1 else node.name
            made.append((seed.id, dice.choice(_FRAMES).format(x=name)))
    return made


def fit(sight: Sight, known: Sequence[tuple[str, Question]], nobodys: Sequence[Question]) -> dict[str, float]:
    """The weights under which the known questions' seeds, and nobody for the others, are likeliest (both sides equally)."""
    from scipy.optimize import minimize

    place = {seed: number for number, seed in enumerate(sight.seeds)}
    rows = np.stack([sight.of(question) for question in (*(one for _, one in known), *nobodys)])
    right = np.array([*(place[seed] for seed, _ in known), *(len(place) for _ in nobodys)])
    balance = np.concatenate([np.full(len(known), 1 / max(1, len(known))), np.full(len(nobodys), 1 / max(1, len(nobodys)))])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        shares = _shares(rows, weights[:-1], float(weights[-1]))
        likely = shares[np.arange(len(right)), right]
        pull = shares.copy()
        pull[np.arange(len(right)), right] -= 1
        pull *= balance[:, None]
        slope = np.concatenate([np.einsum("qs,qsk->k", pull[:, :-1], rows) + 2 * _HOLD * weights[:-1], [pull[:, -1].sum()]])
        return float(-balance @ np.log(np.maximum(likely, 1e-12)) + _HOLD * weights[:-1] @ weights[:-1]), slope

    found = minimize(loss, np.array([3.0, 2.0, 2.0, 5.0, 2.0, 5.0, 3.0]), jac=True, method="L-BFGS-B").x
    return dict(zip((*KINDS, "nobody"), map(float, found.round(6)), strict=True))


def _shares(rows: NDArray[np.float64], weights: NDArray[np.float64], nobody: float) -> NDArray[np.float64]:
    """Probabilities [questions, seeds + 1], the last column nobody's."""
    levels = np.concatenate([rows @ weights, np.full((len(rows), 1), nobody)], axis=1)
    powers = np.exp(levels - levels.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
