"""Bytes on disk: of what a run has made already, and those that are free where it lies."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from rostok.estimate.pace import Sizes, StageName
from rostok.records import iter_jsonl, read_record
from rostok.runs import Run


def found_sizes(run: Run, sizes: Sizes) -> Sizes:
    """The sizes with what lies in the run in place of what was measured elsewhere."""
    from rostok.generator.records import Manifest
    from rostok.seeds.record import Seed

    found: dict[str, float] = {}
    seeds = sum(1 for _ in iter_jsonl(run.seeds / "library.jsonl", Seed))
    if seeds:
        found["seed"] = size(run.seeds) / seeds
    corpora = [path.parent for path in run.corpora.glob("*/manifest.json")]
    pages = sum(read_record(folder / "manifest.json", Manifest).pages for folder in corpora)
    if pages:
        found["corpus"] = sum(map(besides_pages, corpora)) / len(corpora)
        found["page"] = sum(map(size, corpora)) / pages - found["corpus"] * len(corpora) / pages
    experts = [path.parent for path in run.experts.glob("*/figures.json")]
    if experts:
        found["expert"] = sum(map(size, experts)) / len(experts)
    return sizes.model_copy(update=found)


def lying(run: Run) -> dict[StageName, float]:
    """Bytes that lie in the run by the stage that wrote them. What no stage is told to write (logs, exports) is left out."""
    parts: dict[StageName, tuple[Path, ...]] = {
        "author": (run.seeds,), "corpus": (run.corpora,), "swarm": (run.school, run.experts), "memory": (run.memory,),
        "report": (run.report,)}
    return {stage: sum(map(size, paths)) for stage, paths in parts.items()}


def free_bytes(folder: Path) -> float:
    """Bytes that are free on the disk of a folder, which need not be there yet."""
    folder = folder.absolute()
    return float(shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free)


def besides_pages(corpus: Path) -> float:
    """Bytes of a corpus that do not grow with its pages."""
    return size(corpus) - sum((corpus / name).stat().st_size for name in ("plan.jsonl", "pages.jsonl", "rejects.jsonl")
                              if (corpus / name).exists())


def size(folder: Path) -> float:
    """Bytes of a file, or of all files in a folder."""
    total = 0
    for path in folder.rglob("*") if folder.is_dir() else (folder,):
        with suppress(FileNotFoundError):  # a stage at work may replace it
            total += path.stat().st_size if path.is_file() else 0
    return float(total)
