"""What the ensemble remembers: a Chroma store inside the run folder, cosine space, vectors always passed in.

    pages   every page an expert was trained on, but for replay
    seeds   each seed as title and scene, and each of its nodes as `name: gloss`, so that a short question finds it
    turns   what the user said; a model's words are never kept as memories

The folder belongs to one process at a time (two writers corrupt it): callers hold the run. `rostok.ensemble.index`
fills the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import chromadb
import numpy as np
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings as ChromaSettings
from numpy.typing import NDArray

from rostok.embedder import Embedder
from rostok.errors import DataError, RostokError, writing
from rostok.records import Record

Collection = Literal["pages", "seeds", "turns"]
_COLLECTIONS: tuple[Collection, ...] = ("pages", "seeds", "turns")
_LABEL = 80  # characters of a neighbour's text that are shown to people


class Neighbour(Record):
    """A remembered text near a question. `similarity` is the cosine, `label` the beginning of the text."""

    id: str
    seed: str
    kind: str
    similarity: float
    label: str


class Remembered(Record):
    """A text that an answer has read. `source` says where it is from; `seed` is None for the user's own words."""

    text: str
    seed: str | None
    similarity: float
    kind: str
    source: str


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
        with self._asking(writes=made_from is not None):
            try:
                self._client = chromadb.PersistentClient(str(folder), ChromaSettings(anonymized_telemetry=False))
            except BaseException:
                # Chroma keeps the half-opened store in a process-wide table, where the next opening would meet it.
                SharedSystemClient._identifier_to_system.pop(str(folder), None)
                raise
        try:
            with self._asking(writes=made_from is not None):
                self._collections = {name: self._collection(name, made_from) for name in _COLLECTIONS}
                self.made_from = str((self._collections["pages"].metadata or {}).get("made_from", ""))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the folder."""
        self._client.close()

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
        found: list[list[Neighbour]] = [[] for _ in questions]
        for collection in ("pages", "seeds"):
            rows = self._query(collection, vectors, count + (without is not None))  # type: ignore[arg-type]
            for place, row in enumerate(rows):
                for key, text, data, similarity in row:
                    if without is None or key != without[place]:
                        found[place].append(Neighbour(
                            id=key, seed=str(data["seed"]), kind=str(data["kind"]), similarity=similarity,
                            label=" ".join(text.split())[:_LABEL]))
        return [sorted(row, key=lambda one: (-one.similarity, one.id))[:count] for row in found]

    def pages(self, question: str, seed: str, title: str, count: int) -> list[Remembered]:
        """The pages of one seed that are nearest to the question."""
        if count < 1:
            return []
        row = self._query("pages", self.vector(question)[None], count, {"seed": seed})[0]
        return [Remembered(text=text, seed=seed, similarity=similarity, kind=str(data["kind"]),
                           source=f"page {data['spec']} of “{title}”, {data['kind']}, author {data['author']}")
                for _, text, data, similarity in row]

    def said(self, question: str, thread: str, before: int, count: int, least: float) -> list[Remembered]:
        """The user's own turns of a thread, numbers below `before`, at least `least` similar to the question."""
        if count < 1 or before < 1:
            return []
        where = {"$and": [{"thread": thread}, {"number": {"$lt": before}}]}
        row = self._query("turns", self.vector(question)[None], count, where)[0]
        return [Remembered(text=text, seed=None, similarity=similarity, kind="user",
                           source=f"said by the user in turn {int(data['number']) + 1} of this conversation")
                for _, text, data, similarity in row if similarity >= least]

    def known(self, collection: Collection) -> list[str]:
        """The ids in a collection, sorted."""
        with self._asking():
            return sorted(self._collections[collection].get(include=[])["ids"])

    def count(self, collection: Collection) -> int:
        """How many texts a collection holds."""
        with self._asking():
            return int(self._collections[collection].count())

    def stored(self, collection: Collection, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Texts and vectors [ids, dimensions] of these ids, in their order."""
        with self._asking():
            got = self._collections[collection].get(ids=list(ids), include=["documents", "embeddings"])
            place = {key: row for row, key in enumerate(got["ids"])}
            rows = [place[key] for key in ids]
            vectors = np.asarray(got["embeddings"], np.float32).reshape(len(place), -1)
            return [got["documents"][row] for row in rows], vectors[rows]

    def sound(self, samples: int = 8) -> bool:
        """Whether texts still find themselves: a damaged index often answers, only with the wrong neighbours."""
        try:
            for collection in ("pages", "seeds"):
                ids = self.known(collection)  # type: ignore[arg-type]
                ids = ids[:: max(1, len(ids) // samples)][:samples]
                if not ids:
                    continue
                texts, _ = self.stored(collection, ids)  # type: ignore[arg-type]
                rows = self._query(collection, self.embedder.quick(texts), 1)  # type: ignore[arg-type]
                if any(not row or row[0][3] < 0.98 for row in rows):
                    return False
        except DataError:
            return False
        return True

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, collection: Collection, ids: Sequence[str], texts: Sequence[str],
            metadata: Sequence[Mapping[str, str | int]]) -> None:
        """Embed and store texts; an id that is there already is replaced.

        Raises:
            StorageError: the disk is full.
        """
        if not ids:
            return
        vectors = self.embedder.quick(texts)
        with self._asking(writes=True):
            self._collections[collection].upsert(
                ids=list(ids), embeddings=vectors, documents=list(texts),
                metadatas=[dict(one) for one in metadata])

    def add_turn(self, thread: str, number: int, text: str) -> None:
        """Keep what the user said. There is no such function for what a model said."""
        self.add("turns", [f"{thread}:{number}"], [text], [{"thread": thread, "number": number}])

    # ── Chroma ──────────────────────────────────────────────────────────────────────────────────────────────

    def _vector(self, text: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self.embedder.quick([text])[0]
        return vector

    def _collection(self, name: str, made_from: str | None) -> Any:
        if made_from is None:
            return self._client.get_collection(name, embedding_function=None)
        return self._client.get_or_create_collection(
            name, metadata={"made_from": made_from}, configuration={"hnsw": {"space": "cosine"}},
            embedding_function=None)

    def _query(self, collection: Collection, vectors: NDArray[np.float32], count: int,
               where: Mapping[str, Any] | None = None) -> list[list[tuple[str, str, dict[str, Any], float]]]:
        """Rows of (id, text, metadata, cosine) per vector, the nearest first."""
        with self._asking():
            got = self._collections[collection].query(
                query_embeddings=vectors, n_results=count, where=where,
                include=["documents", "metadatas", "distances"])
            return [
                [(key, text, data, 1.0 - float(distance)) for key, text, data, distance in zip(*row, strict=True)]
                for row in zip(got["ids"], got["documents"], got["metadatas"], got["distances"], strict=True)]

    @contextmanager
    def _asking(self, *, writes: bool = False) -> Iterator[None]:
        """Whatever Chroma raises over a damaged store, a panic of its Rust part too, as one sentence."""
        try:
            yield
        except RostokError:
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            if writes:
                _ask_the_disk(self.folder)
            raise DataError(f"the memory in {self.folder} cannot be read ({reason}). Run the same command again: "
                            "it is built anew from the corpora, and conversations are kept.") from None


def _ask_the_disk(folder: Path) -> None:
    """Raises `StorageError` where the disk takes no 4 MiB: Chroma calls a full disk an error of its compaction."""
    path = folder / ".room"
    with writing(path):
        try:
            path.write_bytes(bytes(4 << 20))
        finally:
            path.unlink(missing_ok=True)
