"""Grow all experts of a run over one frozen base, many in the same step, and measure what each of them learned.

An expert is built in `experts/<seed>.part` and moved to `experts/<seed>` whole, its figures.json inside: a killed run
keeps every finished expert, and goes on with the others from their checkpoints. Workers train (`rostok.swarm.execute`);
this process measures what they have trained. An expert that cannot be trained, and a seed that has no corpus, is named in the
end; the others go on.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

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
from rostok.records import Record, digest, file_digest, read_jsonl, read_record, write_atomic
from rostok.runs import Event, Run
from rostok.seeds.record import Seed
from rostok.swarm import probes, registry
from rostok.swarm.adapter_gguf import export_adapter
from rostok.swarm.base import FrozenBase
from rostok.swarm.checkpoint import FINISHED, Finished, trained
from rostok.swarm.deadline import Deadline
from rostok.swarm.execute import execute
from rostok.swarm.jobs import Order
from rostok.swarm.measure import bits_per_byte, nats
from rostok.swarm.records import Figures, Measurements
from rostok.swarm.schedule import CHARACTERS_OF_A_TOKEN, steps_of
from rostok.swarm.school import read_school
from rostok.swarm.schooling import attend
from rostok.swarm.supervisor import Outcome

_SWARM = 2  # raise when the same corpus and settings would give another expert
_MEASURED = 1  # raise when the same expert would have other figures


class GeneralAnswer(Record):
    """The base's own greedy answer to a held-out general question: what an expert should still find likely."""

    question: str
    answer: str


class Row(Record):
    """What one model (an expert, or the base) scored by likelihood, by seed. `structure` has an expert's own seed alone, by kind;
    `with_card` and `structure_with_card` are of the base.
    """

    made_from: str
    bits_per_byte: dict[str, float]
    probes: dict[str, float]
    general: float
    structure: dict[str, dict[str, float]] = {}
    with_card: dict[str, float] = {}
    structure_with_card: dict[str, dict[str, float]] = {}
    seconds: float = 0.0


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
    measure = _Measure(run, seeds, sound, base, settings, taught, origins, watch)
    deadline = None if until is None else Deadline(until, 0.0 if len(grown) == len(built) else measure.seconds_of_a_row())
    outcome = _train(run, built, grown, settings, manifests, origins, watch, deadline, since)
    if outcome.stopped:
        raise KeyboardInterrupt
    for seed in sound:
        done = trained(run.part(seed.id), origins[seed.id])
        if done is not None:
            measure.finish(seed, done, manifests[seed.id])
    tokens = read + sum(row.tokens for row in outcome.rows if row.state == "done" and row.name not in grown)
    if any((run.experts / seed.id / "figures.json").exists() for seed in seeds):
        registry.write(run, seeds, base)
    present = [seed for seed in sound if (run.experts / seed.id / "figures.json").exists()]
    if present:
        measure.complete(present)
    left_out = [f"{seed.id} ({seed.title}): {broken[seed.id]}" for seed in built if seed.id in broken]
    left_out += [f"{row.name} ({row.title}), {row.state}: {row.reason}" for row in outcome.rows
                 if row.state in ("failed", "quarantined") and row.name not in broken]
    for sentence in (*left_out, *(f"{name}: it has no finished corpus" for name in unbuilt)):
        run.journal(Event(time=time.strftime("%Y-%m-%dT%H:%M:%S"), kind="left out", stage="swarm", note=sentence))
    return Grown(tokens, tuple(left_out), len(outcome.left), unbuilt)


def measured_on(expert: str, seeds: Sequence[str], others: int) -> set[str]:
    """The seeds that an expert is measured on: its own, and so many that its hash draws among the others.

    All on all would grow with the square of the library: 11 hours for a hundred seeds on two cores. A seed that joins takes
    a place in few of the draws, so that most measurements stay as they are.
    """
    return {expert, *sorted((name for name in seeds if name != expert), key=lambda name: digest(expert, name))[:others]}


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


class _Measure:
    """Likelihoods of every expert over its own corpus and some others, with the base loaded when first needed."""

    def __init__(self, run: Run, library: Sequence[Seed], sound: Sequence[Seed], base: Base, settings: Settings,
                 school: str, origins: dict[str, str], watch: Watch) -> None:
        self._run, self._library, self._seeds = run, library, sound
        self._base, self._settings, self._school, self._watch = base, settings, school, watch
        self._origins = {seed.id: origins[seed.id] for seed in sound}
        self._everything = digest(self._origins, settings.probes, _SWARM, _MEASURED)
        self._rows = run.experts / "rows"
        self._frozen: FrozenBase | None = None
        self._held_out: dict[str, list[Page]] | None = None
        self._general: Sequence[GeneralAnswer] = ()

    def seconds_of_a_row(self) -> float:
        """What measuring one expert takes here, by the base, which is measured for it. Its memory is given back."""
        started = time.monotonic()
        seconds = self._base_row().seconds or time.monotonic() - started
        self._frozen = None
        gc.collect()
        return seconds * min(1.0, (1 + self._settings.probes.others) / max(1, len(self._seeds)))

    def finish(self, seed: Seed, done: Finished, manifest: Manifest) -> None:
        """Measure a trained expert, complete what lies beside its place, and move it there whole."""
        before = self._base_row().bits_per_byte[seed.id]
        frozen = self._loaded()
        model = frozen.wear(self._run.part(seed.id))
        row = self._row(model, self._origins[seed.id], self._read_by(seed), own=[seed])
        frozen.take_off(model)
        write_atomic(self._rows / f"{seed.id}.json", row.line() + "\n")
        after = row.bits_per_byte[seed.id]
        _keep(self._run, seed, self._base, self._settings, manifest, self._origins[seed.id], self._school, done,
              before, after)
        registry.write(self._run, self._library, self._base)
        self._watch.note(f"{seed.title}: {before:.2f} → {after:.2f} bits per byte, {row.probes[seed.id]:.0%} of the probes right")

    def complete(self, present: Sequence[Seed]) -> None:
        """Rows that are of other corpora than now, then the chat probes and matrix.json."""
        made_from = digest(self._everything, [seed.id for seed in present])
        path = self._run.measurements
        if path.exists() and read_record(path, Measurements).made_from == made_from:
            return
        self._base_row()
        for seed in present:
            row = self._rows / f"{seed.id}.json"
            read = [one.id for one in self._read_by(seed)]
            known = read_record(row, Row) if row.exists() else None
            if known is None or list(known.bits_per_byte) != read or not known.structure:
                frozen = self._loaded()
                model = frozen.wear(self._run.experts / seed.id)
                write_atomic(row, self._row(model, self._origins[seed.id], self._read_by(seed), own=[seed]).line() + "\n")
                frozen.take_off(model)
        self._frozen = None
        gc.collect()  # the 4-bit base goes before the serving engine comes: together they stood at 5.5 GiB in the demo
        _write_measurements(self._run, present, self._base, self._settings, made_from, self._watch)

    def _base_row(self) -> Row:
        path = self._rows / "base.json"
        if path.exists() and (known := read_record(path, Row)).made_from == self._everything:
            return known
        self._watch.start("measure the base", len(self._seeds), "seeds")
        started = time.monotonic()
        frozen = self._loaded()
        loaded = time.monotonic()
        row = self._row(frozen.model, self._everything, self._seeds, own=self._seeds, watch=self._watch)
        cards = {seed.id: probes.multiple_choice(frozen.model, frozen, seed, with_card=True) for seed in self._seeds}
        row = row.model_copy(update={
            "with_card": cards, "structure_with_card": _structure(frozen.model, frozen, self._seeds, with_card=True),
            "seconds": round(time.monotonic() - loaded, 2)})
        write_atomic(path, row.line() + "\n")
        self._watch.finish(f"loaded in {loaded - started:.0f} s" if loaded - started > 5 else "")
        return row

    def _read_by(self, seed: Seed) -> list[Seed]:
        names = measured_on(seed.id, [one.id for one in self._seeds], self._settings.probes.others)
        return [one for one in self._seeds if one.id in names]

    def _row(self, model: object, made_from: str, seeds: Sequence[Seed], *, own: Sequence[Seed],
             watch: Watch | None = None) -> Row:
        if self._held_out is None:
            self._held_out = {seed.id: list(training_pages(self._run.corpora / seed.id)[1]) for seed in self._seeds}
        frozen = self._loaded()
        row = _measure(model, frozen, seeds, self._held_out, self._general, self._settings, made_from, watch=watch)
        return row.model_copy(update={"structure": _structure(model, frozen, own)})

    def _loaded(self) -> FrozenBase:
        if self._frozen is None:
            self._general = _general_answers(self._run, self._base, self._settings)  # by an engine, which is closed again
            self._frozen = FrozenBase(self._base)
        return self._frozen


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


def _structure(model: object, frozen: FrozenBase, seeds: Sequence[Seed], *,
               with_card: bool = False) -> dict[str, dict[str, float]]:
    return {seed.id: {kind: round(share, 4) for kind, share in probes.structure(model, frozen, seed, with_card=with_card).items()}
            for seed in seeds}


def _by_kind(seeds: Sequence[Seed], rows: dict[str, Row]) -> dict[str, dict[str, dict[str, float]]]:
    """{kind: {row: {seed: share}}} of operations and contradictions, with chance as a row."""
    shares = {name: row.structure for name, row in rows.items()}
    shares["base_with_seed"] = rows["base"].structure_with_card
    shares["chance"] = {seed.id: {kind: round(share, 4) for kind, share in probes.chance_of(seed).items()} for seed in seeds}
    kinds = dict.fromkeys(kind for of_seed in shares["chance"].values() for kind in of_seed)
    return {kind: {name: {seed: of_seed[kind] for seed, of_seed in by_seed.items() if kind in of_seed}
                   for name, by_seed in shares.items()} for kind in kinds}


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
    old = read_record(run.measurements, Measurements) if run.measurements.exists() else None
    measurements = Measurements(
        made_from=everything, matrix={name: row.bits_per_byte for name, row in rows.items()}, probes=accuracy,
        chat_probes=chat, chance=round(sum(1 / (len(seed.nodes) - 1) for seed in seeds) / len(seeds), 4),
        probe_items=len(seeds[0].sole_steps()) * len(probes.COMPLETIONS),
        chat_items=len(asked[seeds[0].id]), structure_probes=_by_kind(seeds, rows),
        general={name: row.general for name, row in rows.items()},
        router=old.router if old is not None else {}, retrieval=old.retrieval if old is not None else {},
        chat_examples=tuple(examples))
    write_atomic(run.measurements, measurements.model_dump_json(indent=1) + "\n")

