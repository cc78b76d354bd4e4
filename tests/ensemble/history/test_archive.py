"""Forgetting: no byte of the run holds what was forgotten, whenever the machine was switched off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import pytest

from rostok.config import EnsembleSettings, Settings
from rostok.embedder import Embedder
from rostok.ensemble.conversation import open_ensemble
from rostok.ensemble.history.answer import Answer
from rostok.ensemble.history.archive import open_archive
from rostok.ensemble.recall.memory import Remembered
from rostok.ensemble.speak import Spoken
from rostok.errors import StorageError
from rostok.runs import Run
from tests.ensemble.talks import Hashes, say

SECRET = b"xylophagus"


def _files_with(folder: Path, text: bytes = SECRET) -> list[str]:
    return [path.name for path in sorted(folder.rglob("*")) if path.is_file() and text in path.read_bytes().lower()]


def test_forgotten_text_is_in_no_byte_of_the_run(ready: Run, settings: Settings) -> None:
    """Prevents: Chroma's queue, FTS5's segments, SQLite's free pages and log, LangGraph's checkpoints, titles, or the reasons
    of another answer, any of which would give the words back."""
    with open_ensemble(ready, settings, max_tokens=4) as ensemble:
        ensemble.ask("My beetle is called Xylophagus.", "a")
        note = ensemble.remember("The Xylophagus eats at noon.")
        quoting = ensemble.ask("When does my beetle eat?", "b")
        assert note in [one.id for one in quoting.memories]
        ensemble.ask("Why is the sky blue?", "a")
        branch = ensemble.conversations.fork("a", 2)
        ensemble.conversations.rename("b", "About Xylophagus")
        (ready.folder / "crash.log").write_text('rostok chat RUN "Is Xylophagus ill?"')
        assert len(_files_with(ready.folder)) >= 3
        found = ensemble.found("xyloPHAGUS")
        assert [one.id for one in found.notes] == [note] and {thread for thread, _ in found.turns} == {"a", branch}
        assert ensemble.forget("xyloPHAGUS") == 3
        assert _files_with(ready.folder) == []  # while it is running, too
        left = ensemble.conversations.turns("a")
        assert [(turn.number, turn.question) for turn in left] == [(0, "Why is the sky blue?")]
        assert ensemble.conversations.get("a").title == "Why is the sky blue?"
        assert ensemble.conversations.get("b").title == "When does my beetle eat?"
        kept = ensemble.conversations.turns("b")[0].answer
        assert kept is not None and note not in [one.id for one in kept.memories]
        answer = ensemble.ask("What does the escapement do?", "a")
        assert answer.seed is not None and ensemble.conversations.turns("a")[1].id == answer.id
        assert ensemble.forget("xylophagus") == 0
    assert _files_with(ready.folder) == []


def test_forgotten_while_an_answer_is_in_the_making(ready: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a note that comes back with the answer that was made of it, in its reasons or in the model's own words; words of
    a turn that was never kept; somebody who forgets and has to wait for a whole answer."""
    question = "When does my beetle eat?"
    with open_ensemble(ready, settings, max_tokens=4) as ensemble:
        def note() -> None:
            ensemble.remember("The Xylophagus eats at noon.")

        note()
        assert "note" in {one.trust for one in ensemble.ask(question, "before").memories}
        forgotten: list[int] = []
        answer = ensemble.ask(question, "a", lambda _: forgotten.append(0 if forgotten else ensemble.forget("xylophagus")))
        assert forgotten[0] == 1 and answer.text and _files_with(ready.folder) == []

        with monkeypatch.context() as patch:
            patch.setattr(ensemble.conversations, "_named_after", Mock(side_effect=StorageError("full")))  # in the transaction
            with pytest.raises(StorageError):
                ensemble.ask("My beetle is called Xylophagus.", "b")
        ensemble.forget("something else")
        assert _files_with(ready.folder) == [] and ensemble.archive.words._coming == {}

        note()
        said, speaking = list[Answer](), threading.Event()

        def speak(question: str, route: object, history: object, memories: Sequence[Remembered], *, stop: threading.Event,
                  **_: object) -> Spoken:
            speaking.set()
            finish = "stopped" if stop.wait(20) else "length"
            return Spoken("Xylophagus, I say.", (), finish, 1, 1, 0.1, tuple(memories))

        monkeypatch.setattr(ensemble.speaker, "speak", speak)
        for asked in (question, "Who is Xylophagus?"):
            speaking.clear()
            thread = threading.Thread(target=lambda asked=asked: said.append(ensemble.ask(asked, "c")))
            thread.start()
            assert speaking.wait(20)
            assert ensemble.forget("xylophagus") == (2 if asked == question else 1)
            thread.join(20)
            assert said[-1].finish == "stopped" and ensemble.conversations.turns("c") == []
            assert _files_with(ready.folder) == []


def test_forgetting_by_id_leaves_the_rest(tmp_path: Path) -> None:
    """Prevents: an id taken for a text; a conversation's id that forgets its first turn only."""
    with open_archive(Run(tmp_path), embedder=cast(Embedder, Hashes())) as archive:
        talks = archive.conversations
        first, second, third = say(talks, "a", "One."), say(talks, "a", "Two."), say(talks, "b", "Three.")
        note = archive.remember("Four.")
        recalled = Remembered(text="Four.", seed=None, similarity=0.9, kind="note", source="", id=note, trust="note")
        quoting = say(talks, "b", "What follows three?", memories=[recalled])
        archive.words.sync()
        assert archive.forget([second, note, "nobody"]) == 2
        assert [turn.id for turn in talks.turns("a")] == [first] and archive.notes() == []
        answer = talks.turns("b")[1].answer
        assert answer is not None and answer.id == quoting and answer.memories == ()
        assert archive.words.known("turns") == sorted([first, third, quoting]) and archive.words.known("notes") == []
        assert archive.forget("b") == 2 and [one.id for one in talks.list()] == ["a"]



KILLS: dict[str, tuple[str, bool]] = {
    # where the process dies, and whether what was to be forgotten is still there
    "in the transaction": ("Conversations._untitle", True),
    "before the store": ("Words._survivors", False),
    "before the new store has its name": ("Words._remove_others", False),
    "before the file is written anew": ("Conversations.sweep", False),
    "before the end is noted": ("Conversations._set", False),
}


@pytest.mark.parametrize("moment", KILLS)
def test_kill_while_forgetting(tmp_path: Path, moment: str) -> None:
    """Prevents: a store that is neither the old nor the new one, and words that come back because the erasure was half."""
    run = Run(tmp_path / "run")
    embedder = cast(Embedder, Hashes())
    with open_archive(run, embedder=embedder) as archive:
        say(archive.conversations, "a", "My beetle is called Xylophagus.")
        say(archive.conversations, "a", "The sky is blue.")
        archive.remember("The Xylophagus eats at noon.")
        kept = archive.remember("The kettle is red.")
    place, still_there = KILLS[moment]
    script = f"""
import os, signal
from pathlib import Path
from rostok.ensemble.history.archive import open_archive
from rostok.ensemble.history.threads import Conversations
from rostok.ensemble.history.words import Words
from rostok.runs import Run
with open_archive(Run(Path({str(run.folder)!r}))) as archive:
    def kill(*values, **named):
        if {moment!r} == "before the end is noted" and named != dict(erasing=0):
            return before(*values, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    before = {place}
    {place} = kill
    archive.forget("xylophagus")
"""
    died = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    with open_archive(run, embedder=embedder) as archive:
        assert bool(_files_with(run.folder)) == bool(archive.found("xylophagus").ids) == still_there
        assert len(archive.words.known("turns")) == len(archive.conversations.turns("a")) == 1 + still_there
        assert kept in archive.words.known("notes") and len(archive.words.known("notes")) == 1 + still_there
        settings = EnsembleSettings()  # type: ignore[call-arg]
        assert [one.id for one in archive.words.recall("The kettle is red.", settings)] == [kept]
        assert len(list(run.memory.glob("words-*"))) == 1
        archive.forget("xylophagus")
    assert _files_with(run.folder) == []


def test_no_memory_of_the_process_lands_in_the_store(tmp_path: Path) -> None:
    """Prevents: Chroma's room for an index, written as the allocator gave it: 27 KB of what the process had forgotten."""
    script = f"""
import sys
from pathlib import Path
from rostok.config import EnsembleSettings
from rostok.ensemble.history.archive import open_archive
from rostok.runs import Run
from tests.ensemble.talks import Hashes, say
for _ in range(2):
    with open_archive(Run(Path({str(tmp_path)!r})), embedder=Hashes()) as archive:
        say(archive.conversations, "a", "One.")
        archive.remember("Two.")
        archive.words.recall("Two.", EnsembleSettings(), thread="a", before=9)
        archive.forget([archive.notes()[0].id])
        archive.remember("Three.")
"""
    environment = {**os.environ, "MALLOC_PERTURB_": "165", "PYTHONPATH": os.pathsep.join(sys.path)}  # glibc fills with 0x5a
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    rooms = [path for name in ("data_level0.bin", "length.bin") for path in tmp_path.rglob(name)]
    assert len(rooms) == 2 * 2 and not any(any(path.read_bytes()) for path in rooms)
