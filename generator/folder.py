"""The folder of a corpus: to whom it belongs, whether it is finished, and what is left of it after damage.

    origin.json   first: what the folder is made from          plan.jsonl    one line a page, then the replacements
    bank.jsonl    sentences of the model for this seed         pages.jsonl   accepted pages, in the order of acceptance
    rejects.jsonl refused pages, each with its reason          README.md     the card
    manifest.json last: what lies here, with the hash of pages.jsonl
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from rostok.config import CorpusSettings
from rostok.errors import DataError, writing
from rostok.generator.records import Manifest, Origin, Page
from rostok.records import RecordT, digest, file_digest, read_jsonl, read_record, write_atomic
from rostok.seeds.record import Seed

GENERATOR = 5  # raise when the same seed and settings would give other pages


def origin(seed: Seed, settings: CorpusSettings, random_seed: int, model_sha256: str) -> Origin:
    """Everything that a corpus depends on, and the hash of it."""
    return Origin(made_from=digest(seed, settings, random_seed, model_sha256, GENERATOR), seed=seed.id, generator=GENERATOR,
                  random_seed=random_seed, model=model_sha256, settings=settings)


def finished(folder: Path, wanted: Origin) -> Manifest | None:
    """The manifest of a finished corpus of this origin, or None where pages are to be made, or to be made again.

    Raises:
        DataError: the folder holds another corpus, or its pages were edited.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return None
    manifest = read_record(path, Manifest)
    if manifest.made_from != wanted.made_from:
        raise DataError(_another(folder, manifest, wanted))
    pages = folder / "pages.jsonl"
    if not pages.exists() or file_digest(pages) != manifest.pages_sha256:
        if _broken(pages, Page):
            return None
        check_pages(folder, manifest)
    return manifest


def claim(folder: Path, wanted: Origin) -> None:
    """Mark a new folder as this corpus', or see that a half-built one is. Raises `DataError` when it is another's."""
    path = folder / "origin.json"
    if path.exists():
        found = read_record(path, Origin)
        if found.made_from != wanted.made_from:
            raise DataError(_another(folder, found, wanted))
    elif any((folder / name).exists() for name in ("origin", "plan.jsonl", "pages.jsonl")):
        raise DataError(f"{folder} holds pages without origin.json, from an older version of Rostok or copied there. "
                        f"Use a new run folder, or delete {folder} to build them again.")
    else:
        write_atomic(path, wanted.model_dump_json(indent=1) + "\n")


def check_pages(folder: Path, manifest: Manifest) -> None:
    """Raises `DataError` when pages.jsonl is not what the manifest was written for; a broken line is named first."""
    path = folder / "pages.jsonl"
    if not path.exists() or file_digest(path) != manifest.pages_sha256:
        read_jsonl(path, Page, remedy=remedy(folder))
        broken = _broken(path, Page)
        if broken:
            raise DataError(f"{path}, line {broken[0]}: its end is missing. {remedy(folder)}")
        raise DataError(f"{path} was changed after the corpus was finished (its hash is not that of manifest.json). "
                        f"Restore it, or delete {folder} and run: rostok corpus build")


def training_pages(folder: Path) -> tuple[Sequence[Page], Sequence[Page]]:
    """Pages to train on, and held-out pages, of a finished corpus. Raises `DataError` when it is not whole."""
    manifest = read_record(folder / "manifest.json", Manifest)
    check_pages(folder, manifest)
    pages = read_jsonl(folder / "pages.jsonl", Page)
    return [page for page in pages if not page.held_out], [page for page in pages if page.held_out]


def remedy(folder: Path) -> str:
    """What to do about a line of a corpus that is not whole. Moving the file away would lose every page."""
    return f"Run: {_command(folder)}, which keeps all whole lines and makes only what is missing."


def left_out(folder: Path, broken: Mapping[str, int]) -> str:
    """The sentence about lines that a reader passed over, {file: lines}."""
    told = ", ".join(f"{number} of {name}" for name, number in broken.items())
    # Of a finished corpus the build looks at the pages alone.
    mended = "pages.jsonl" in broken or not (folder / "manifest.json").exists()
    return (f"{folder.name}: lines that are not whole were left out, {told}."
            + (f" Unless they are being written, run: {_command(folder)}" if mended else ""))


def kept_lines(path: Path, kind: type[RecordT]) -> tuple[list[RecordT], int]:
    """The records that `recover` would keep of a file, and how many lines it would drop. Nothing is written."""
    found = [record for _, record in _records(path, kind)]
    kept = [record for record in found if record is not None]
    return kept, len(found) - len(kept)


def recover(path: Path, kind: type[RecordT], tell: Callable[[str], None],
            wanted: Callable[[RecordT], bool] = lambda record: True) -> None:
    """Keep the whole lines of a file; what a kill or damage has left of the others goes to `<name>.dropped`, and is told.

    Args:
        wanted: a record that is not wanted is treated like a broken line.

    Raises:
        StorageError: the disk refused; the file is as it was.
    """
    broken = _broken(path, kind, wanted)
    if not broken:
        return
    lines = path.read_bytes().split(b"\n")
    dropped = path.with_name(path.name + ".dropped")
    with writing(dropped), dropped.open("ab") as file:
        file.write(b"".join(lines[number - 1] + b"\n" for number in broken))
    whole = [line for number, line in enumerate(lines, start=1) if line.strip() and number not in broken]
    write_atomic(path, b"".join(line + b"\n" for line in whole))
    size = sum(len(lines[number - 1]) for number in broken)
    where = ", ".join(str(number) for number in broken[:5]) + (", …" if len(broken) > 5 else "")
    tell(f"{path}: line {where} was not whole, or stood alone; {size:,} bytes are in {dropped.name} now, {len(whole)} whole "
         "lines are kept")


def _broken(path: Path, kind: type[RecordT], wanted: Callable[[RecordT], bool] = lambda record: True) -> list[int]:
    """Numbers of the lines that are no valid record, or not wanted."""
    return [number for number, record in _records(path, kind) if record is None or not wanted(record)]


def _records(path: Path, kind: type[RecordT]) -> Iterator[tuple[int, RecordT | None]]:
    """Number and record of every line that is not blank, None for one that is no valid record; a last line without its end
    is broken whatever it holds."""
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = kind.model_validate_json(line) if number < len(lines) else None
        except ValidationError:
            record = None
        yield number, record


def _command(folder: Path) -> str:
    """The command that builds, and recovers, the corpus in this folder."""
    run = folder.parent.parent if folder.parent.name == "corpora" else Path("RUN")
    return f"rostok swarm train {run.parent}" if run.name == "school" else f"rostok corpus build {run}"


def _another(folder: Path, found: Origin | Manifest, wanted: Origin) -> str:
    """The sentence that says what the folder holds instead."""
    what = "another seed, model or settings"
    if found.seed != wanted.seed:
        what = f"the seed {found.seed}, now it would be {wanted.seed}"
    elif found.generator != wanted.generator:
        what = f"version {found.generator} of the generator, this is version {wanted.generator}"
    elif found.model != wanted.model:
        what = f"the model {found.model[:12]}, now it would be {wanted.model[:12]}"
    elif found.random_seed != wanted.random_seed:
        what = f"random_seed {found.random_seed}, now it would be {wanted.random_seed}"
    elif found.settings != wanted.settings:
        old, new = found.settings.model_dump(), wanted.settings.model_dump()
        name = next(key for key in new if old[key] != new[key])
        what = f"corpus.{name} = {old[name]}, now it would be {new[name]}"
    return (f"{folder} holds a corpus made from {what}. Use a new run folder, or delete {folder} to build it again.")
