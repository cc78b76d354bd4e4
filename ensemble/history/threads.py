"""The conversations of a run, in conversations.sqlite.

    checkpoints    LangGraph's: the turns of each thread, its last whole state only
    conversations  title, times and number of turns of each thread
    turns          every whole turn with its reasons; turns_fts finds words in them (FTS5)
    notes          what the user asked to be remembered
    state          the generation of the words' store, and whether an erasure is still to be finished

A checkpoint and its rows are written in one transaction, so that they cannot differ; a file of an older Rostok, which has
checkpoints only, is completed when it is opened. What is taken away here is erased: `secure_delete` overwrites it, and
`sweep` writes the file anew.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from rostok.ensemble.history.answer import Answer, Conversation, Hit, Note, Transcript, Turn
from rostok.ensemble.history.checkpoints import Checkpoints, Entries, join, split, telling
from rostok.errors import RunError, writing

_TITLE = 60  # characters of the first question that name a conversation
_LOOK = 0.05  # seconds between two looks at who speaks in a conversation that is to be held
_TABLES = """
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, named INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL,
    updated REAL NOT NULL, checkpoint TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS turns (
    place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, thread TEXT NOT NULL, number INTEGER NOT NULL, time REAL NOT NULL,
    question TEXT NOT NULL, text TEXT NOT NULL, speaker TEXT NOT NULL, answer TEXT);
CREATE INDEX IF NOT EXISTS turns_of ON turns (thread, number);
CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, time REAL NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS turns_fts USING fts5(
    question, text, content='turns', content_rowid='place', tokenize='unicode61 remove_diacritics 2');
CREATE TRIGGER IF NOT EXISTS turns_in AFTER INSERT ON turns BEGIN
    INSERT INTO turns_fts (rowid, question, text) VALUES (new.place, new.question, new.text); END;
CREATE TRIGGER IF NOT EXISTS turns_out AFTER DELETE ON turns BEGIN
    INSERT INTO turns_fts (turns_fts, rowid, question, text) VALUES ('delete', old.place, old.question, old.text); END;
CREATE TRIGGER IF NOT EXISTS turns_new AFTER UPDATE OF question, text ON turns BEGIN
    INSERT INTO turns_fts (turns_fts, rowid, question, text) VALUES ('delete', old.place, old.question, old.text);
    INSERT INTO turns_fts (rowid, question, text) VALUES (new.place, new.question, new.text); END;
"""
_LISTED = ("SELECT id, title, created, updated, (SELECT count(*) FROM turns WHERE thread = conversations.id) "
           "FROM conversations")


@contextmanager
def open_conversations(path: Path) -> Iterator[Conversations]:
    """The conversations in this file, which is made where there is none.

    Raises:
        DataError: the file is no SQLite database, or a damaged one.
        StorageError: the disk is full.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))  # people's words; SQLite gives its journals the same mode
        with suppress(PermissionError):  # somebody else's file
            path.chmod(0o600)
    with telling(path), closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        yield Conversations(connection)


@dataclass(frozen=True)
class Making:
    """An answer in the making.

    Attributes:
        stop: ends it.
        holds: {id: text} of the user's words that it is made of, the question too.
    """

    stop: threading.Event
    holds: dict[str, str]


class Conversations:
    """All conversations of a run. May be used from many threads at once; opened by `open_conversations`.

    Attributes:
        checkpoints: what LangGraph keeps its threads in.
        changed: called after turns or notes have come or gone, other than by an answer; set by who keeps the words' vectors.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.create_function("folded", 1, folded, deterministic=True)
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")  # VACUUM's copy must not lie in a temporary file
        self.checkpoints = Checkpoints(connection, self._follow)
        self.changed: Callable[[], None] = lambda: None
        self._locks: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()  # type: ignore[type-arg]
        self._naming = threading.Lock()
        self._making: dict[str, Making] = {}  # by thread
        connection.executescript(_TABLES)
        self._complete()

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────

    def list(self) -> Sequence[Conversation]:
        """All conversations, the one spoken in last first."""
        return [_listed(row) for row in self._rows(f"{_LISTED} ORDER BY updated DESC, id DESC")]

    def get(self, thread: str) -> Conversation:
        """One conversation. Raises `RunError` when there is none of that id."""
        rows = self._rows(f"{_LISTED} WHERE id = ?", thread)
        if not rows:
            raise RunError(f"there is no conversation '{thread}'. `rostok chats RUN` lists them all.")
        return _listed(rows[0])

    def last(self) -> Conversation | None:
        """The conversation spoken in last."""
        rows = self._rows(f"{_LISTED} ORDER BY updated DESC, id DESC LIMIT 1")
        return _listed(rows[0]) if rows else None

    def turns(self, thread: str) -> Sequence[Turn]:
        """The whole turns of a conversation; none where there is no such conversation."""
        return [_turn(row) for row in self._rows(
            "SELECT id, number, time, question, text, speaker, answer FROM turns WHERE thread = ? ORDER BY number", thread)]

    def search(self, text: str, count: int = 50) -> Sequence[Hit]:
        """Turns in which all words of `text` occur, each also as the beginning of a longer word; the best first."""
        words = [word for word in "".join(c if c.isalnum() else " " for c in text).split() if word]
        if not words:
            return []
        rows = self._rows(
            "SELECT turns.thread, conversations.title, turns.id, turns.number, snippet(turns_fts, -1, '⟦', '⟧', '…', 16) "
            "FROM turns_fts JOIN turns ON turns.place = turns_fts.rowid JOIN conversations ON conversations.id = turns.thread "
            "WHERE turns_fts MATCH ? ORDER BY rank, turns.time DESC LIMIT ?", " ".join(f'"{word}"*' for word in words), count)
        return [Hit(thread=row[0], title=row[1], turn=row[2], number=row[3], snippet=" ".join(row[4].split())) for row in rows]

    def export(self, threads: Sequence[str] | None = None) -> Iterator[Transcript]:
        """The conversations with all that was said in them, the oldest first; None takes all.

        Raises:
            RunError: there is no conversation of such an id.
        """
        chosen = self.list()[::-1] if threads is None else [self.get(thread) for thread in threads]
        for one in chosen:
            yield Transcript(**one.model_dump(), said=tuple(self.turns(one.id)))

    def notes(self) -> Sequence[Note]:
        """What the user asked to be remembered, the oldest first."""
        return [Note(id=row[0], time=row[1], text=row[2])
                for row in self._rows("SELECT id, time, text FROM notes ORDER BY time, id")]

    def words(self) -> dict[str, tuple[str, int, float, str]]:
        """{turn's id: (thread, number, time, what the user said)}."""
        return {row[0]: (row[1], row[2], row[3], row[4])
                for row in self._rows("SELECT id, thread, number, time, question FROM turns ORDER BY place")}

    def find(self, what: str) -> tuple[Sequence[Note], Sequence[tuple[str, Turn]]]:
        """The notes, and the turns with their threads, of this id or with this text in them, whatever the case."""
        wanted = folded(what)
        if not wanted:
            return [], []
        notes = [note for note in self.notes() if note.id == what or wanted in folded(note.text)]
        rows = self._rows(
            "SELECT id, number, time, question, text, speaker, answer, thread FROM turns WHERE id = ? OR thread = ? "
            "OR instr(folded(question), ?) OR instr(folded(text), ?) ORDER BY time, place", what, what, wanted, wanted)
        return notes, [(row[7], _turn(row[:7])) for row in rows]

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def speaking(self, thread: str, making: Making | None = None) -> Iterator[None]:
        """Hold a conversation: two questions in one at the same time would each lose the other's turn."""
        with self._lock_of(thread):
            if making is None:
                yield
                return
            self._making[thread] = making
            try:
                yield
            finally:
                self._making.pop(thread, None)

    @contextmanager
    def _stilled(self, thread: str) -> Iterator[None]:
        """Hold a conversation that is to be cut. Nobody waits for a whole answer there: it is stopped."""
        lock = self._lock_of(thread)
        while True:
            making = self._making.get(thread)
            if making is not None:
                making.stop.set()
            if lock.acquire(timeout=_LOOK):
                break
        try:
            yield
        finally:
            lock.release()

    def _lock_of(self, thread: str) -> threading.RLock:
        with self._naming:
            return self._locks.setdefault(thread, threading.RLock())

    def fork(self, thread: str, upto: int) -> str:
        """A new conversation with the first `upto` turns of this one. Returns its id.

        Raises:
            RunError: there is no such conversation, or it has fewer turns.
        """
        old, said = self.get(thread), self.turns(thread)
        if not 0 < upto <= len(said):
            raise RunError(f"“{old.title}” has {old.turns} turns; it can be continued anew after 1 to {old.turns} of them.")
        new, now = new_thread(), time.time()
        copied = [turn.model_copy(update={"id": new_turn()}) for turn in said[:upto]]
        with self.speaking(new), self.checkpoints.cursor() as cursor:
            entries: Entries = []
            for before, after in zip(self.checkpoints.read(thread), split(copied), strict=False):
                entries.append({**before, **after})
            self.checkpoints.write(new, entries, like=thread)
            for turn in copied:
                if turn.answer is not None:
                    answer = turn.answer.model_copy(update={"id": turn.id})
                    cursor.execute("UPDATE turns SET answer = ? WHERE id = ?", (answer.line(), turn.id))
            cursor.execute("UPDATE conversations SET (title, named) = (SELECT title, named FROM conversations WHERE id = ?), "
                           "created = ?, updated = ? WHERE id = ?", (thread, now, now, new))
        self.changed()
        return new

    def rename(self, thread: str, title: str) -> None:
        """Give a conversation another title; an empty one names it after its first question again."""
        self.get(thread)
        with self.checkpoints.cursor() as cursor:
            cursor.execute("UPDATE conversations SET title = ?, named = ? WHERE id = ?",
                           (short(title, 200) or self._named_after(thread), int(bool(title.strip())), thread))

    def drop_last(self, thread: str) -> None:
        """Take the last turn of a conversation away. Raises `RunError` when there is none."""
        with self._stilled(thread):
            said = self.turns(thread)
            if not said:
                raise RunError("nothing was said in this conversation yet.")
            self.erase([said[-1].id])

    def delete(self, thread: str) -> None:
        """Take a whole conversation away. Raises `RunError` when there is none."""
        self.get(thread)
        with self._stilled(thread):
            self.erase([turn.id for turn in self.turns(thread)])

    def add_note(self, text: str) -> Note:
        """Keep something in every conversation."""
        note = Note(id=f"n-{secrets.token_hex(4)}", time=time.time(), text=text.strip())
        with self.checkpoints.cursor() as cursor:
            cursor.execute("INSERT INTO notes (id, time, text) VALUES (?, ?, ?)", (note.id, note.time, note.text))
        self.changed()
        return note

    # ── erasing ─────────────────────────────────────────────────────────────────────────────────────────────

    def settle(self, ids: Collection[str], text: str = "") -> None:
        """Stop the answers in the making that hold what is to be erased, and wait until what they said is kept."""
        gone, wanted = set(ids), folded(text)
        threads = {row[1] for row in self._rows("SELECT id, thread FROM turns") if row[0] in gone}
        threads |= {thread for thread, making in list(self._making.items())
                    if any(key in gone or (wanted and wanted in folded(held)) for key, held in list(making.holds.items()))}
        for thread in sorted(threads):
            with self._stilled(thread):
                pass

    def erase(self, ids: Collection[str], text: str = "") -> int:
        """Erase turns and notes of these ids, and what other turns have quoted of them. Returns how many they were.

        Args:
            text: what is to be forgotten, where it is known: titles and quotations that hold it go too.

        Once the transaction is through, the rest happens now or, after a kill, when the run is opened next.
        """
        gone = set(ids)
        at = {row[0]: row[1] for row in self._rows("SELECT id, thread FROM turns") if row[0] in gone}
        with ExitStack() as stack:
            for thread in sorted(set(at.values())):
                stack.enter_context(self._stilled(thread))
            with self.checkpoints.cursor() as cursor:
                notes = sum(cursor.execute("DELETE FROM notes WHERE id = ?", (one,)).rowcount for one in sorted(gone))
                for thread in sorted(set(at.values())):
                    self._cut(thread, gone)
                self._unquote(cursor, gone, folded(text))
                if text:
                    self._untitle(cursor, folded(text))
                cursor.execute("INSERT INTO turns_fts (turns_fts) VALUES ('rebuild')")
                self._set(cursor, generation=self.generation + 1, erasing=1)
        self.changed()
        self.sweep()
        return len(at) + notes

    @property
    def generation(self) -> int:
        """How often something was erased. The words' store carries the number; one of another generation is not used."""
        rows = self._rows("SELECT value FROM state WHERE key = 'generation'")
        return int(rows[0][0]) if rows else 0

    def sweep(self) -> None:
        """Finish an erasure: write the file anew, so that no free page and no log holds what was erased."""
        if not self._rows("SELECT 1 FROM state WHERE key = 'erasing' AND value = 1"):
            return
        with self.checkpoints.lock, telling(self.checkpoints.path):
            connection = self.checkpoints.conn
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with self.checkpoints.cursor() as cursor:
                self._set(cursor, erasing=0)

    def _cut(self, thread: str, gone: Collection[str]) -> None:
        left = [turn for turn in join(self.checkpoints.read(thread), thread) if turn[0].id not in gone]
        if left:
            self.checkpoints.write(thread, [entry for _, pair in left for entry in pair])
        else:
            self.checkpoints.delete_thread(thread)
            with self.checkpoints.cursor() as cursor:
                cursor.execute("DELETE FROM turns WHERE thread = ?", (thread,))
                cursor.execute("DELETE FROM conversations WHERE id = ?", (thread,))

    def _unquote(self, cursor: sqlite3.Cursor, gone: Collection[str], text: str) -> None:
        quoting = """SELECT id, answer FROM turns WHERE instr(answer, '"trust":"said"') OR instr(answer, '"trust":"note"')"""
        for key, line in cursor.execute(quoting).fetchall():
            answer = Answer.model_validate_json(line)
            kept = tuple(one for one in answer.memories
                         if one.id not in gone and not (text and one.trust != "corpus" and text in folded(one.text)))
            if len(kept) < len(answer.memories):
                cursor.execute("UPDATE turns SET answer = ? WHERE id = ?",
                               (answer.model_copy(update={"memories": kept}).line(), key))

    def _untitle(self, cursor: sqlite3.Cursor, text: str) -> None:
        for (thread,) in cursor.execute("SELECT id FROM conversations WHERE instr(folded(title), ?)", (text,)).fetchall():
            cursor.execute("UPDATE conversations SET title = ?, named = 0 WHERE id = ?", (self._named_after(thread), thread))

    # ── the tables ──────────────────────────────────────────────────────────────────────────────────────────

    def _follow(self, cursor: sqlite3.Cursor, thread: str, checkpoint: str, entries: Entries,
                answer: Mapping[str, Any] | None) -> None:
        """Bring the rows of a thread in step with its checkpoint, in the checkpoint's own transaction."""
        said = {turn.id: turn for turn, _ in join(entries, thread)}
        known = {row[0]: row[1:] for row in cursor.execute(
            "SELECT id, number, question, text, speaker FROM turns WHERE thread = ?", (thread,))}
        for key in known.keys() - said.keys():
            cursor.execute("DELETE FROM turns WHERE id = ?", (key,))
        for key, turn in said.items():
            if key not in known:
                cursor.execute(
                    "INSERT INTO turns (id, thread, number, time, question, text, speaker) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (key, thread, turn.number, turn.time, turn.question, turn.text, turn.speaker))
            elif known[key] != (turn.number, turn.question, turn.text, turn.speaker):
                cursor.execute("UPDATE turns SET number = ?, question = ?, text = ?, speaker = ?, time = ? WHERE id = ?",
                               (turn.number, turn.question, turn.text, turn.speaker, turn.time, key))
        if answer is not None and answer.get("id") in said:
            kept = self._still_there(cursor, Answer.model_validate(answer))
            cursor.execute("UPDATE turns SET answer = ? WHERE id = ?", (kept.line(), kept.id))
        times = [turn.time for turn in said.values()] or [time.time()]
        cursor.execute(
            "INSERT INTO conversations (id, title, created, updated, checkpoint) VALUES (?, '', ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET updated = excluded.updated, checkpoint = excluded.checkpoint",
            (thread, min(times), max(times), checkpoint))
        cursor.execute("UPDATE conversations SET title = ? WHERE id = ? AND named = 0", (self._named_after(thread), thread))

    def _still_there(self, cursor: sqlite3.Cursor, answer: Answer) -> Answer:
        """The answer without the user's words that were erased while it was in the making."""
        def there(key: str, text: str) -> bool:
            cursor.execute("SELECT 1 FROM notes WHERE id = ? AND text = ? UNION ALL "
                           "SELECT 1 FROM turns WHERE id = ? AND question = ?", (key, text, key, text))
            return cursor.fetchone() is not None

        kept = tuple(one for one in answer.memories if one.trust == "corpus" or there(one.id, one.text))
        return answer.model_copy(update={"memories": kept})

    def _complete(self) -> None:
        """Read the threads whose rows are missing or behind: those of an older Rostok."""
        rows = self._rows("SELECT thread_id, max(checkpoint_id), coalesce(conversations.checkpoint, '') FROM checkpoints "
                          "LEFT JOIN conversations ON id = thread_id GROUP BY thread_id")
        for thread, newest, known in rows:
            if newest != known:
                self.checkpoints.tidy(thread)
        if self._rows("SELECT 1 FROM conversations WHERE id NOT IN (SELECT thread_id FROM checkpoints)"):
            with self.checkpoints.cursor() as cursor:
                for table, key in (("turns", "thread"), ("conversations", "id")):
                    cursor.execute(f"DELETE FROM {table} WHERE {key} NOT IN (SELECT thread_id FROM checkpoints)")

    def _named_after(self, thread: str) -> str:
        rows = self._rows("SELECT question FROM turns WHERE thread = ? ORDER BY number LIMIT 1", thread)
        return short(rows[0][0], _TITLE) if rows else ""

    def _set(self, cursor: sqlite3.Cursor, **values: int) -> None:
        for key, value in values.items():
            cursor.execute("INSERT OR REPLACE INTO state (key, value) VALUES (?, ?)", (key, value))

    def _rows(self, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
        kept = self.checkpoints
        with kept.lock, telling(kept.path), closing(kept.conn.execute(query, values)) as found:
            return found.fetchall()


def _listed(row: tuple[Any, ...]) -> Conversation:
    return Conversation(id=row[0], title=row[1], created=row[2], updated=row[3], turns=row[4])


def _turn(row: tuple[Any, ...]) -> Turn:
    key, number, when, question, text, speaker, answer = row
    return Turn(id=key, number=number, time=when, question=question, text=text, speaker=speaker,
                answer=None if answer is None else Answer.model_validate_json(answer))


def new_thread() -> str:
    """An id for a conversation: the moment, and something that no other shell has drawn."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def new_turn() -> str:
    """An id for a turn."""
    return f"t-{secrets.token_hex(6)}"


def folded(text: str) -> str:
    """A text as it is compared: without case, and with single spaces."""
    return " ".join(text.casefold().split())


def short(text: str, length: int) -> str:
    """The beginning of a text in one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
