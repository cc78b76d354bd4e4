"""What the experts of a run learned: by likelihood, a row for each beside the base's, then in the chat; `matrix.json` holds it.

Rows lie in `experts/rows`, so that a killed measuring goes on with the next one. `rostok.swarm.grow` measures an expert when
it is trained, and completes the matrix in the end.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path

from rostok.config import Settings
from rostok.engines.open import open_engine
from rostok.engines.protocol import Message, Request, Sampling
from rostok.generator.folder import training_pages
from rostok.generator.general import HELD_OUT
from rostok.generator.records import Page
from rostok.models import Base
from rostok.progress import Watch
from rostok.records import Record, digest, read_jsonl, read_record, write_atomic
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm import probes
from rostok.swarm.base import FrozenBase
from rostok.swarm.measure import bits_per_byte, nats
from rostok.swarm.records import Measurements

_MEASURED = 3  # raise when the same expert would have other figures


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


class Evaluation:
    """Likelihoods of every expert over its own corpus and some others, with the base loaded when first needed.

    Args:
        origins: {seed: hash of everything its expert depends on}.
    """

    def __init__(self, run: Run, seeds: Sequence[Seed], base: Base, settings: Settings, origins: dict[str, str],
                 watch: Watch) -> None:
        self._run, self._seeds, self._base, self._settings, self._watch = run, seeds, base, settings, watch
        self._origins = {seed.id: origins[seed.id] for seed in seeds}
        self._everything = digest(self._origins, settings.probes, _MEASURED)
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

    def expert(self, seed: Seed, folder: Path) -> tuple[float, Row]:
        """Measure the expert in `folder`. Returns the base's bits per byte on its seed's held-out pages, and its own row."""
        before = self._base_row().bits_per_byte[seed.id]
        frozen = self._loaded()
        model = frozen.wear(folder)
        row = self._row(model, self._origins[seed.id], self._read_by(seed), own=[seed])
        frozen.take_off(model)
        write_atomic(self._rows / f"{seed.id}.json", row.line() + "\n")
        return before, row

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
                self.expert(seed, self._run.experts / seed.id)
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


def measured_on(expert: str, seeds: Sequence[str], others: int) -> set[str]:
    """The seeds that an expert is measured on: its own, and so many that its hash draws among the others.

    All on all would grow with the square of the library: 11 hours for a hundred seeds on two cores. A seed that joins takes
    a place in few of the draws, so that most measurements stay as they are.
    """
    return {expert, *sorted((name for name in seeds if name != expert), key=lambda name: digest(expert, name))[:others]}


def _measure(model: object, frozen: FrozenBase, seeds: Sequence[Seed], held_out: dict[str, list[Page]],
             general: Sequence[GeneralAnswer], settings: Settings, made_from: str, watch: Watch | None = None) -> Row:
    bits, accuracy = {}, {}
    for seed in seeds:
        texts = [frozen.render(page) for page in held_out[seed.id][: settings.probes.matrix_pages]]
        bits[seed.id] = round(bits_per_byte(model, frozen, texts, settings.training.max_tokens), 4)
        accuracy[seed.id] = round(probes.multiple_choice(model, frozen, seed), 4)
        if watch is not None:
            watch.advance()
    return Row(made_from=made_from, bits_per_byte=bits, probes=accuracy, general=per_token(model, general_rows(frozen, general)))


def general_rows(frozen: FrozenBase, answers: Sequence[GeneralAnswer]) -> list[tuple[list[int], int]]:
    """The answers behind their questions in the chat template, as `nats` takes them: tokens, and where the answer begins."""
    asked = [frozen.tokens(frozen.template.render([Message("user", item.question)])) for item in answers]
    return [([*question, *frozen.tokens(item.answer)], len(question)) for question, item in zip(asked, answers, strict=True)]


def per_token(model: object, rows: Sequence[tuple[Sequence[int], int]]) -> float:
    """Nats per token of the answers in `general_rows`."""
    return round(sum(nats(model, rows)) / sum(len(tokens) - start for tokens, start in rows), 4)


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

