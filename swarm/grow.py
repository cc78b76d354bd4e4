"""Grow all experts of a run over one frozen base, many in the same step, and measure what each of them learned.

An expert is built in `experts/<seed>.part` and moved to `experts/<seed>` whole, its figures.json inside: a killed run
keeps every finished expert, and goes on with the others from their checkpoints. Workers train (`rostok.swarm.execute`);
this process measures what they have trained. An expert that cannot be trained, and a seed that has no corpus, is named in the
end; the others go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from rostok import __version__
from rostok.config import Settings
from rostok.errors import DataError, RunError, writing
from rostok.generator.folder import check_pages
from rostok.generator.records import Manifest
from rostok.models import Base, base_config
from rostok.progress import Watch
from rostok.records import digest, file_digest, read_record, write_atomic
from rostok.runs import Event, Run
from rostok.seeds.record import Seed
from rostok.swarm import registry
from rostok.swarm.adapter_gguf import export_adapter
from rostok.swarm.checkpoint import FINISHED, Finished, trained
from rostok.swarm.deadline import Deadline
from rostok.swarm.evaluate import Evaluation
from rostok.swarm.execute import execute
from rostok.swarm.jobs import Order
from rostok.swarm.records import Figures
from rostok.swarm.schedule import CHARACTERS_OF_A_TOKEN, steps_of
from rostok.swarm.school import read_school
from rostok.swarm.schooling import attend
from rostok.swarm.supervisor import Outcome

_SWARM = 2  # raise when the same corpus and settings would give another expert


def origin(base: Base, manifest: Manifest, settings: Settings, school: str = "") -> str:
    """Hash of everything an expert depends on; `school` is that of the adapter which it begins from."""
    begun = [school] if school else []
    return digest(base.sha256, manifest.pages_sha256, settings.training.recipe(), settings.random_seed, _SWARM, *begun)


@dataclass(frozen=True)
class Grown:
    """What a stage of growing did.

    Attributes:
        tokens: trained on now.
        left_out: a sentence for every expert that cannot be trained, and why.
        waiting: experts that are still to be trained when the time is up.
        unbuilt: id and title of every seed that has no finished corpus to train on.
    """

    tokens: int = 0
    left_out: tuple[str, ...] = ()
    waiting: int = 0
    unbuilt: tuple[str, ...] = ()


def grow(run: Run, seeds: Sequence[Seed], base: Base, settings: Settings, watch: Watch, until: float | None = None) -> Grown:
    """Train what is missing, then measure what is trained.

    Args:
        seeds: the whole library; those without a finished corpus are left out.
        until: `time.time()` at which training and measuring should be over; only what fits until then is begun.

    Raises:
        RunError: no corpus is finished.
        DataError: an expert or the school was made from something else, or the school cannot be trained.
        KeyboardInterrupt: somebody asked for a stop; checkpoints have been written.
    """
    since = psutil.Process().create_time()
    manifests = {seed.id: read_record(path, Manifest) for seed in seeds
                 if (path := run.corpora / seed.id / "manifest.json").exists()}
    if not manifests:
        raise RunError(f"{run.folder} has no finished corpus yet. Run: rostok corpus build {run.folder}")
    built = [seed for seed in seeds if seed.id in manifests]
    unbuilt = tuple(f"{seed.id} ({seed.title})" for seed in seeds if seed.id not in manifests)
    if unbuilt:
        watch.note(f"left out, without a finished corpus: {', '.join(unbuilt)}")
    broken = _broken(run, built, manifests)
    sound = [seed for seed in built if seed.id not in broken]
    taught, read = "", 0
    if settings.school.drills:
        there = read_school(run) is not None
        school = attend(run, base, settings, watch, until, since)
        if school is None:
            return Grown(waiting=len(built), unbuilt=unbuilt)
        taught, read = school.adapter_sha256, 0 if there else school.tokens
    origins = {seed.id: origin(base, manifests[seed.id], settings, taught) for seed in built}
    grown = [seed.id for seed in built if _finished(run, seed, origins[seed.id]) is not None]
    evaluation = Evaluation(run, sound, base, settings, origins, watch)
    deadline = None if until is None else Deadline(until, 0.0 if len(grown) == len(built) else evaluation.seconds_of_a_row())
    outcome = _train(run, built, grown, settings, manifests, origins, watch, deadline, since)
    if outcome.stopped:
        raise KeyboardInterrupt
    for seed in sound:
        done = trained(run.part(seed.id), origins[seed.id])
        if done is not None:
            before, row = evaluation.expert(seed, run.part(seed.id))
            after = row.bits_per_byte[seed.id]
            _keep(run, seed, base, settings, manifests[seed.id], origins[seed.id], taught, done, before, after)
            registry.write(run, seeds, base)
            watch.note(f"{seed.title}: {before:.2f} → {after:.2f} bits per byte, {row.probes[seed.id]:.0%} of the probes right")
    tokens = read + sum(row.tokens for row in outcome.rows if row.state == "done" and row.name not in grown)
    if any((run.experts / seed.id / "figures.json").exists() for seed in seeds):
        registry.write(run, seeds, base)
    present = [seed for seed in sound if (run.experts / seed.id / "figures.json").exists()]
    if present:
        evaluation.complete(present)
    left_out = [f"{seed.id} ({seed.title}): {broken[seed.id]}" for seed in built if seed.id in broken]
    left_out += [f"{row.name} ({row.title}), {row.state}: {row.reason}" for row in outcome.rows
                 if row.state in ("failed", "quarantined") and row.name not in broken]
    for sentence in (*left_out, *(f"{name}: it has no finished corpus" for name in unbuilt)):
        run.journal(Event(time=time.strftime("%Y-%m-%dT%H:%M:%S"), kind="left out", stage="swarm", note=sentence))
    return Grown(tokens, tuple(left_out), len(outcome.left), unbuilt)


def _broken(run: Run, seeds: Sequence[Seed], manifests: dict[str, Manifest]) -> dict[str, str]:
    """Corpora that are not what they were finished with, and why; they are left out of the measuring too."""
    found = {}
    for seed in seeds:
        try:
            check_pages(run.corpora / seed.id, manifests[seed.id])
        except DataError as error:
            found[seed.id] = str(error)
    return found


def _train(run: Run, seeds: Sequence[Seed], grown: Sequence[str], settings: Settings, manifests: dict[str, Manifest],
           origins: dict[str, str], watch: Watch, until: Deadline | None, since: float) -> Outcome:
    """All experts that are missing, by workers."""
    orders = [_order(seed, manifests[seed.id], origins[seed.id], settings) for seed in seeds]
    missing = [order for order in orders if order.name not in grown]
    if missing:
        watch.start(f"train {len(missing)} expert{'s' * (len(missing) > 1)}", sum(order.steps for order in missing), "steps")
    try:
        return execute(run, orders, grown, settings, tell=watch.note, on_step=watch.advance, until=until, since=since)
    finally:
        if missing:
            watch.finish()


def _order(seed: Seed, manifest: Manifest, made_from: str, settings: Settings) -> Order:
    pages = manifest.pages - manifest.held_out
    steps = steps_of(pages, settings.training)
    tokens = manifest.characters / max(1, manifest.pages) / CHARACTERS_OF_A_TOKEN
    return Order(name=seed.id, title=seed.title, made_from=made_from, steps=steps,
                 total=round(steps * settings.training.pages_per_step * tokens))


def _keep(run: Run, seed: Seed, base: Base, settings: Settings, manifest: Manifest, made_from: str,
          school: str, done: Finished, before: float, after: float) -> None:
    """Complete what lies beside the expert's place, and move it there whole."""
    target, partial = run.experts / seed.id, run.part(seed.id)
    with writing(partial):
        export_adapter(partial, partial / "adapter.gguf", base_config(base))
        figures = Figures(
            seed=seed.id, title=seed.title, made_from=made_from, base_sha256=base.sha256,
            adapter_sha256=file_digest(partial / "adapter_model.safetensors"), gguf_sha256=file_digest(partial / "adapter.gguf"),
            corpus_sha256=manifest.pages_sha256, school_sha256=school, settings=settings.training, trainer=done.trainer,
            rostok=__version__, pages=done.pages,
            tokens=done.tokens, steps=done.steps, seconds=done.seconds,
            held_out_loss_before=before, held_out_loss_after=after, curve=done.curve)
        write_atomic(partial / "figures.json", figures.model_dump_json(indent=1) + "\n")
        os.replace(partial, target)
        (target / FINISHED).unlink(missing_ok=True)


def _finished(run: Run, seed: Seed, made_from: str) -> Figures | None:
    path = run.experts / seed.id / "figures.json"
    if not path.exists():
        return None
    figures = read_record(path, Figures)
    if figures.made_from != made_from:
        raise DataError(f"{path.parent} holds an expert of another corpus, base, school or training settings than asked for now. "
                        f"Use a new run folder, or delete {path.parent} to train it again.")
    return figures
