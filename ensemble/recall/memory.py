"""What the experts were grown from, as the ensemble remembers it: a Chroma store inside the run folder.

    pages   every page an expert was trained on, but for replay
    seeds   each seed as title and scene, and each of its nodes as `name: gloss` and as bare name, so that a short question
            finds it

What people said and noted lies in a store of its own, `rostok.ensemble.history.words`, so that forgetting a word need not copy
100,000 pages. `rostok.ensemble.recall.index` fills this one. Corpora do not age: pages are ranked by similarity alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rostok.embedder import Embedder
from rostok.ensemble.recall.store import Store
from rostok.errors import DataError
from rostok.records import Record

Collection = Literal["pages", "seeds"]
Trust = Literal["corpus", "said", "note"]  # written by code or a model; the user's words in passing; asked to be kept
_COLLECTIONS: tuple[Collection, ...] = ("pages", "seeds")
_LABEL = 80  # characters of a neighbour's text that are shown to people


class PageData(Record):
    """What is known of a page, beside its text and vector."""

    seed: str
    kind: str
    spec: int
    author: str
    trust: Trust = "corpus"


class SeedData(Record):
    """What is known of a seed's scene (`seed`), of one of its nodes (`node`) or of its name alone (`name`)."""

    seed: str
    kind: Literal["seed", "node", "name"]
    trust: Trust = "corpus"


class Neighbour(Record):
    """A remembered text near a question. `similarity` is the cosine, `label` the beginning of the text."""

    id: str
    seed: str
    kind: str
    similarity: float
    label: str


class Remembered(Record):
    """A text that an answer has read.

    Attributes:
        id: of the page, the turn or the note.
        seed: None for the user's own words.
        similarity: its cosine to the question.
        score: what it was ranked by: similarity times recency since it was last used.
        source: where it is from, in words that also stand in the prompt.
        trust: `corpus` for what code or a model wrote, `said` for the user's words, `note` for what they asked to be kept.
    """

    text: str
    seed: str | None
    similarity: float
    kind: str
    source: str
    id: str = ""
    trust: Trust = "corpus"
    score: float = 0.0


class Memory:
    """An open store.

    Args:
        folder: where the store lies.
        embedder: the one that made its vectors.
        made_from: hash of what a new store is made from; None opens an existing one only.

    Raises:
        DataError: there is no whole store in the folder.
        StorageError: a new one was to be made, and the disk is full.
    """

    def __init__(self, folder: Path, embedder: Embedder, *, made_from: str | None = None) -> None:
        self.folder, self.embedder = folder, embedder
        self.vector = lru_cache(maxsize=64)(self._vector)
        self.store = Store(folder, _COLLECTIONS, made_from)
        self.made_from = self.store.made_from

    def close(self) -> None:
        """Let go of the folder."""
        self.store.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────

    def nearest(self, questions: Sequence[str], count: int, *,
                without: Sequence[str] | None = None) -> list[list[Neighbour]]:
        """The nearest pages, seeds and nodes of each question, the nearest first.

        Args:
            without: for each question the id of a page that must not be found (a page never finds itself).
        """
        if not questions:
            return []
        vectors = self.vector(questions[0])[None] if len(questions) == 1 else self.embedder.quick(questions)
        found = self._nearest_seeds(vectors, count)
        rows = self.store.query("pages", vectors, count + (without is not None))
        for place, row in enumerate(rows):
            found[place] += [_neighbour(key, text, data, similarity) for key, text, data, similarity in row
                             if without is None or key != without[place]]
        return [sorted(row, key=lambda one: (-one.similarity, one.id))[:count] for row in found]

    def _nearest_seeds(self, vectors: NDArray[np.float32], count: int) -> list[list[Neighbour]]:
        """The nearest scenes, nodes and names; by a product with all of them, which takes 0.2 ms for 2,500, a query 1.2."""
        ids, texts, known, metadata = self._scenes
        if not ids:
            return [[] for _ in vectors]
        cosines = vectors @ known.T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        return [[_neighbour(ids[i], texts[i], metadata[i], float(cosines[place, i])) for i in row]
                for place, row in enumerate(nearest)]

    @cached_property
    def _scenes(self) -> tuple[list[str], list[str], NDArray[np.float32], list[dict[str, Any]]]:
        """The whole collection `seeds`: ids, texts, vectors, metadata. A hundred seeds are 4 MB."""
        ids = self.known("seeds")
        texts, vectors, metadata = self.store.get("seeds", ids)
        return ids, texts, vectors, metadata

    def pages(self, question: str, seed: str, title: str, count: int) -> list[Remembered]:
        """The pages of one seed that are nearest to the question."""
        return self._pages(question, {"seed": seed}, {seed: title}, count)

    def pages_of_all(self, question: str, titles: Mapping[str, str], count: int) -> list[Remembered]:
        """The pages that are nearest to the question, of whichever seed; `titles` is {seed: what it is called}."""
        return self._pages(question, None, titles, count)

    def _pages(self, question: str, where: Mapping[str, str] | None, titles: Mapping[str, str], count: int) -> list[Remembered]:
        if count < 1:
            return []
        row = self.store.query("pages", self.vector(question)[None], count, where)[0]
        return [Remembered(text=text, seed=str(data["seed"]), similarity=similarity, kind=str(data["kind"]), id=key,
                           score=similarity, source=f"page {data['spec']} of “{titles.get(str(data['seed']), data['seed'])}”, "
                                                    f"{data['kind']}, author {data['author']}")
                for key, text, data, similarity in row]

    def known(self, collection: Collection) -> list[str]:
        """The ids in a collection, sorted."""
        return self.store.known(collection)

    def count(self, collection: Collection) -> int:
        """How many texts a collection holds."""
        return self.store.count(collection)

    def stored(self, collection: Collection, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Texts and vectors [ids, dimensions] of these ids, in their order."""
        return self.store.get(collection, ids)[:2]

    def sound(self, samples: int = 8) -> bool:
        """Whether texts still find themselves: a damaged index often answers, only with the wrong neighbours."""
        try:
            for collection in _COLLECTIONS:
                ids = self.known(collection)
                ids = ids[:: max(1, len(ids) // samples)][:samples]
                if not ids:
                    continue
                texts, _ = self.stored(collection, ids)
                rows = self.store.query(collection, self.embedder.quick(texts), 1)
                if any(not row or row[0][3] < 0.98 for row in rows):
                    return False
        except DataError:
            return False
        return True

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, collection: Collection, ids: Sequence[str], texts: Sequence[str],
            metadata: Sequence[PageData | SeedData]) -> None:
        """Embed and store texts; an id that is there already is replaced.

        Raises:
            StorageError: the disk is full.
        """
        self.__dict__.pop("_scenes", None)
        if ids:
            self.store.put(collection, ids, texts, self.embedder.quick(texts), [one.model_dump() for one in metadata])

    def _vector(self, text: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self.embedder.quick([text])[0]
        return vector


def _neighbour(key: str, text: str, data: Mapping[str, Any], similarity: float) -> Neighbour:
    return Neighbour(id=key, seed=str(data["seed"]), kind=str(data["kind"]), similarity=similarity,
                     label=" ".join(text.split())[:_LABEL])
