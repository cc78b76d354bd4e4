"""What the report reads from a run. A stage may be at work meanwhile: a last half-written line is passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from rostok.errors import DataError
from rostok.generator import folder as corpora
from rostok.generator.records import KINDS, Manifest, Page, Reject
from rostok.records import Record, RecordT, problems, read_record
from rostok.runs import Event, Run
from rostok.seeds.record import Seed
from rostok.swarm.records import Figures, Measurements
from rostok.swarm.school import School, folder

T = TypeVar("T")


class MapPoint(Record):
    """A seed or a page on the map, already projected to two dimensions (the unit is the projection's own)."""

    seed: str
    kind: Literal["seed", "page"]
    x: float
    y: float
    label: str = ""


class SeedMap(Record):
    """`seeds/map.json`."""

    points: tuple[MapPoint, ...]


def seeds(run: Run) -> list[Seed]:
    """The admitted seeds, in the order of admission."""
    return list(whole_lines(run.seeds / "library.jsonl", Seed))


def events(run: Run) -> list[Event]:
    """The journal."""
    return list(whole_lines(run.journal_path, Event))


def manifests(run: Run) -> dict[str, Manifest]:
    """{seed: manifest} of the finished corpora."""
    return {path.parent.name: read_record(path, Manifest) for path in sorted(run.corpora.glob("*/manifest.json"))}


def figures(run: Run) -> dict[str, Figures]:
    """{seed: figures} of the finished experts."""
    return {path.parent.name: read_record(path, Figures) for path in sorted(run.experts.glob("*/figures.json"))}


def school(run: Run) -> School | None:
    """What all experts began from, if they did."""
    path = folder(run) / "school.json"
    return read_record(path, School) if path.is_file() else None


def measurements(run: Run) -> Measurements | None:
    """What the experts learned, or None before they are measured."""
    return read_record(run.measurements, Measurements) if run.measurements.is_file() else None


def seed_map(run: Run) -> SeedMap | None:
    """The projected seeds and pages, or None before the memory stage."""
    path = run.seeds / "map.json"
    return read_record(path, SeedMap) if path.is_file() else None


def accepted_examples(run: Run, finished: Mapping[str, Manifest]) -> dict[str, tuple[str, Page]]:
    """{kind: (seed, the first accepted page of that kind)} over the finished corpora."""
    wanted = [kind for kind in KINDS if any(manifest.by_kind.get(kind) for manifest in finished.values())]
    files = ((seed, whole_lines(run.corpora / seed / "pages.jsonl", Page, remedy=corpora.remedy(run.corpora / seed)))
             for seed in finished)
    return _first_of_each(files, lambda page: page.kind, wanted)


def rejected_examples(run: Run, finished: Mapping[str, Manifest]) -> dict[str, tuple[str, Reject]]:
    """{reason: (seed, the first page that was refused for it)} over the finished corpora."""
    wanted = {reason for manifest in finished.values() for reason in manifest.rejected}
    files = ((seed, whole_lines(run.corpora / seed / "rejects.jsonl", Reject)) for seed in finished)
    return _first_of_each(files, lambda reject: reject.reason, wanted)


def whole_lines(path: Path, kind: type[RecordT], *, remedy: str = "Mend or remove that line.") -> Iterator[RecordT]:
    """The records of a JSONL file, without a last line that a writer (or a kill) has left without its line end.

    Args:
        remedy: the sentence that says what to do about a broken line.

    Raises:
        DataError: a whole line is not a valid `kind`.
    """
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                return
            if not line.strip():
                continue
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                raise DataError(f"{path}, line {number}: {problems(error)}. {remedy}") from None


def _first_of_each(
    files: Iterable[tuple[str, Iterable[RecordT]]],
    name: Callable[[RecordT], str],
    wanted: Iterable[str],
) -> dict[str, tuple[str, RecordT]]:
    """The first record of every wanted name; stops as soon as all are found (a night has 100,000 pages)."""
    missing, found = set(wanted), {}
    for seed, records in files:
        if not missing:
            break
        for record in records:
            if name(record) in missing:
                missing.remove(name(record))
                found[name(record)] = (seed, record)
                if not missing:
                    break
    return found
