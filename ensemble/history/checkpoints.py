"""LangGraph's checkpointer over conversations.sqlite: of every thread its whole turns, and nothing else.

A checkpoint as LangGraph makes it also holds the question, what was recalled and the answer of the last turn, and every
turn leaves another one. What is forgotten would live on in them. So one checkpoint a thread is kept, its last, reduced to
the turns; and who follows is told of it in the same transaction.
"""

from __future__ import annotations

import datetime
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, get_checkpoint_metadata
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from rostok.ensemble.history.answer import Turn, turn_of
from rostok.errors import DataError, StorageError

Entries = list[dict[str, Any]]  # of a thread: what the user said and what was answered, in turn
Follow = Callable[[sqlite3.Cursor, str, str, Entries, Mapping[str, Any] | None], None]
_KEPT = ("thread", "turns")


class Checkpoints(SqliteSaver):
    """The checkpointer. May be used from many threads at once.

    Args:
        follow: called with (cursor, thread, checkpoint's id, turns, the last answer or None) before the commit.
    """

    def __init__(self, connection: sqlite3.Connection, follow: Follow) -> None:
        # Plain values only: a stranger's file must not name classes.
        super().__init__(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        self.lock = threading.RLock()  # type: ignore[assignment]  # so that one transaction may hold several steps
        self._depth = 0
        self._tell = follow
        self.path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
        self.setup()

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """A cursor; what is done inside, at whatever depth, is one transaction, taken back when it fails."""
        with self.lock, telling(self.path):
            self.setup()
            cursor = self.conn.cursor()
            self._depth += 1
            try:
                yield cursor
                if self._depth == 1:
                    self.conn.commit()
            except BaseException:
                self.conn.rollback()
                raise
            finally:
                self._depth -= 1
                cursor.close()

    def put(self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata,
            new_versions: ChannelVersions) -> RunnableConfig:
        """Keep the state of a thread, once a turn is whole; a turn that was broken off leaves nothing."""
        thread, values = str(config["configurable"]["thread_id"]), checkpoint["channel_values"]
        if not any(name.startswith("branch:") for name in values):  # a node that was still to run
            told = json.dumps(get_checkpoint_metadata(config, metadata), ensure_ascii=False).encode("utf-8", "ignore")
            with self.cursor() as cursor:
                self._keep(cursor, thread, checkpoint, told, list(values.get("turns", [])), values.get("answer"))
        return {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": checkpoint["id"]}}

    def put_writes(self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        """Nothing: a turn that was broken off is asked anew, never resumed."""

    def read(self, thread: str) -> Entries:
        """The turns of a thread; none where there is no such thread."""
        found = self.get_tuple({"configurable": {"thread_id": thread}})
        return list(found.checkpoint["channel_values"].get("turns", [])) if found else []

    def write(self, thread: str, entries: Entries, like: str | None = None) -> None:
        """Replace the turns of a thread, or begin one in the image of `like`."""
        with self.cursor() as cursor:
            checkpoint, metadata = self._newest(cursor, like or thread)
            self._keep(cursor, thread, checkpoint, metadata, entries, None)

    def tidy(self, thread: str) -> None:
        """Bring a thread that an older Rostok wrote into the form of this one; one without a whole turn goes."""
        with self.cursor() as cursor:
            checkpoint, metadata = self._newest(cursor, thread)
            spoken = datetime.datetime.fromisoformat(checkpoint["ts"]).timestamp()
            entries = [{"time": spoken, **entry} for entry in checkpoint["channel_values"].get("turns", [])]
            if entries:
                self._keep(cursor, thread, checkpoint, metadata, entries, None)
            else:
                self.delete_thread(thread)

    def _keep(self, cursor: sqlite3.Cursor, thread: str, checkpoint: Checkpoint, metadata: bytes, entries: Entries,
              answer: Mapping[str, Any] | None) -> None:
        values = {**checkpoint["channel_values"], "thread": thread, "turns": entries}
        lean = {**checkpoint, "channel_values": {name: values[name] for name in _KEPT}}
        kind, blob = self.serde.dumps_typed(lean)
        cursor.execute("DELETE FROM checkpoints WHERE thread_id = ?", (thread,))
        cursor.execute("DELETE FROM writes WHERE thread_id = ?", (thread,))
        cursor.execute("INSERT INTO checkpoints (thread_id, checkpoint_id, type, checkpoint, metadata) VALUES (?, ?, ?, ?, ?)",
                       (thread, checkpoint["id"], kind, blob, metadata))
        self._tell(cursor, thread, checkpoint["id"], entries, answer)

    def _newest(self, cursor: sqlite3.Cursor, thread: str) -> tuple[Checkpoint, bytes]:
        cursor.execute("SELECT type, checkpoint, metadata FROM checkpoints WHERE thread_id = ? "
                       "ORDER BY checkpoint_id DESC LIMIT 1", (thread,))
        kind, blob, metadata = cursor.fetchone()
        checkpoint: Checkpoint = self.serde.loads_typed((kind, blob))
        return checkpoint, metadata


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """What SQLite refuses, in one sentence: `StorageError` where the file is whole, else `DataError`."""
    try:
        yield
    except sqlite3.ProgrammingError:  # a bug, such as the use of a closed file
        raise
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code == sqlite3.SQLITE_FULL:
            raise StorageError(f"cannot write {path}: {error}. Free some space and ask again; "
                               "the turns before are kept.") from None
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StorageError(f"cannot use {path}: {error}. Close the other program that has it open, and ask again.") from None
        raise DataError(f"the conversations in {path} cannot be read or written ({error}). "
                        "Move that file away to begin anew.") from None


def join(entries: Entries, thread: str) -> list[tuple[Turn, Entries]]:
    """The turns in a thread's entries, each with the two that it is made of."""
    return [(turn_of(entries[place], entries[place + 1], place // 2, thread), entries[place : place + 2])
            for place in range(0, len(entries) - 1, 2)]


def split(turns: Sequence[Turn]) -> Entries:
    """The entries that turns are made of."""
    found: Entries = []
    for turn in turns:
        found.append({"role": "user", "content": turn.question, "title": "", "id": turn.id, "time": turn.time})
        found.append({"role": "assistant", "content": turn.text, "title": turn.speaker})
    return found
