"""What people said to a run and asked it to remember, without its models: to list, to add to, and to forget for good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rostok.config import EnsembleSettings
from rostok.embedder import Embedder
from rostok.ensemble.history.answer import Note, Turn
from rostok.ensemble.history.threads import Conversations, folded, open_conversations
from rostok.ensemble.history.words import Words
from rostok.ensemble.recall.memory import Memory, Remembered
from rostok.errors import QuestionError, RunError
from rostok.records import Record
from rostok.runs import Run

LONGEST = 32_000  # characters of a message or a note; no context of the models here holds more


class Forgettable(Record):
    """What forgetting would erase: notes, and whole turns with the conversations that they are in."""

    notes: tuple[Note, ...] = ()
    turns: tuple[tuple[str, Turn], ...] = ()

    @property
    def ids(self) -> list[str]:
        """Of all of it."""
        return [note.id for note in self.notes] + [turn.id for _, turn in self.turns]


class Archive:
    """The conversations and notes of a run. Opened by `open_archive`; the run must be held."""

    def __init__(self, run: Run, conversations: Conversations, words: Words, memory: Memory | None = None,
                 settings: EnsembleSettings | None = None, titles: Mapping[str, str] | None = None) -> None:
        self.run, self.conversations, self.words = run, conversations, words
        self._memory, self._settings, self._titles = memory, settings, titles or {}

    def notes(self) -> Sequence[Note]:
        """What the user asked to be remembered, the oldest first."""
        return self.conversations.notes()

    def remember(self, text: str) -> str:
        """Keep a note, which every conversation may recall. Returns its id.

        Raises:
            QuestionError: it is empty or too long.
        """
        return self.conversations.add_note(check_message(text, "note")).id

    def recall(self, question: str, count: int = 5) -> list[Remembered]:
        """What bears on a question: notes, words of all conversations and pages of all seeds; the best score first.

        Raises:
            RunError: the archive was opened without a memory.
        """
        if self._memory is None or self._settings is None:
            raise RunError("nothing can be looked for by meaning here: the archive was opened without a memory.")
        asked = check_message(question, "question")
        everywhere = self._settings.model_copy(update={"recall_all": True})
        found = self.words.recall(asked, everywhere, thread="", count=count)
        found += self._memory.pages_of_all(asked, self._titles, count)
        return sorted(found, key=lambda one: -one.score)[:count]

    def found(self, what: str | Sequence[str]) -> Forgettable:
        """What `forget` would erase."""
        if isinstance(what, str):
            notes, turns = self.conversations.find(what)
            return Forgettable(notes=tuple(notes), turns=tuple(turns))
        found = [self.conversations.find(one) for one in what]
        notes = [note for row, _ in found for note in row if note.id in what]
        turns = [pair for _, row in found for pair in row if pair[1].id in what or pair[0] in what]
        return Forgettable(notes=tuple({note.id: note for note in notes}.values()),
                           turns=tuple({turn.id: (thread, turn) for thread, turn in turns}.values()))

    def forget(self, what: str | Sequence[str]) -> int:
        """Erase for good: from the conversations, the memory, and every file of the run that people's words go to.

        Args:
            what: an id, or a text: then every note, and every turn whose question or answer holds it, whatever the case.
                A sequence holds ids alone, of notes, turns or whole conversations.

        Returns:
            How many notes and turns are gone.

        Raises:
            RunError: nothing was named.
        """
        if not (what.strip() if isinstance(what, str) else what):
            raise RunError("say what is to be forgotten: the id of a note, or a word that stands in it.")
        ids = self.found(what).ids
        text = what if isinstance(what, str) and what not in ids else ""
        gone = 0
        if ids or text:
            self.conversations.settle(ids, text)
            gone = self.conversations.erase(self.found(what).ids, text)  # with what was said until then
        log = self.run.folder / "crash.log"  # a traceback may quote the command line, and that a question
        if text and log.is_file() and folded(text) in folded(log.read_text(encoding="utf-8", errors="replace")):
            log.unlink()
        return gone


@contextmanager
def open_archive(run: Run, memory: Memory | None = None, settings: EnsembleSettings | None = None,
                 titles: Mapping[str, str] | None = None, *, embedder: Embedder | None = None) -> Iterator[Archive]:
    """The archive of a run; an erasure that was broken off is finished first. Call with the run held.

    Args:
        memory: with it, and the settings, something can be recalled; its embedder is used.
        titles: {seed: what people call it}.
        embedder: where there is no memory; without either, new words are embedded by the next owner.

    Raises:
        DataError: the conversations are damaged.
        StorageError: the disk is full.
    """
    with open_conversations(run.conversations) as conversations:
        words = (Words(run.memory, conversations, memory.embedder, memory.vector) if memory is not None
                 else Words(run.memory, conversations, embedder))
        try:
            conversations.changed = words.sync
            conversations.sweep()
            yield Archive(run, conversations, words, memory, settings, titles)
        finally:
            words.close()


def check_message(text: str, what: str = "message") -> str:
    """The text without space around it.

    Raises:
        QuestionError: it is empty or longer than any model here could read.
    """
    found = text.strip()
    if not found:
        raise QuestionError(f"the {what} is empty. Write something.")
    if len(found) > LONGEST:
        raise QuestionError(f"the {what} has {len(found):,} characters; {LONGEST:,} are the most. Shorten it.")
    return found
