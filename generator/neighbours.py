"""Near-duplicates by MinHash (Broder 1997) and locality-sensitive hashing, within a corpus and across the corpora of a run.

`rensa` sketches 300,000 pages a second on one core, `datasketch` 5,500 (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_PERMUTATIONS = 128  # the estimate of a Jaccard similarity of 0.8 has a standard deviation of 0.035
_BANDS = 32          # of 4: finds 99% of the pairs at 0.6, and at 0.8 all but one in ten million; then sketches are compared
_SEED = 7
GRAM = 5             # words


@dataclass(frozen=True)
class Place:
    """Where a page stands."""

    corpus: str
    page: int


@dataclass
class Neighbours:
    """An index of pages.

    Attributes:
        threshold: Jaccard similarity on word 5-grams from which two pages are nearly the same; from 0.6 on, since the bands
            find 87% of the pairs at 0.5 and 23% at 0.3.
    """

    threshold: float = 0.8
    _index: Any = field(init=False)
    _places: list[Place] = field(init=False, default_factory=list)
    _sketches: list[Any] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        from rensa import RMinHashLSH

        self._index = RMinHashLSH(threshold=self.threshold, num_perm=_PERMUTATIONS, num_bands=_BANDS)

    def nearest(self, sketch: Any, *, within: str | None = None) -> tuple[Place, float] | None:
        """Place and similarity of the nearest page, when it is too near.

        Args:
            within: name of the one corpus to look in; None for all.
        """
        if sketch is None:
            return None
        near = [(self._sketches[key].jaccard(sketch), key) for key in self._index.query(sketch)
                if within is None or self._places[key].corpus == within]
        similarity, key = max(near, default=(0.0, 0))
        return (self._places[key], similarity) if similarity >= self.threshold else None

    def add(self, place: Place, sketch: Any) -> None:
        """Remember a page; one without a 5-gram has nothing to be remembered by."""
        if sketch is not None:
            self._index.insert(len(self._places), sketch)
            self._places.append(place)
            self._sketches.append(sketch)


def sketch(words: Sequence[str]) -> Any:
    """MinHash of the word 5-grams, or None where there are too few words for one."""
    from rensa import RMinHash

    grams = [" ".join(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)]
    if not grams:
        return None
    minhash = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
    minhash.update(grams)
    return minhash
