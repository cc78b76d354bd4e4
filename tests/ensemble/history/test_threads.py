"""Conversations on disk: listed, found, branched, cut, and never half."""

from __future__ import annotations

import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

from rostok.ensemble.history.answer import Transcript
from rostok.ensemble.history.threads import Conversations, open_conversations
from rostok.ensemble.recall.memory import Remembered, Trust
from rostok.errors import DataError, RunError, StorageError
from tests.ensemble.talks import say


@pytest.fixture
def talks(tmp_path: Path) -> Iterator[Conversations]:
    with open_conversations(tmp_path / "conversations.sqlite") as found:
        yield found


def test_conversations_are_listed_and_found(talks: Conversations) -> None:
    """Prevents: a list that lags behind what was said, and a search that finds whole English words only."""
    say(talks, "a", "Where does the   heron\nfish?" + " Truly." * 20)
    say(talks, "b", "Куда ушёл пекарь?", "Домой.")
    say(talks, "a", "And the otter?", "In the weir, with \"care\".")
    assert [(one.id, one.turns) for one in talks.list()] == [("a", 2), ("b", 1)]
    assert talks.list()[0].title.startswith("Where does the heron fish? Truly.") and len(talks.list()[0].title) <= 60
    last = talks.last()
    assert last is not None and last.id == "a" and last.updated >= last.created > 1e9
    assert [(hit.thread, hit.number, hit.snippet) for hit in talks.search("пек")] == [("b", 0, "Куда ушёл ⟦пекарь⟧?")]
    assert [hit.number for hit in talks.search("OTT weir")] == [1]
    for hostile in ('"', "a OR", "NEAR(", "*", "care\" OR \"x", "-", "question:", ""):
        assert all(hit.thread == "a" for hit in talks.search(hostile))
    turns = talks.turns("a")
    assert [(turn.number, turn.question[:5], turn.speaker) for turn in turns] == [(0, "Where", "base"), (1, "And t", "base")]
    assert turns[1].answer is not None and turns[1].answer.id == turns[1].id and turns[1].answer.threshold == 0.4


def test_branch_cut_rename_and_delete(talks: Conversations) -> None:
    """Prevents: a branch that shares its turns with the trunk, so that cutting one cuts the other."""
    for number in range(3):
        say(talks, "trunk", f"Question {number}?", f"Answer {number}.")
    branch = talks.fork("trunk", 2)
    assert [turn.text for turn in talks.turns(branch)] == ["Answer 0.", "Answer 1."]
    answers = [turn.answer for turn in talks.turns(branch)]
    assert [answer.id for answer in answers if answer] == [turn.id for turn in talks.turns(branch)]
    assert not {turn.id for turn in talks.turns(branch)} & {turn.id for turn in talks.turns("trunk")}
    talks.drop_last("trunk")
    say(talks, branch, "Something else?")
    assert [len(talks.turns(name)) for name in ("trunk", branch)] == [2, 3]
    assert len(talks.checkpoints.read(branch)) == 6
    talks.rename(branch, "  My\nbranch ")
    assert talks.get(branch).title == "My branch" and talks.get("trunk").title == "Question 0?"
    say(talks, branch, "More?")
    assert talks.get(branch).title == "My branch"
    talks.rename(branch, "")
    assert talks.get(branch).title == "Question 0?"
    talks.delete("trunk")
    assert [one.id for one in talks.list()] == [branch] and talks.checkpoints.read("trunk") == []
    assert {hit.thread for hit in talks.search("question")} == {branch}
    for wrong in (lambda: talks.fork("trunk", 1), lambda: talks.fork(branch, 9), lambda: talks.drop_last("trunk"),
                  lambda: talks.delete("trunk"), lambda: talks.rename("trunk", "x"), lambda: list(talks.export(["trunk"]))):
        with pytest.raises(RunError):
            wrong()


def test_export_holds_everything(talks: Conversations) -> None:
    """Prevents: an export that cannot be read back, or leaves out why somebody spoke."""
    say(talks, "a", "One?")
    say(talks, "b", "Two?")
    lines = [one.line() for one in talks.export()]
    assert [Transcript.model_validate_json(line) for line in lines] == list(talks.export(["a", "b"]))
    assert all(turn.answer is not None for one in talks.export() for turn in one.said)


def test_dropping_the_only_turn_removes_the_conversation(talks: Conversations) -> None:
    """Prevents: empty conversations that pile up in the list."""
    say(talks, "a", "One?")
    talks.drop_last("a")
    assert talks.list() == [] and talks.turns("a") == []


def test_turn_and_rows_are_one_transaction(talks: Conversations, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a disk that is full between the two, and a list that tells of turns which the thread has not."""
    say(talks, "a", "One?")

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(talks.checkpoints, "_tell", refuse)
        with pytest.raises(DataError, match="disk is full"):
            say(talks, "a", "Two?")
    assert len(talks.checkpoints.read("a")) == 2 and len(talks.turns("a")) == 1
    say(talks, "a", "Three?")
    assert [turn.question for turn in talks.turns("a")] == ["One?", "Three?"]


def test_many_conversations_at_once(talks: Conversations) -> None:
    """Prevents: `cannot start a transaction within a transaction`, and turns in another person's conversation."""
    def talk(name: str) -> None:
        for number in range(8):
            with talks.speaking(name):
                say(talks, name, f"{name} asks {number}")
            talks.list()
            talks.search(name)

    threads = [threading.Thread(target=talk, args=(f"p{place}",)) for place in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for place in range(8):
        assert [turn.question for turn in talks.turns(f"p{place}")] == [f"p{place} asks {number}" for number in range(8)]


class _Old(TypedDict):
    thread: str
    question: str
    turns: list[dict[str, str]]
    answer: dict[str, str]


def test_file_of_an_older_rostok_is_completed(tmp_path: Path) -> None:
    """Prevents: conversations that vanish from the list, and words that live on in old checkpoints."""
    path = tmp_path / "conversations.sqlite"

    def remember(state: _Old) -> dict[str, object]:
        said = {"role": "user", "content": state["question"], "title": ""}
        return {"answer": {"text": "Old secret."}, "turns": [*state.get("turns", []), said,
                                                            {"role": "assistant", "content": "Yes.", "title": "The Hive"}]}

    connection = sqlite3.connect(path, check_same_thread=False)
    graph = StateGraph(_Old)
    graph.add_node("remember", remember)
    graph.add_edge(START, "remember")
    graph.add_edge("remember", END)
    compiled = graph.compile(checkpointer=SqliteSaver(connection))
    for question in ("Does it rain?", "Still?"):
        compiled.invoke({"thread": "old", "question": question}, {"configurable": {"thread_id": "old"}})  # type: ignore[arg-type]
    connection.close()
    for _ in range(2):  # and again, since nothing may be completed twice
        with open_conversations(path) as talks:
            assert [(turn.id, turn.question, turn.speaker, turn.answer) for turn in talks.turns("old")] == [
                ("old:0", "Does it rain?", "The Hive", None), ("old:1", "Still?", "The Hive", None)]
            assert talks.list()[0].title == "Does it rain?" and talks.list()[0].created > 1e9
            assert [hit.number for hit in talks.search("rain")] == [0]
            assert talks.checkpoints.conn.execute("SELECT count(*) FROM checkpoints").fetchone()[0] == 1
            assert talks.checkpoints.conn.execute("SELECT count(*) FROM writes").fetchone()[0] == 0
    with open_conversations(path) as talks:
        say(talks, "old", "And now?")
        assert [turn.number for turn in talks.turns("old")] == [0, 1, 2]


def test_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    """Prevents: `sqlite3.DatabaseError: file is not a database`."""
    (tmp_path / "c.sqlite").write_bytes(b"not a database" * 400)
    with pytest.raises(DataError, match="Move that file away"), open_conversations(tmp_path / "c.sqlite"):
        pass


def test_only_the_owner_reads_what_was_said(tmp_path: Path) -> None:
    """Prevents: people's words, in the file or in its journal, for everybody who has an account on the machine."""
    path = tmp_path / "c.sqlite"
    for _ in range(2):
        with open_conversations(path) as talks:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with talks.checkpoints.cursor() as cursor:
                cursor.execute("INSERT INTO notes (id, time, text) VALUES (?, 0, 'x')", (f"n-{time.time()}",))
                journals = [one for one in tmp_path.iterdir() if one != path]
                assert journals and {stat.S_IMODE(one.stat().st_mode) for one in journals} == {0o600}
        path.chmod(0o644)  # as an older Rostok left it


def test_answer_quotes_only_what_is_still_kept(talks: Conversations) -> None:
    """Prevents: a note that was forgotten, or a turn that was edited, while somebody's answer was made of it."""
    note = talks.add_note("The gate's code is 9876.")
    turn = say(talks, "a", "My dog is called Rex.")

    def read(key: str, text: str, trust: Trust) -> Remembered:
        return Remembered(text=text, seed=None, similarity=0.9, kind="", source="", id=key, trust=trust)

    kept = [read(note.id, note.text, "note"), read(turn, "My dog is called Rex.", "said"), read("s-1:4", "A page.", "corpus")]
    gone = [read("n-gone", "My cat is Tom.", "note"), read("t-gone", "I am Ann.", "said"), read(turn, "My dog is Max.", "said")]
    say(talks, "b", "What do you know?", memories=[one for pair in zip(gone, kept, strict=True) for one in pair])
    answer = talks.turns("b")[0].answer
    assert answer is not None and list(answer.memories) == kept


def test_what_sqlite_refuses_in_mid_service_is_told(talks: Conversations, tmp_path: Path) -> None:
    """Prevents: a full disk, or a file that somebody has open, told as a bug of Rostok because the file was opened well."""
    connection = talks.checkpoints.conn
    say(talks, "a", "One?")
    connection.execute("PRAGMA max_page_count = 1")  # as many as there are
    with pytest.raises(StorageError, match="Free some space"):
        say(talks, "a", "Two? " * 50_000)
    connection.execute("PRAGMA max_page_count = 100000")
    connection.execute("PRAGMA busy_timeout = 0")
    with sqlite3.connect(tmp_path / "conversations.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        for ask in (lambda: say(talks, "a", "Three?"), lambda: talks.add_note("Four."), lambda: talks.erase(["x"])):
            with pytest.raises(StorageError, match="Close the other program"):
                ask()
        other.rollback()
    other.close()
    say(talks, "a", "Three?")
    assert [turn.question for turn in talks.turns("a")] == ["One?", "Three?"]
    connection.execute("DROP TABLE notes")
    for ask in (talks.notes, lambda: talks.add_note("Four.")):
        with pytest.raises(DataError, match="Move that file away"):
            ask()
