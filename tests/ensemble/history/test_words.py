"""The user's own words: found again, ranked, kept apart, and made anew from the conversations."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rostok.config import EnsembleSettings
from rostok.embedder import Embedder
from rostok.ensemble.history.archive import Archive, open_archive
from rostok.ensemble.history.words import Words, recency
from rostok.errors import QuestionError, RunError
from rostok.runs import Run
from tests.ensemble.talks import say

SETTINGS = EnsembleSettings()  # type: ignore[call-arg]
DAY = 86400


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def archive(run: Run, embedder: Embedder) -> Iterator[Archive]:
    with open_archive(run, embedder=embedder) as found:
        yield found


def _said(archive: Archive, thread: str, *texts: str) -> None:
    for text in texts:
        say(archive.conversations, thread, text)
    archive.words.sync()


def test_notes_are_recalled_everywhere_and_turns_at_home(archive: Archive) -> None:
    """Prevents: one person's words in another's conversation; a note that is forgotten with the conversation it was made in."""
    _said(archive, "mine", "My dog is called Rex.", "I live in a lighthouse.")
    key = archive.remember("  My daughter is called Anna. ")
    question = "What is my dog called?"
    found = archive.words.recall(question, SETTINGS, thread="mine", before=2)
    assert [one.text for one in found if one.trust == "said"] == ["My dog is called Rex."]
    assert "turn 1 of this conversation" in found[-1].source
    assert not [one for one in archive.words.recall(question, SETTINGS, thread="other", before=9) if one.trust == "said"]
    assert not [one for one in archive.words.recall(question, SETTINGS, thread="mine", before=0) if one.trust == "said"]
    all_of_them = SETTINGS.model_copy(update={"recall_all": True})
    elsewhere = archive.words.recall(question, all_of_them, thread="other")
    assert "another conversation" in next(one.source for one in elsewhere if one.trust == "said")
    note = archive.words.recall("What is my daughter called?", SETTINGS)[0]
    assert (note.id, note.text, note.trust, note.seed) == (key, "My daughter is called Anna.", "note", None)
    assert "noted by the user" in note.source and 0 < note.score <= note.similarity + 1e-6


def test_what_was_used_lately_comes_first(run: Run, embedder: Embedder) -> None:
    """Prevents: words of years ago before those of yesterday; and a last use that is written down and never read."""
    now = time.time()
    with open_archive(run, embedder=embedder) as archive:
        for text in ("The code of the gate is 1234.", "The gate's code is 9876."):
            archive.remember(text)
        old, new = (note.id for note in archive.notes())
        words = Words(run.memory, archive.conversations, embedder, clock=lambda: now + 500 * DAY)
        archive.words.close()
        question = "What is the code of the gate?"
        before = words.recall(question, SETTINGS)
        words.used([before[-1].id])
        after = words.recall(question, SETTINGS)
        assert [one.id for one in after] == [before[1].id, before[0].id] and {old, new} == {one.id for one in after}
        assert after[0].score > 2 * after[1].score
        never = words.recall(question, SETTINGS.model_copy(update={"note_half_life": 0.0}))
        assert [one.score for one in never] == pytest.approx([one.similarity for one in never], abs=1e-4)
        words.close()


def test_recency_halves() -> None:
    """Prevents: a half-life in seconds; a clock set back that makes old words better than new ones."""
    assert recency(30 * DAY, 30) == pytest.approx(0.5) and recency(60 * DAY, 30) == pytest.approx(0.25)
    assert recency(-5, 30) == 1 and recency(1e9, 0) == 1


@pytest.mark.parametrize("damage", ["garbage", "half", "gone", "marker"])
def test_damaged_store_is_made_anew(run: Run, embedder: Embedder, damage: str) -> None:
    """Prevents: a chat that will not start, or has lost its notes, because Chroma's file was cut short."""
    with open_archive(run, embedder=embedder) as archive:
        _said(archive, "t", "My dog is called Rex.")
        archive.remember("The gate's code is 9876.")
    folder = next(run.memory.glob("words-*"))
    file = folder / "chroma.sqlite3"
    if damage == "gone":
        file.unlink()
    elif damage == "marker":
        folder.rename(run.memory / "words-0.part")
    else:
        file.write_bytes(b"not a database" * 400 if damage == "garbage" else file.read_bytes()[: file.stat().st_size // 2])
    with open_archive(run, embedder=embedder) as archive:
        assert [one.text for one in archive.words.recall("What is the gate's code?", SETTINGS)] == ["The gate's code is 9876."]
        assert len(archive.words.known("turns")) == 1 and [path.name for path in run.memory.glob("words-*")] == ["words-0"]


def test_store_follows_the_conversations(run: Run, embedder: Embedder) -> None:
    """Prevents: words that a kill left in the store but not in the thread, and branches whose words are not found."""
    with open_archive(run) as archive:  # no embedder: `rostok memory remember` needs no model
        _said(archive, "t", "My dog is called Rex.")
        archive.remember("The gate's code is 9876.")
        assert archive.words.known("notes") == []
    with open_archive(run, embedder=embedder) as archive:
        assert len(archive.words.known("notes")) == len(archive.words.known("turns")) == 1
        archive.words.add_turn("t-lost", "t", 1, "This turn was never finished.")
    with open_archive(run, embedder=embedder) as archive:
        assert archive.words.known("turns") == [turn.id for turn in archive.conversations.turns("t")]
        branch = archive.conversations.fork("t", 1)
        assert len(archive.words.known("turns")) == 2
        assert archive.words.recall("What is my dog called?", SETTINGS, thread=branch, before=1)[-1].text.endswith("Rex.")


def test_a_turn_in_the_making_survives_an_erasure(archive: Archive) -> None:
    """Prevents: words that nobody recalls until the next start, because somebody else forgot something at that moment."""
    _said(archive, "t", "My dog is called Rex.", "I live in a lighthouse.")
    archive.words.add_turn("t-coming", "t", 2, "My boat is red.")
    archive.forget("lighthouse")
    archive.remember("The gate's code is 9876.")
    assert "t-coming" in archive.words.known("turns") and len(archive.words.known("turns")) == 2
    archive.words.settle("t-coming")  # it failed
    archive.forget("never said")
    assert "t-coming" not in archive.words.known("turns") and len(archive.words.known("turns")) == 1


def test_only_the_owner_reads_the_words(archive: Archive) -> None:
    """Prevents: people's words in a folder that everybody may look into, or one that an older Rostok left so."""
    for number in range(3):
        archive.remember(f"Secret {number}.")
        folder = next(archive.words.folder.glob("words-*"))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        if number == 1:
            archive.words.close()
            folder.chmod(0o755)
            archive.words._generation = -1  # as at the start of a process
        else:
            archive.forget([archive.notes()[0].id])


def test_notes_that_cannot_be_kept(archive: Archive) -> None:
    """Prevents: an empty note, a megabyte of them, and a `forget` without an object that forgets everything."""
    for text in ("", " \n", "x" * 1_000_000):
        with pytest.raises(QuestionError, match=r"^the note (is empty|has 1,000,000 characters)"):
            archive.remember(text)
    for nothing in ("", "  ", []):
        with pytest.raises(RunError, match="say what"):
            archive.forget(nothing)
    assert archive.notes() == [] and archive.forget("nothing like that") == 0
