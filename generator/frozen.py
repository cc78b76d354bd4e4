"""The frozen reference that ADPT and the surprisal gate measure with: words, semantic fields, and a bigram model.

It is one small file beside this module, so that a score means the same on every machine and in every run, and needs
neither a model nor torch. `rostok.generator.freeze` made it from public-domain prose; docs/adpt.md tells how and from what.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rostok.errors import DataError
from rostok.records import file_digest

PATH = Path(__file__).with_name("reference.npz")
FORMAT = 1
STEP = 1 / 16       # bits; one level of the bigram table
STRONGEST = 255     # of a word's tie to a field, as it is stored
_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,:]\d+)*|[^\w\s]|_")
_MARKS = ',.;:?!"()-'
_QUOTES = str.maketrans({"“": '"', "”": '"', "’": "'", "‘": "'", "—": "-", "–": "-", "…": "."})
# Words that are not among the frequent ones share a class with others of their shape: what follows what in a language
# hardly depends on its topic then. The first ending that fits counts.
_ENDINGS = ("ing", "ed", "ly", "ness", "ment", "ity", "tion", "sion", "ance", "ence", "ous", "ful", "less", "able", "ible",
            "ive", "al", "ic", "ary", "ish", "est", "er", "or", "ist", "ism", "es", "s", "y", "en")
_NO_WORDS = ("<start>", "<number>", "<mark>", *_MARKS)
SHAPES = (*_NO_WORDS, "<name>", "<short>", "<word>", *(f"-{ending}" for ending in _ENDINGS))
WORDS_FROM = len(_NO_WORDS)  # classes below are no words


def tokenize(text: str) -> list[str]:
    """Words (as they stand), numbers, and punctuation marks one by one; about 115 on a page of 550 characters."""
    return _TOKEN.findall(text.translate(_QUOTES))


def shape(token: str) -> str:
    """The class of a token that is not a frequent word: a mark, a number, a name, or an ending."""
    first = token[0]
    if not first.isalpha():
        return first if first in _MARKS else "<number>" if first.isdigit() else "<mark>"
    if first.isupper():
        return "<name>"
    if len(token) < 4:
        return "<short>"
    return next((f"-{ending}" for ending in _ENDINGS if token.endswith(ending)), "<word>")


class Reading(NamedTuple):
    """A text, token by token; arrays of shape [tokens].

    `tokens` are equal where the tokens are; `ranks` are -1 where a word is not known; `bits` are the surprisal of each token
    after the one before it.
    """

    tokens: NDArray[np.int32]
    ranks: NDArray[np.int32]
    classes: NDArray[np.int32]
    bits: NDArray[np.float32]


@dataclass(frozen=True)
class Frozen:
    """What `freeze` has found in the reference, and the figures that calibrate the gate.

    Attributes:
        words: known words, the most frequent first; the place is a word's rank.
        ties: fields of every word, shape [words, 3], and `strength` how strongly each, 0 where there is none.
        centroids: unit vectors of the fields, shape [fields, dimensions].
        frequent: the words that are classes of their own; `SHAPES` are the other classes, and come first.
        costs: bits of a class after another one, shape [classes, classes].
        facts: percentiles, sources and settings, as reference.json has them.
        sha256: of the file.
    """

    words: tuple[str, ...]
    ties: NDArray[np.int32]
    strength: NDArray[np.float32]
    centroids: NDArray[np.float32]
    frequent: tuple[str, ...]
    costs: NDArray[np.float32]
    facts: dict[str, Any]
    sha256: str

    @cached_property
    def rank(self) -> dict[str, int]:
        """Word to its place in `words`."""
        return {word: place for place, word in enumerate(self.words)}

    @cached_property
    def kernel(self) -> NDArray[np.float32]:
        """Similarity of the fields, shape [fields, fields], 1 on the diagonal, never below 0."""
        return np.asarray(np.maximum(self.centroids @ self.centroids.T, 0), np.float32)

    @cached_property
    def _classes(self) -> dict[str, int]:
        return {name: place for place, name in enumerate((*SHAPES, *self.frequent))}

    @cached_property
    def _known(self) -> dict[str, tuple[int, int, int, float]]:
        """A token as it stands to (number, rank or -1, class, bits of the token within its class); filled as texts are read."""
        return {}

    @cached_property
    def _mass(self) -> dict[int, float]:
        """Zipf mass of the words of each class."""
        mass: dict[int, float] = {}
        for rank, word in enumerate(self.words):
            number = self._class(word)
            mass[number] = mass.get(number, 0.0) + zipf(rank)
        return mass

    def _class(self, token: str) -> int:
        own = self._classes.get(token.lower())
        return own if own is not None and own >= len(SHAPES) else self._classes[shape(token)]

    def _look_up(self, token: str) -> tuple[int, int, float]:
        word = token.lower()
        rank = self.rank.get(word, -1)
        if rank < 0:  # a form of a known word: its fields, and the rank of what no list holds
            rank = next((self.rank[stem] for stem in _stems(word) if stem in self.rank), -1)
        number = self._class(token)
        if number >= len(SHAPES) or not token[0].isalpha():
            return rank, number, 0.0
        own = zipf(rank) if word in self.rank else zipf(2 * len(self.words))
        return rank, number, float(np.log2(max(self._mass.get(number, 0.0), own) / own))

    def read(self, text: str) -> Reading:
        """A text as the reference sees it, token by token."""
        known, rows = self._known, []
        if len(known) > 1_000_000:  # a night of names must not fill the memory
            known.clear()
        for token in tokenize(text):
            row = known.get(token)
            if row is None:
                row = known[token] = (len(known), *self._look_up(token))
            rows.append(row)
        if not rows:
            none = np.zeros(0, np.int32)
            return Reading(none, none, none, np.zeros(0, np.float32))
        tokens, ranks, classes, bits = zip(*rows, strict=True)
        own = np.array(classes, np.int32)
        cost = self.costs[np.concatenate([[0], own[:-1]]), own] + np.array(bits, np.float32)
        return Reading(np.array(tokens, np.int32), np.array(ranks, np.int32), own, cost)


def zipf(rank: int) -> float:
    """Share of a word by its rank alone (Mandelbrot's constants for English prose)."""
    return float(1.0 / (rank + 2.7))


@cache
def frozen(path: Path = PATH) -> Frozen:
    """The frozen reference.

    Raises:
        DataError: the file is missing, damaged, or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            facts = json.loads(bytes(held["facts"]).decode())
            if facts["format"] != FORMAT:
                raise DataError(f"{path} is of format {facts['format']}, this version reads {FORMAT}. Install Rostok again.")
            return Frozen(
                words=tuple(bytes(held["words"]).decode().split("\n")), ties=held["ties"].astype(np.int32),
                strength=held["strength"].astype(np.float32) / STRONGEST, centroids=_unit(held["centroids"]),
                frequent=tuple(bytes(held["frequent"]).decode().split("\n")),
                costs=held["costs"].astype(np.float32) * np.float32(STEP), facts=facts, sha256=file_digest(path))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"the reference {path} cannot be read ({error}). Install Rostok again, or freeze it anew: "
                        "python -m rostok.generator.freeze --help") from None


def _unit(vectors: NDArray[np.int8]) -> NDArray[np.float32]:
    found = vectors.astype(np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def _stems(word: str) -> Sequence[str]:
    """Plainer forms that a word may come from, the likeliest first."""
    word = word.removesuffix("'s").removesuffix("'")
    found = [word]
    for ending, instead in (("ies", "y"), ("es", ""), ("s", ""), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"), ("ly", ""),
                            ("er", ""), ("er", "e"), ("est", ""), ("ness", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            found.append(word[: -len(ending)] + instead)
    return found
