"""The library of a run: `seeds/library.jsonl`, append-only, one seed a line.

Beside it lie `quarantine.jsonl` (what was refused, and why), `drafts.jsonl` (what every draft cost) and `manifest.json`
(the measures). Whoever writes holds the run's lock; reading needs none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from rostok import __version__
from rostok.errors import DataError, writing
from rostok.records import Record, append_jsonl, read_jsonl, reasons, recover_jsonl
from rostok.seeds.record import FORMAT, Seed


class Quarantined(Record):
    """A draft that was not admitted, and why. `draft` is whatever the agents had written."""

    place: int
    attempt: int
    reason: str
    draft: dict[str, Any]


class DraftRecord(Record):
    """What one draft cost, admitted or not: the ground of the authoring rates in `rostok.seeds.measures`.

    Attributes:
        place, attempt: which draft; a draft is counted once, however often a run is resumed.
        reason: why it was not admitted; empty when it was.
        retries: {field: how often it was sampled afresh}; fields that came at once may be left out.
        refused: {reason: candidates refused for it}.
        tokens: sampled for this draft.
    """

    place: int = Field(ge=0)
    attempt: int = Field(ge=0)
    admitted: bool
    reason: str = ""
    retries: dict[str, int] = Field(default_factory=dict)
    refused: dict[str, int] = Field(default_factory=dict)
    tokens: int = Field(0, ge=0)


@dataclass(frozen=True)
class Line:
    """One line of a library as it was found.

    Attributes:
        seed: what it holds, or None where that is no valid seed.
        problems: why not, as `field: reason`.
        stale: {derived field: what it should be}, for those that do not follow from the content.
    """

    number: int
    text: str
    seed: Seed | None
    problems: tuple[str, ...] = ()
    stale: Mapping[str, Any] = field(default_factory=dict)


class Library:
    """The seeds of one run folder.

    Raises:
        DataError: a line that is no valid seed (file, line, field and reason), that a newer Rostok wrote, or whose
            derived fields do not follow from the content.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "library.jsonl"
        self.quarantine_path = folder / "quarantine.jsonl"
        self.drafts_path = folder / "drafts.jsonl"
        self.manifest_path = folder / "manifest.json"
        self._read: tuple[tuple[int, int], list[Seed]] | None = None

    def seeds(self) -> list[Seed]:
        """All admitted seeds, in the order of admission."""
        if not self.path.exists():
            return []
        stat = self.path.stat()
        state = (stat.st_mtime_ns, stat.st_size)
        if self._read is None or self._read[0] != state:  # the author asks after every draft
            self._read = (state, [self._sound(line) for line in read_lines(self.path)])
        return list(self._read[1])

    def _sound(self, line: Line) -> Seed:
        if line.seed is None:
            what = "; ".join(line.problems)
            mend = "" if "newer version" in what else "Mend or remove that line; "
            raise DataError(f"{self.path}, line {line.number}: {what}. {mend}rostok seeds lint {self.folder.parent} names every "
                            "problem.")
        for name, value in line.stale.items():
            raise DataError(f"{self.path}, line {line.number}: {name}: does not follow from the content (it would be {value!r}). "
                            f"If the content was edited on purpose, run: rostok seeds lint {self.folder.parent} --fix")
        return line.seed

    def admit(self, seed: Seed) -> bool:
        """Append a seed. One whose place or id is there already is left out, so a resumed run adds nothing twice.

        Returns:
            Whether it was appended.
        """
        self.recover()
        if any(seed.id == other.id or seed.lineage.place == other.lineage.place for other in self.seeds()):
            return False
        append_jsonl(self.path, [seed])
        return True

    def next_place(self) -> int:
        """A place that no seed has: after the last one, so that the author's own places stay free for it."""
        return max((seed.lineage.place + 1 for seed in self.seeds()), default=0)

    def recover(self) -> None:
        """End the last line where an editor has not, and cut what a kill left half-written. Call with the lock held."""
        data = self.path.read_bytes() if self.path.exists() else b""
        tail = data[data.rfind(b"\n") + 1 :]
        if tail.strip() and parse_line(0, tail).seed is not None:
            with writing(self.path), self.path.open("ab") as file:
                file.write(b"\n")
        else:
            recover_jsonl(self.path)

    def quarantine(self, place: int, attempt: int, reason: str, draft: Mapping[str, Any]) -> None:
        """Keep a refused draft beside its reason, once per place and attempt."""
        recover_jsonl(self.quarantine_path)
        if not any((old.place, old.attempt) == (place, attempt) for old in self.quarantined()):
            append_jsonl(self.quarantine_path,
                         [Quarantined(place=place, attempt=attempt, reason=reason, draft=dict(draft))])

    def quarantined(self) -> list[Quarantined]:
        """All refused drafts."""
        return read_jsonl(self.quarantine_path, Quarantined)

    def note_draft(self, record: DraftRecord) -> None:
        """Count a finished draft, once per place and attempt."""
        recover_jsonl(self.drafts_path)
        if not any((old.place, old.attempt) == (record.place, record.attempt) for old in self.drafts()):
            append_jsonl(self.drafts_path, [record])

    def drafts(self) -> list[DraftRecord]:
        """What the drafts cost, in the order in which they were finished."""
        return read_jsonl(self.drafts_path, DraftRecord)

    def find(self, name: str) -> Seed:
        """The seed with this id or beginning of an id. Raises `DataError` when there is none, or more than one."""
        found = [seed for seed in self.seeds() if seed.id.startswith(name)]
        if len(found) != 1:
            known = ", ".join(seed.id for seed in self.seeds()) or "none yet"
            raise DataError(f"{'no seed' if not found else 'more than one seed'} '{name}' in {self.path}. There are: {known}.")
        return found[0]


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a library, good and bad; empty ones are passed over. Raises `DataError` when there is no such file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path.") from None
    for number, raw in enumerate(data.split(b"\n"), start=1):
        if raw.strip():
            yield parse_line(number, raw)


def parse_line(number: int, raw: bytes) -> Line:
    """What one line holds: a seed, or the reasons why it is none."""
    try:
        text = raw.decode().rstrip("\r")
        values = json.loads(text)
    except UnicodeDecodeError as error:
        return Line(number, raw.decode(errors="replace"), None, (f"is no UTF-8 text (byte {error.start + 1})",))
    except (json.JSONDecodeError, RecursionError) as error:
        where = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        return Line(number, text, None, (f"is no JSON{where}",))
    if not isinstance(values, dict):
        return Line(number, text, None, ("holds no object with the fields of a seed",))
    values.setdefault("format", 1)
    if isinstance(values["format"], int) and values["format"] > FORMAT:
        return Line(number, text, None, (
            f"was written by a newer version of Rostok (seed format {values['format']}; this one, {__version__}, reads up to "
            f"{FORMAT}); install that version",))
    try:
        seed = Seed.model_validate(values)
    except ValidationError as error:
        return Line(number, text, None, tuple(reasons(error)))
    derived = seed.model_dump(mode="json", include=set(Seed.model_computed_fields))
    return Line(number, text, seed, (), {name: value for name, value in derived.items()
                                         if name in values and values[name] != value})
