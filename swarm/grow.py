"""Grow all experts of a run over one frozen base, many in the same step, and measure what each of them learned.

An expert is built in `experts/<seed>.part` and moved to `experts/<seed>` whole, its figures.json inside: a killed run
keeps every finished expert and throws a half-trained one away.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rostok import __version__
from rostok.config import Settings
from rostok.engines.open import open_engine
from rostok.engines.protocol import Message, Request, Sampling
from rostok.errors import DataError, RunError, writing
from rostok.generator.folder import check_pages, training_pages
from rostok.generator.general import HELD_OUT
from rostok.generator.records import Manifest, Page
from rostok.models import Base, base_config
from rostok.progress import Watch
from rostok.records import Record, digest, file_digest, read_jsonl, read_record, stable_seed, write_atomic
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm import probes
from rostok.swarm.adapter_gguf import export_adapter
from rostok.swarm.base import FrozenBase
from rostok.swarm.fused import Job
from rostok.swarm.measure import bits_per_byte, nats
from rostok.swarm.records import Expert, Figures, Measurements
from rostok.swarm.schedule import steps_of
from rostok.swarm.train import Failed, Trained, train

_SWARM = 2  # raise when the same corpus and settings would give another expert or other figures


class GeneralAnswer(Record):
    """The base's own greedy answer to a held-out general question: what an expert should still find likely."""

    question: str
    answer: str


class Row(Record):
    """What one model (an expert, or the base) scored by likelihood. `with_card` only for the base."""

    made_from: str
    bits_per_byte: dict[str, float]
    probes: dict[str, float]
    general: float
    with_card: dict[str, float] = {}


def origin(base: Base, manifest: Manifest, settings: Settings) -> str:
    """Hash of everything an expert depends on."""
    return digest(base.sha256, manifest.pages_sha256, settings.training.recipe(), settings.random_seed, _SWARM)


def grow(run: Run, seeds: Sequence[Seed], base: Base, settings: Settings, watch: Watch) -> int:
    """Train what is missing, then measure. Returns tokens trained on now.

    Raises:
        RunError: a corpus is missing.
        DataError: a corpus was changed, is too small, or an expert was made from something else.
    """
    manifests = {}
    for seed in seeds:
        path = run.corpora / seed.id / "manifest.json"
        if not path.exists():
            raise RunError(f"the corpus of {seed.id} ({seed.title}) is not built yet. Run: rostok corpus build {run.folder}")
        manifests[seed.id] = read_record(path, Manifest)
        check_pages(path.parent, manifests[seed.id])
    origins = {seed.id: origin(base, manifests[seed.id], settings) for seed in seeds}
    everything = digest(origins, settings.probes, _SWARM)
    missing = [seed for seed in seeds if _finished(run, seed, origins[seed.id]) is None]
    if not missing and run.measurements.exists() and read_record(run.measurements, Measurements).made_from == everything:
        return 0
    general = _general_answers(run, base, settings)
    trained = _likelihoods(run, seeds, missing, base, settings, manifests, origins, general, everything, watch)
    _register(run, seeds, base)
    gc.collect()  # the 4-bit base goes before the serving engine comes: together they stood at 5.5 GiB in the demo
    _write_measurements(run, seeds, base, settings, everything, watch)
    return trained


def _likelihoods(run: Run, seeds: Sequence[Seed], missing: Sequence[Seed], base: Base, settings: Settings,
                 manifests: dict[str, Manifest], origins: dict[str, str], general: Sequence[GeneralAnswer], everything: str,
                 watch: Watch) -> int:
    """Train the missing experts and measure every model by likelihood while it is in memory. Returns tokens trained."""
    rows = run.experts / "rows"
    base_row = rows / "base.json"
    held_out = {seed.id: list(training_pages(run.corpora / seed.id)[1]) for seed in seeds}
    measured = base_row.exists() and read_record(base_row, Row).made_from == everything
    if not missing and measured:
        return 0
    frozen = FrozenBase(base)
    if not measured:
        watch.start("measure the base", len(seeds), "seeds")
        row = _measure(frozen.model, frozen, seeds, held_out, general, settings, everything, watch=watch)
        cards = {seed.id: probes.multiple_choice(frozen.model, frozen, seed, with_card=True) for seed in seeds}
        write_atomic(base_row, row.model_copy(update={"with_card": cards}).line() + "\n")
        watch.finish()
    if not missing:
        return 0
    for path in run.experts.glob("*.part"):  # what a kill left
        shutil.rmtree(path)
    known = {seed.id: seed for seed in missing}
    steps = {seed.id: steps_of(manifests[seed.id].pages - manifests[seed.id].held_out, settings.training) for seed in missing}
    jobs = (Job(seed.id, frozen.page_tokens(training_pages(run.corpora / seed.id)[0], settings.training.max_tokens),
                settings.training, stable_seed(settings.random_seed, seed.id)) for seed in missing)
    tokens, failed = 0, []
    watch.start(f"train {len(missing)} expert{'s' * (len(missing) > 1)}", sum(steps.values()), "steps")
    for ended in train(frozen, jobs, settings.training, lambda job: _part(run, job.name), tell=watch.note, on_step=watch.advance):
        seed = known[ended.job.name]
        if isinstance(ended, Failed):
            watch.note(f"{seed.title} is left out: {ended.reason}")
            failed.append(f"{seed.id} ({seed.title}): {ended.reason}")
            continue
        model = frozen.wear(ended.folder)
        row = _measure(model, frozen, seeds, held_out, general, settings, origins[seed.id])
        frozen.take_off(model)
        write_atomic(rows / f"{seed.id}.json", row.line() + "\n")
        before, after = read_record(base_row, Row).bits_per_byte[seed.id], row.bits_per_byte[seed.id]
        _keep(run, seed, base, settings, manifests[seed.id], origins[seed.id], ended, before, after)
        _register(run, seeds, base)
        tokens += ended.tokens
        watch.note(f"{seed.title}: {before:.2f} → {after:.2f} bits per byte, {row.probes[seed.id]:.0%} of the probes right")
    watch.finish()
    if failed:
        raise DataError(f"{len(failed)} of {len(missing)} experts could not be trained, the others are kept: "
                        f"{'; '.join(failed)}.")
    return tokens


def _part(run: Run, name: str) -> Path:
    """Where an expert is built before it is moved to its place."""
    return run.experts / f"{name}.part"


def _measure(model: object, frozen: FrozenBase, seeds: Sequence[Seed], held_out: dict[str, list[Page]],
             general: Sequence[GeneralAnswer], settings: Settings, made_from: str, watch: Watch | None = None) -> Row:
    bits, accuracy = {}, {}
    for seed in seeds:
        texts = [frozen.render(page) for page in held_out[seed.id][: settings.probes.matrix_pages]]
        bits[seed.id] = round(bits_per_byte(model, frozen, texts, settings.training.max_tokens), 4)
        accuracy[seed.id] = round(probes.multiple_choice(model, frozen, seed), 4)
        if watch is not None:
            watch.advance()
    rows, count = [], 0
    for item in general:
        asked = frozen.tokens(frozen.template.render([Message("user", item.question)]))
        answer = frozen.tokens(item.answer)
        rows.append(([*asked, *answer], len(asked)))
        count += len(answer)
    return Row(made_from=made_from, bits_per_byte=bits, probes=accuracy, general=round(sum(nats(model, rows)) / count, 4))


def _keep(run: Run, seed: Seed, base: Base, settings: Settings, manifest: Manifest, made_from: str, fitted: Trained,
          before: float, after: float) -> None:
    """Complete what lies beside the expert's place, and move it there whole."""
    target, partial = run.experts / seed.id, fitted.folder
    with writing(partial):
        export_adapter(partial, partial / "adapter.gguf", base_config(base))
        figures = Figures(
            seed=seed.id, title=seed.title, made_from=made_from, base_sha256=base.sha256,
            adapter_sha256=file_digest(partial / "adapter_model.safetensors"), gguf_sha256=file_digest(partial / "adapter.gguf"),
            corpus_sha256=manifest.pages_sha256, settings=settings.training, trainer=fitted.trainer,
            rostok=__version__, pages=len(fitted.job.pages),
            tokens=fitted.tokens, steps=fitted.steps, seconds=fitted.seconds,
            held_out_loss_before=before, held_out_loss_after=after, curve=fitted.curve)
        write_atomic(partial / "figures.json", figures.model_dump_json(indent=1) + "\n")
        os.replace(partial, target)


def _finished(run: Run, seed: Seed, made_from: str) -> Figures | None:
    path = run.experts / seed.id / "figures.json"
    if not path.exists():
        return None
    figures = read_record(path, Figures)
    if figures.made_from != made_from:
        raise DataError(f"{path.parent} holds an expert of another corpus, base or training settings than asked for now. "
                        f"Use a new run folder, or delete {path.parent} to train it again.")
    return figures


def _register(run: Run, seeds: Sequence[Seed], base: Base) -> None:
    """experts.jsonl: every finished expert, in the order of the library."""
    lines = []
    for seed in seeds:
        path = run.experts / seed.id / "figures.json"
        if path.exists():
            figures = read_record(path, Figures)
            lines.append(Expert(id=f"{base.sha256[:6]}+{figures.adapter_sha256[:6]}", seed=seed.id, title=seed.title,
                                base_sha256=base.sha256, adapter_sha256=figures.adapter_sha256,
                                gguf_sha256=figures.gguf_sha256, folder=f"experts/{seed.id}").line() + "\n")
    write_atomic(run.registry, "".join(lines))


def _general_answers(run: Run, base: Base, settings: Settings) -> list[GeneralAnswer]:
    """The base's answers to held-out general questions, asked once per run."""
    path = run.experts / "general.jsonl"
    known = read_jsonl(path, GeneralAnswer)
    if len(known) >= settings.probes.general:
        return known[: settings.probes.general]
    with open_engine(base, settings.models, sequences=settings.probes.general) as engine:
        futures = engine.submit_all([
            Request((Message("user", question),), Sampling(max_tokens=64, temperature=0.0))
            for question in HELD_OUT[: settings.probes.general]])
        answers = [GeneralAnswer(question=question, answer=future.result().text)
                   for question, future in zip(HELD_OUT, futures, strict=False)]
    write_atomic(path, "".join(answer.line() + "\n" for answer in answers))
    return answers


def _write_measurements(run: Run, seeds: Sequence[Seed], base: Base, settings: Settings, everything: str, watch: Watch) -> None:
    """Chat probes through the serving engine, then matrix.json with everything that was measured."""
    rows = {name: read_record(run.experts / "rows" / f"{name}.json", Row) for name in ("base", *(seed.id for seed in seeds))}
    asked = {seed.id: probes.questions(seed, settings.probes.chat_nodes) for seed in seeds}
    chat: dict[str, dict[str, float]] = {name: {} for name in (*(seed.id for seed in seeds), "base", "base_with_seed")}
    examples = []
    watch.start("ask the experts", 3 * sum(map(len, asked.values())), "questions")
    with open_engine(base, settings.models) as engine:
        for seed in seeds:
            engine.add_adapter(seed.id, run.experts / seed.id)
            said: dict[str, list[str]] = {}
            for name, adapter, card in ((seed.id, seed.id, ""), ("base", None, ""), ("base_with_seed", None, seed.card())):
                said[name] = probes.ask(engine, asked[seed.id], adapter=adapter, card=card)
                hits = [probes.right(answer, seed, about, expected)
                        for answer, (_, about, expected) in zip(said[name], asked[seed.id], strict=True)]
                chat[name][seed.id] = round(sum(hits) / len(hits), 4)
                watch.advance(len(hits))
            examples += [{"seed": seed.id, "question": question, "expected": expected, "base": said["base"][k],
                          "expert": said[seed.id][k]} for k, (question, _, expected) in enumerate(asked[seed.id][:2])]
    watch.finish()
    accuracy = {name: row.probes for name, row in rows.items()}
    accuracy["base_with_seed"] = rows["base"].with_card
    old = read_record(run.measurements, Measurements).router if run.measurements.exists() else {}
    measurements = Measurements(
        made_from=everything, matrix={name: row.bits_per_byte for name, row in rows.items()}, probes=accuracy,
        chat_probes=chat, chance=round(sum(1 / (len(seed.nodes) - 1) for seed in seeds) / len(seeds), 4),
        probe_items=len(seeds[0].sole_steps()) * len(probes.COMPLETIONS),
        chat_items=len(asked[seeds[0].id]), general={name: row.general for name, row in rows.items()}, router=old,
        chat_examples=tuple(examples))
    write_atomic(run.measurements, measurements.model_dump_json(indent=1) + "\n")

