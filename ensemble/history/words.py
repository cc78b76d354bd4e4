"""The user's own words, so that a question finds them: a Chroma store of its own, memory/words-<generation>.

    turns  what the user said; a model's words are never kept as memories
    notes  what the user asked to be remembered (`/remember`)

All of it is made from conversations.sqlite, and can be made again. Chroma keeps deleted texts in its queue and deleted
vectors in its index (chroma#7659, #7693), so nothing is ever deleted in this store: erasing raises the generation in
conversations.sqlite, and `sync` copies the survivors into a fresh folder, which gets its name when it is whole, and then
removes the old one. A kill at any moment leaves one of the two, and the next `sync` goes on.

    score = similarity x 2^(-time since last use / half-life)
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rostok.config import EnsembleSettings
from rostok.embedder import Embedder
from rostok.ensemble.history.threads import Conversations
from rostok.ensemble.recall.memory import Remembered, Trust
from rostok.ensemble.recall.store import Found, Store
from rostok.errors import DataError, writing
from rostok.records import Record

Collection = Literal["turns", "notes"]
_COLLECTIONS: tuple[Collection, ...] = ("turns", "notes")
_SAID = 0.35   # all-MiniLM-L6-v2: "I am a baker"/"what is my job?" 0.37, unrelated pairs up to 0.21
_NOTED = 0.25  # a note was asked for, so it may lie a little further
_LOOK = 8      # so many times what is asked for is looked at, since recency may turn the order
_SAMPLES = 8  # texts that must find themselves before a store is trusted
_DAY = 86400.0


class TurnData(Record):
    """What is known of something the user said. Times are seconds since 1970."""

    thread: str
    number: int
    time: float
    used: float
    trust: Trust = "said"


class NoteData(Record):
    """What is known of a note."""

    time: float
    used: float
    trust: Trust = "note"


class Words:
    """The open store. May be used from many threads at once.

    Args:
        folder: the run's memory folder.
        embedder: None where only removals are to be followed; what is missing is embedded by the next owner.
        vector: of a question, from a cache that others share.
    """

    def __init__(self, folder: Path, conversations: Conversations, embedder: Embedder | None = None,
                 vector: Callable[[str], NDArray[np.float32]] | None = None,
                 clock: Callable[[], float] = time.time) -> None:
        self.folder, self.conversations, self.embedder = folder, conversations, embedder
        self._vector = vector or (lambda text: self._embed([text])[0])
        self._clock = clock
        self._lock = threading.RLock()
        self._store: Store | None = None
        self._generation = -1
        self._coming: dict[str, tuple[str, TurnData]] = {}  # added here, not yet in conversations.sqlite
        self.sync()

    def close(self) -> None:
        """Let go of the folder."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────

    def recall(self, question: str, settings: EnsembleSettings, *, thread: str | None = None, before: int = 0,
               count: int = 2) -> list[Remembered]:
        """Notes that bear on a question, and what the user said earlier that does; the best score first in each.

        Args:
            thread: the conversation; None recalls notes only.
            before: turns of it from this number on are read again anyhow, and not recalled.
            count: the most of either kind.
        """
        vector = self._vector(question)[None]
        found = self._best("notes", vector, None, count, _NOTED, settings.note_half_life)
        if thread is not None:
            mine: dict[str, Any] = {"$and": [{"thread": thread}, {"number": {"$lt": before}}]}
            where: dict[str, Any] = {"$or": [mine, {"thread": {"$ne": thread}}]} if settings.recall_all else mine
            if before > 0 or settings.recall_all:
                found += self._best("turns", vector, where, count, _SAID, settings.turn_half_life, thread)
        return found

    def used(self, ids: Sequence[str]) -> None:
        """Note that an answer has read these, now."""
        now = self._clock()
        with self._lock:
            store = self._opened()
            for name in _COLLECTIONS:
                known = [key for key in ids if key.startswith("n-") == (name == "notes")]
                store.mark(name, known, [{"used": now}] * len(known))

    def known(self, name: Collection) -> list[str]:
        """The ids in a collection, sorted."""
        with self._lock:
            return self._opened().known(name)

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────

    def add_turn(self, key: str, thread: str, number: int, text: str) -> None:
        """Keep what the user said, until `settle`; then, if the turn is kept. There is no such function for what a model said."""
        now = self._clock()
        data = TurnData(thread=thread, number=number, time=now, used=now)
        vector = self._vector(text)[None]
        with self._lock:
            self._opened().put("turns", [key], [text], vector, [data.model_dump()])
            self._coming[key] = (text, data)

    def settle(self, key: str) -> None:
        """The turn is in conversations.sqlite now, or it failed: then the next `sync` removes what `add_turn` has kept of it."""
        with self._lock:
            self._coming.pop(key, None)

    def sync(self) -> None:
        """Bring the store in step with conversations.sqlite; see above.

        Raises:
            StorageError: the disk is full. What was erased is not recalled any more, and is removed by the next call.
        """
        with self._lock:
            wanted, turns, notes = self.conversations.generation, self.conversations.words(), self.conversations.notes()
            texts = {"turns": {key: row[3] for key, row in turns.items()}, "notes": {note.id: note.text for note in notes}}
            data: dict[str, dict[str, TurnData | NoteData]] = {
                "turns": {key: TurnData(thread=thread, number=number, time=when, used=when)
                          for key, (thread, number, when, _) in turns.items()},
                "notes": {note.id: NoteData(time=note.time, used=note.time) for note in notes}}
            for key, (text, coming) in self._coming.items():  # somebody's turn that is about to be whole
                texts["turns"][key], data["turns"][key] = text, coming
            if self._generation != wanted or not self._fits(texts):
                self._renew(wanted, texts, data)
            for name in _COLLECTIONS:
                self._fill(name, texts[name], data[name])

    def _fits(self, texts: dict[str, dict[str, str]]) -> bool:
        """Whether the open store holds nothing but what it should, and still finds it: a damaged index often answers."""
        try:
            for name in _COLLECTIONS:
                known = self.known(name)
                if not set(known) <= texts[name].keys():
                    return False
                ids = known[:: max(1, len(known) // _SAMPLES)][:_SAMPLES]
                _, vectors, _ = self._opened().get(name, ids)
                if ids and any(not row or row[0][3] < 0.98 for row in self._opened().query(name, vectors, 1)):
                    return False
        except DataError:
            return False
        return True

    def _renew(self, generation: int, texts: dict[str, dict[str, str]],
               data: dict[str, dict[str, TurnData | NoteData]]) -> None:
        """A fresh store with the survivors, in the place of every older one."""
        target = self.folder / f"words-{generation}"
        if self._store is None and target.is_dir():
            self._open(target)  # the usual start
            if self._store is not None and self._fits(texts):
                self._generation = generation
                self._remove_others(target)
                return
        kept = self._survivors(texts)
        self.close()
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"words-{generation}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(mode=0o700, exist_ok=True)
        fresh = Store(part, _COLLECTIONS, "words")
        try:
            for name, (ids, vectors, used) in kept.items():
                fresh.put(name, ids, [texts[name][key] for key in ids], vectors, [
                    {**data[name][key].model_dump(), "used": used[key]} for key in ids])
        finally:
            fresh.close()
        with writing(self.folder):
            shutil.rmtree(target, ignore_errors=True)  # of this generation, and damaged
            part.rename(target)
        self._remove_others(target)
        self._open(target)
        self._generation = generation

    def _survivors(self, texts: dict[str, dict[str, str]]) -> dict[str, tuple[list[str], NDArray[np.float32], dict[str, float]]]:
        """By collection: ids that stay, their vectors and when they were last used, from whichever store still opens."""
        if self._store is None:
            for path in sorted(self.folder.glob("words-*"), key=_age, reverse=True):
                if path.suffix != ".part" and self._store is None:
                    self._open(path)
        kept: dict[str, tuple[list[str], NDArray[np.float32], dict[str, float]]] = {}
        for name in _COLLECTIONS:
            try:
                ids = [key for key in self.known(name) if key in texts[name]] if self._store is not None else []
                old, vectors, found = self._opened().get(name, ids) if ids else ([], np.zeros((0, 0), np.float32), [])
            except DataError:
                ids, old, vectors, found = [], [], np.zeros((0, 0), np.float32), []
            same = [place for place, key in enumerate(ids) if old[place] == texts[name][key]]
            kept[name] = ([ids[place] for place in same], vectors[same], {
                ids[place]: float(found[place].get("used", 0.0)) for place in same})
        return kept

    def _fill(self, name: Collection, texts: dict[str, str], data: dict[str, TurnData | NoteData]) -> None:
        known = set(self.known(name))
        missing = [key for key in texts if key not in known]
        if missing and self.embedder is not None:
            found = [texts[key] for key in missing]
            self._opened().put(name, missing, found, self._embed(found), [data[key].model_dump() for key in missing])

    def _open(self, path: Path) -> None:
        with suppress(PermissionError):  # somebody else's run
            path.chmod(0o700)
        try:
            self._store = Store(path, _COLLECTIONS)
        except DataError:
            self._store = None  # damaged: made anew from the conversations

    def _opened(self) -> Store:
        if self._store is None:
            raise DataError(f"the words in {self.folder} are closed. Run the same command again.")
        return self._store

    def _remove_others(self, target: Path) -> None:
        for path in self.folder.glob("words-*"):
            if path != target:
                with writing(path):
                    shutil.rmtree(path)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.embedder is None:
            raise DataError("nothing can be looked for without an embedder.")
        return self.embedder.embed(texts)

    def _best(self, name: Collection, vector: NDArray[np.float32], where: dict[str, Any] | None, count: int,
              least: float, half_life: float, thread: str | None = None) -> list[Remembered]:
        if count < 1:
            return []
        with self._lock:
            row = self._opened().query(name, vector, _LOOK * count, where)[0]
        now = self._clock()
        scored = [(one, one[3] * recency(now - float(one[2]["used"]), half_life)) for one in row if one[3] >= least]
        scored.sort(key=lambda pair: (-pair[1], pair[0][0]))
        return [_remembered(name, one, score, thread) for one, score in scored[:count]]


def recency(seconds: float, half_life: float) -> float:
    """1 for what was used just now, a half after `half_life` days, and so on; always 1 where that is 0."""
    return 1.0 if half_life <= 0 else float(2.0 ** (-max(0.0, seconds) / _DAY / half_life))


def _remembered(name: Collection, found: Found, score: float, thread: str | None) -> Remembered:
    key, text, data, similarity = found
    if name == "notes":
        source = "noted by the user on " + time.strftime("%Y-%m-%d", time.localtime(float(data["time"])))
    else:
        where = "this conversation" if data["thread"] == thread else "another conversation"
        source = f"said by the user in turn {int(data['number']) + 1} of {where}"
    return Remembered(text=text, seed=None, similarity=similarity, kind="note" if name == "notes" else "user", source=source,
                      id=key, trust="note" if name == "notes" else "said", score=round(score, 4))


def _age(path: Path) -> int:
    number = path.name.removeprefix("words-")
    return int(number) if number.isdigit() else -1
