"""The yardstick of a splice: one adapter trained freshly on the corpora of all its parents, with its rank.

It is kept in `experts/fresh/`, so that the next splice of the same parents with the same rank does not train it again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rostok.config import Settings, TrainingSettings
from rostok.errors import DataError, RunError, writing
from rostok.generator.folder import training_pages
from rostok.generator.records import Manifest, Page
from rostok.models import Base, base_config
from rostok.records import Record, digest, file_digest, read_record, stable_seed, write_atomic
from rostok.runs import Run
from rostok.seeds.library import Library
from rostok.swarm import school
from rostok.swarm.adapter_gguf import export_adapter
from rostok.swarm.base import FrozenBase
from rostok.swarm.schedule import steps_of
from rostok.swarm.teacher import contexts
from rostok.swarm.train import train
from rostok.swarm.training import Failed, Job, Start

_FRESH = 1  # raise when the same corpora and settings would give another adapter


class Fresh(Record):
    """`experts/fresh/<name>/fresh.json`, the marker of a trained yardstick."""

    made_from: str
    seeds: tuple[str, ...]
    settings: TrainingSettings
    adapter_sha256: str
    gguf_sha256: str
    tokens: int
    seconds: float


def fresh_adapter(run: Run, seeds: Sequence[str], rank: int, base: Base, settings: Settings, frozen: Callable[[], FrozenBase],
                  on_begin: Callable[[int], None] = lambda steps: None,
                  on_step: Callable[[int, int], None] = lambda steps, tokens: None) -> tuple[Path, Fresh, bool]:
    """The folder of the adapter for these seeds' corpora, its record, and whether it was trained now.

    Args:
        rank: in place of `training.rank`; alpha is changed by the same factor, so that the scale stays.
        frozen: gives the base to train on; it is as before afterwards.
        on_begin: called with the number of steps when training begins.
        on_step: called with (1, tokens) after each.

    Raises:
        RunError: a corpus is missing.
        DataError: a corpus was changed, or is too small; a seed whose card the teacher needs is not in the library.
        StorageError: the disk refused.
    """
    chosen = settings.training.model_copy(
        update={"rank": rank, "alpha": max(1, round(settings.training.alpha * rank / settings.training.rank))})
    ordered = sorted(seeds)
    hashes = []
    for seed in ordered:
        path = run.corpora / seed / "manifest.json"
        if not path.exists():
            raise RunError(f"the corpus of {seed} is not in {run.folder}, so nothing can be trained to compare with. "
                           "Add --no-measure to leave the comparison out.")
        hashes.append(read_record(path, Manifest).pages_sha256)
    begun = school.start(run, settings, chosen)
    origin = digest(base.sha256, hashes, chosen, settings.random_seed, _FRESH, *([begun.sha256] if begun is not None else []))
    target = run.experts / "fresh" / origin[:12]
    marker = target / "fresh.json"
    if marker.is_file():
        known = read_record(marker, Fresh)
        if known.made_from == origin and file_digest(target / "adapter_model.safetensors") == known.adapter_sha256:
            return target, known, False
    pages = [page for seed in ordered for page in training_pages(run.corpora / seed)[0]]
    cards = {seed: Library(run.seeds).find(seed).card() for seed in ordered} if chosen.distils else {}
    partial = target.with_name(f"{target.name}.part")
    started = time.monotonic()
    on_begin(steps_of(len(pages), chosen))
    tokens = _trained(frozen(), partial, pages, cards, chosen, stable_seed(settings.random_seed, *ordered), begun, on_step)
    with writing(partial):
        export_adapter(partial, partial / "adapter.gguf", base_config(base))
        record = Fresh(made_from=origin, seeds=tuple(ordered), settings=chosen, tokens=tokens,
                       adapter_sha256=file_digest(partial / "adapter_model.safetensors"),
                       gguf_sha256=file_digest(partial / "adapter.gguf"), seconds=round(time.monotonic() - started, 2))
        write_atomic(partial / "fresh.json", record.model_dump_json(indent=1) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    return target, record, True


def _trained(frozen: FrozenBase, folder: Path, pages: Sequence[Page], cards: dict[str, str], settings: TrainingSettings,
             random_seed: int, begun: Start | None, on_step: Callable[[int, int], None]) -> int:
    """Train and save; the only place where a splice's comparison meets the trainer. Returns the tokens trained on.

    Raises:
        DataError: the pages are too few, or training failed.
    """
    job = Job(folder.name, frozen.page_tokens(pages, settings.max_tokens), settings, random_seed,
              contexts(frozen, pages, cards) if settings.distils else (), begun)
    with writing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    ended = next(train(frozen, [job], settings, lambda _: folder, on_step=on_step))
    if isinstance(ended, Failed):
        raise DataError(f"the adapter to compare with could not be trained: {ended.reason}. Add --no-measure to leave the "
                        "comparison out.")
    return ended.tokens
