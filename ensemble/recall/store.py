"""A Chroma store in a folder: cosine space, vectors always passed in, damage told in one sentence.

The folder belongs to one process at a time (two writers corrupt it): callers hold the run.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings as ChromaSettings
from numpy.typing import NDArray

from rostok.errors import DataError, RostokError, RunError, writing

_HELD = 2.0  # seconds to wait for somebody else's transaction
_COUNT = slice(20, 28)  # of the vectors in an index, in the header of hnswlib as Chroma writes it

Found = tuple[str, str, dict[str, Any], float]  # id, text, metadata, cosine


class Store:
    """An open store. May be used from many threads at once.

    Args:
        folder: where it lies.
        names: of its collections.
        made_from: what a new store is made from; None opens an existing one only.

    Raises:
        DataError: there is no whole store in the folder.
        RunError: another process is writing to it.
        StorageError: a new one was to be made, and the disk is full.
    """

    def __init__(self, folder: Path, names: Sequence[str], made_from: str | None = None) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._settled: set[str] = set()  # collections whose index was opened
        if _is_held(folder / "chroma.sqlite3"):  # Chroma would wait for ever
            raise RunError(f"the memory in {folder} is held by another process. End whatever has opened it, and try again.")
        with self._asking(writes=made_from is not None):
            try:
                self._client = chromadb.PersistentClient(str(folder), ChromaSettings(anonymized_telemetry=False))
            except BaseException:
                # Chroma keeps the half-opened store in a process-wide table, where the next opening would meet it.
                SharedSystemClient._identifier_to_system.pop(str(folder), None)
                raise
        try:
            with self._asking(writes=made_from is not None):
                self._collections = {name: self._collection(name, made_from) for name in names}
                self.made_from = str((self._collections[names[0]].metadata or {}).get("made_from", ""))
                for name in names:
                    self._settle(name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the folder."""
        self._client.close()

    def query(self, name: str, vectors: NDArray[np.float32], count: int,
              where: Mapping[str, Any] | None = None) -> list[list[Found]]:
        """The `count` nearest texts of each vector [vectors, dimensions], the nearest first."""
        with self._asking():
            got = self._collections[name].query(
                query_embeddings=vectors, n_results=count, where=where,
                include=["documents", "metadatas", "distances"])
            return [
                [(key, text, data, 1.0 - float(distance)) for key, text, data, distance in zip(*row, strict=True)]
                for row in zip(got["ids"], got["documents"], got["metadatas"], got["distances"], strict=True)]

    def known(self, name: str) -> list[str]:
        """The ids in a collection, sorted."""
        with self._asking():
            return sorted(self._collections[name].get(include=[])["ids"])

    def count(self, name: str) -> int:
        """How many texts a collection holds."""
        with self._asking():
            return int(self._collections[name].count())

    def get(self, name: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32], list[dict[str, Any]]]:
        """Texts, vectors [ids, dimensions] and metadata of these ids, in their order."""
        if not ids:
            return [], np.zeros((0, 0), np.float32), []
        with self._asking():
            got = self._collections[name].get(ids=list(ids), include=["documents", "embeddings", "metadatas"])
            place = {key: row for row, key in enumerate(got["ids"])}
            rows = [place[key] for key in ids]
            vectors = np.asarray(got["embeddings"], np.float32).reshape(len(place), -1)
            return [got["documents"][row] for row in rows], vectors[rows], [dict(got["metadatas"][row]) for row in rows]

    def put(self, name: str, ids: Sequence[str], texts: Sequence[str], vectors: NDArray[np.float32],
            metadata: Sequence[Mapping[str, Any]]) -> None:
        """Store texts with their vectors; an id that is there already is replaced. Raises `StorageError` on a full disk."""
        if ids:
            with self._asking(writes=True):
                self._collections[name].upsert(ids=list(ids), embeddings=vectors, documents=list(texts),
                                               metadatas=[dict(one) for one in metadata])
                self._settle(name)

    def mark(self, name: str, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> None:
        """Change fields of the metadata of these ids."""
        if ids:
            with self._asking(writes=True):
                self._collections[name].update(ids=list(ids), metadatas=[dict(one) for one in metadata])

    def _collection(self, name: str, made_from: str | None) -> Any:
        if made_from is None:
            return self._client.get_collection(name, embedding_function=None)
        return self._client.get_or_create_collection(
            name, metadata={"made_from": made_from}, configuration={"hnsw": {"space": "cosine"}},
            embedding_function=None)

    def _settle(self, name: str) -> None:
        """Have Chroma open the index of a collection, and clean up after it.

        As long as that holds fewer than a thousand vectors it is in no file, and Chroma writes room for it in its place as it
        got it from the system's allocator: whatever the process had in memory before, forgotten words too. Nothing reads
        these bytes; the next opening writes such again.
        """
        if name in self._settled:
            return
        one = self._collections[name].get(limit=1, include=["embeddings"])["embeddings"]
        if not len(one):
            return  # there is no index before the first vector
        self._collections[name].query(query_embeddings=one, n_results=1, include=[])
        self._settled.add(name)
        for header in self.folder.glob("*/header.bin"):
            if int.from_bytes(header.read_bytes()[_COUNT], "little") == 0:
                for path in (header.with_name("data_level0.bin"), header.with_name("length.bin")):
                    with path.open("r+b") as file:
                        file.write(bytes(path.stat().st_size))

    @contextmanager
    def _asking(self, *, writes: bool = False) -> Iterator[None]:
        """Whatever Chroma raises over a damaged store, a panic of its Rust part too, as one sentence."""
        try:
            with self._lock:
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


def _is_held(path: Path) -> bool:
    """Whether another process keeps the store's database to itself. What is wrong with the file else is Chroma's to tell."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=_HELD, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.DatabaseError:
        return False
    return False


def _ask_the_disk(folder: Path) -> None:
    """Raises `StorageError` where the disk takes no 4 MiB: Chroma calls a full disk an error of its compaction."""
    path = folder / ".room"
    with writing(path):
        try:
            path.write_bytes(bytes(4 << 20))
        finally:
            path.unlink(missing_ok=True)
