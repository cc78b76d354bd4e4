"""The library of a run: `seeds/library.jsonl`, append-only, one seed a line; `quarantine.jsonl` for what was refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rostok.errors import DataError
from rostok.records import Record, append_jsonl, iter_jsonl, read_jsonl, recover_jsonl
from rostok.seeds.record import Seed


class Quarantined(Record):
    """A draft that was not admitted, and why. `draft` is whatever the agents had written."""

    place: int
    attempt: int
    reason: str
    draft: dict[str, Any]


class Library:
    """The seeds of one run folder.

    Raises:
        DataError: a line that is no valid seed (file, line, field and reason), or whose derived fields were changed.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "library.jsonl"
        self.quarantine_path = folder / "quarantine.jsonl"

    def seeds(self) -> list[Seed]:
        """All admitted seeds, in the order of admission."""
        seeds = list(iter_jsonl(self.path, Seed))
        if seeds:
            self._check_derived(seeds)
        return seeds

    def admit(self, seed: Seed) -> None:
        """Append a seed. A seed whose place or id is there already is left out, so a resumed run adds nothing twice."""
        recover_jsonl(self.path)
        if not any(seed.id == other.id or seed.lineage.place == other.lineage.place for other in self.seeds()):
            append_jsonl(self.path, [seed])

    def quarantine(self, place: int, attempt: int, reason: str, draft: Mapping[str, Any]) -> None:
        """Keep a refused draft beside its reason, once per place and attempt."""
        recover_jsonl(self.quarantine_path)
        if not any((old.place, old.attempt) == (place, attempt) for old in self.quarantined()):
            append_jsonl(self.quarantine_path,
                         [Quarantined(place=place, attempt=attempt, reason=reason, draft=dict(draft))])

    def quarantined(self) -> list[Quarantined]:
        """All refused drafts."""
        return read_jsonl(self.quarantine_path, Quarantined)

    def find(self, name: str) -> Seed:
        """The seed with this id or beginning of an id. Raises `DataError` when there is none, or more than one."""
        found = [seed for seed in self.seeds() if seed.id.startswith(name)]
        if len(found) != 1:
            known = ", ".join(seed.id for seed in self.seeds()) or "none yet"
            raise DataError(f"{'no seed' if not found else 'more than one seed'} '{name}' in {self.path}. There are: {known}.")
        return found[0]

    def _check_derived(self, seeds: list[Seed]) -> None:
        with self.path.open(encoding="utf-8") as file:
            raw = [json.loads(line) for line in file if line.strip()]
        for number, (written, seed) in enumerate(zip(raw, seeds, strict=True), start=1):
            for field, value in seed.model_dump(mode="json", include=set(Seed.model_computed_fields)).items():
                if field in written and written[field] != value:
                    raise DataError(
                        f"{self.path}, line {number}: {field}: does not follow from the content (it would be {value!r}). "
                        "The content was edited; remove the derived fields id, formula, delta and glyphs from that line.")
