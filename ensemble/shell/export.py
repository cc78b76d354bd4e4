"""A conversation as a file that people or programs read."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from rostok.ensemble.history.answer import Transcript
from rostok.ensemble.prompt import visible
from rostok.ensemble.shell.wording import Wording
from rostok.errors import RunError
from rostok.records import write_atomic


def save(path: Path, talks: Iterable[Transcript], say: Wording) -> int:
    """Write conversations to a new file, in the form that its name's ending says. Returns how many they were.

    Raises:
        RunError: the file is there already.
        StorageError: it cannot be written.
    """
    if path.exists():
        raise RunError(f"{path} is there already. Name another file, or remove it first.")
    found = list(talks)
    write_atomic(path, jsonl(found) if path.suffix.casefold() in (".jsonl", ".json") else markdown(found, say))
    return len(found)


def jsonl(talks: Iterable[Transcript]) -> str:
    """One conversation a line, with ids, times and reasons."""
    return "".join(talk.line() + "\n" for talk in talks)


def markdown(talks: Iterable[Transcript], say: Wording) -> str:
    """Headings for conversations, the names of who spoke in bold, and their words quoted, so that none can pass for either."""
    parts = []
    for talk in talks:
        parts.append(f"# {_line(talk.title) or talk.id}")
        for turn in talk.said:
            when = time.strftime(" (%Y-%m-%d %H:%M)", time.localtime(turn.time)) if turn.time else ""
            parts += [f"**{say('you')}**{when}", _quoted(turn.question), f"**{_line(turn.speaker)}**", _quoted(turn.text)]
    return "\n\n".join(parts) + "\n"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in visible(text).splitlines() or [""])


def _line(text: str) -> str:
    return " ".join(visible(text).split())
