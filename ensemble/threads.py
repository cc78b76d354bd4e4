"""The conversations of a run: one LangGraph thread each, checkpointed in conversations.sqlite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from rostok.errors import DataError, StorageError, writing


@contextmanager
def open_threads(path: Path) -> Iterator[SqliteSaver]:
    """The checkpointer over this file. It reads plain values only: a stranger's file must not name classes.

    Raises:
        DataError: the file is no SQLite database, or a damaged one.
        StorageError: the disk is full.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
            saver = SqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
            saver.setup()
            yield saver
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise StorageError(f"cannot write {path}: {error}. Free some space and ask again; "
                               "the turns before are kept.") from None
        raise DataError(f"the conversations in {path} cannot be read or written ({error}). "
                        "Move that file away to begin anew.") from None


def user_turns(path: Path) -> list[tuple[str, int, str]]:
    """(thread, number, text) of everything the user said, in all conversations that have an answer."""
    if not path.is_file():
        return []
    with open_threads(path) as saver:
        rows = saver.conn.execute("SELECT DISTINCT thread_id FROM checkpoints ORDER BY thread_id")
        names = [row[0] for row in rows]
        found = []
        for name in names:
            state = saver.get_tuple({"configurable": {"thread_id": name}})
            turns = state.checkpoint["channel_values"].get("turns", []) if state else []
            said = [turn["content"] for turn in turns if turn["role"] == "user"]
            found += [(name, number, text) for number, text in enumerate(said)]
        return found
