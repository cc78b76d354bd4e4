"""Bytes on disk of what a run has made already, for those of its stages that are done."""

from __future__ import annotations

from pathlib import Path

from rostok.estimate.pace import Sizes
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


def besides_pages(corpus: Path) -> float:
    """Bytes of a corpus that do not grow with its pages."""
    return size(corpus) - sum((corpus / name).stat().st_size for name in ("plan.jsonl", "pages.jsonl", "rejects.jsonl")
                              if (corpus / name).exists())


def size(folder: Path) -> float:
    """Bytes of all files in a folder."""
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
