"""Three training objectives on the same corpora: what does an expert learn, in how many seconds, and what does it forget?

    make bench-objective
    make bench-objective ARGS="--run runs/lights --seeds 2 --tokens 10000"
    make bench-objective ARGS="--objectives next-token --vary training.rank=8,16 training.layers=all,10"
    make bench-objective ARGS="--objectives next-token --vary corpus.shares.replay=0,0.1,0.25"
    make bench-objective ARGS="--objectives next-token --chat --vary school.drills=0,4 training.learning_rate=1e-3,2e-3"

Next-token loss, context distillation (the teacher is the base with the seed's card in its context), and their mixture, each on
the same pages of the same seeds in the same order, from the same school. Probes in six wordings that no page uses, with --chat
also open questions; nats a token of the base's own answers to general questions that no page holds. The rank is varied at equal
scale alpha / rank. With --equal-time every objective beside the first is also given as many epochs as take it no longer than the
first. Intervals are Student's, 95%, over the seeds. Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rostok.environment import prepare

prepare()

from corpus import PER_PAGE, asked_in_chat, interval, schooled, seeds_of  # noqa: E402  # bench/corpus.py

from rostok.config import Settings, resolve  # noqa: E402
from rostok.engines.open import open_engine  # noqa: E402
from rostok.engines.protocol import Engine, Message, Request, Sampling  # noqa: E402
from rostok.errors import RostokError  # noqa: E402
from rostok.generator.corpus import build  # noqa: E402
from rostok.generator.folder import training_pages  # noqa: E402
from rostok.generator.general import HELD_OUT  # noqa: E402
from rostok.generator.records import Page  # noqa: E402
from rostok.machine import processor, usable_cores  # noqa: E402
from rostok.models import base_config, find_base  # noqa: E402
from rostok.records import stable_seed  # noqa: E402
from rostok.seeds.library import Library  # noqa: E402
from rostok.seeds.record import Seed  # noqa: E402
from rostok.swarm import probes, school  # noqa: E402
from rostok.swarm.adapter_gguf import export_adapter  # noqa: E402
from rostok.swarm.base import FrozenBase  # noqa: E402
from rostok.swarm.measure import bits_per_byte, nats  # noqa: E402
from rostok.swarm.teacher import contexts  # noqa: E402
from rostok.swarm.train import train  # noqa: E402
from rostok.swarm.training import Failed, Job, Start  # noqa: E402

OBJECTIVES = ("next-token", "distillation", "mixture")
Corpora = Mapping[str, tuple[Sequence[Page], Sequence[Page]]]  # training and held-out pages by seed
Rows = Sequence[tuple[Sequence[int], int]]                      # a question with its answer, and where the answer begins


@dataclass
class Variant:
    """One way to train, and what its experts came to; lists are over the seeds."""

    name: str
    settings: Settings
    multiple: list[float] = field(default_factory=list)
    chat: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    general: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def figures(self, base: float) -> dict[str, Any]:
        """The keys of a variant. Points a minute are of accuracy beyond the base's, in minutes of one expert's training."""
        accuracy, seconds = statistics.fmean(self.multiple), statistics.fmean(self.seconds)
        found: dict[str, Any] = {
            "probe_accuracy": round(accuracy, 3), "interval": _rounded(interval(self.multiple)), "seconds": round(seconds, 1),
            "points_a_minute": round(100 * (accuracy - base) / (seconds / 60), 1),
            "general": round(statistics.fmean(self.general), 3), "held_out_bits": round(statistics.fmean(self.held_out), 3),
            "tokens": round(statistics.fmean(self.tokens)), "per_seed": [round(value, 3) for value in self.multiple]}
        if self.chat:
            found |= {"chat_accuracy": round(statistics.fmean(self.chat), 3), "chat_interval": _rounded(interval(self.chat))}
        return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def variants(objectives: Sequence[str], axes: Sequence[str], fixed: Sequence[str]) -> list[Variant]:
    """Every objective with every combination of the values that are varied."""
    varied: list[list[tuple[str, str]]] = []
    for axis in axes:
        key, _, values = axis.partition("=")
        varied.append([(key, value) for value in values.split(",")])
    found = []
    for objective, chosen in itertools.product(objectives, itertools.product(*varied)):
        assignments = [f"training.objective={objective}", *fixed, *(f"{key}={value}" for key, value in chosen
                                                                    if not key.startswith("corpus.shares."))]
        settings = resolve(assignments=assignments)
        if "training.rank" in dict(chosen) and not any(part.startswith("training.alpha=") for part in assignments):
            assignments.append(f"training.alpha={2 * settings.training.rank}")
        shares = {key.rpartition(".")[2]: float(value) for key, value in chosen if key.startswith("corpus.shares.")}
        if shares:
            assignments.append(f"corpus.shares={json.dumps(_shares(settings, shares))}")
        name = " ".join([objective, *(f"{key}={value}" for key, value in chosen)])
        found.append(Variant(name, resolve(assignments=assignments)))
    return found


def _shares(settings: Settings, wanted: Mapping[str, float]) -> dict[str, float]:
    """The shares with some of them set, and the others in the same proportions as before."""
    before = settings.corpus.shares.model_dump()
    rest = sum(value for key, value in before.items() if key not in wanted)
    factor = (1 - sum(wanted.values())) / rest
    return {**{key: value * factor for key, value in before.items()}, **wanted}


def corpora_of(variant: Variant, seeds: Sequence[Seed], engine: Engine, folder: Path, tokens: int, model: str) -> Corpora:
    """Corpora of this variant's settings, large enough for the budget."""
    pages = max(20, round(tokens / PER_PAGE / (1 - variant.settings.corpus.held_out)))
    settings = variant.settings.corpus.model_copy(update={"pages": pages})
    for seed in seeds:
        build(seed, folder / seed.id, settings, variant.settings.random_seed, engine, model)
    return {seed.id: training_pages(folder / seed.id) for seed in seeds}


def jobs_of(variant: Variant, seeds: Sequence[Seed], corpora: Corpora, frozen: FrozenBase, budget: int,
            start: Start | None) -> list[Job]:
    """One job a seed: pages in a random order, the same for every variant, up to the budget."""
    training, jobs = variant.settings.training, []
    for seed in seeds:
        pages = list(corpora[seed.id][0])
        random.Random(stable_seed(seed.id)).shuffle(pages)  # accepted last are the model's, which a cut would leave out
        rows = frozen.page_tokens(pages, training.max_tokens)
        count = sum(total <= budget for total in itertools.accumulate(map(len, rows)))
        taught = contexts(frozen, pages[:count], {seed.id: seed.card()}) if training.distils else ()
        jobs.append(Job(seed.id, rows[:count], training, stable_seed(seed.id), taught, start))
    return jobs


def measure(variant: Variant, seeds: Sequence[Seed], corpora: Corpora, frozen: FrozenBase, general: Rows, budget: int,
            start: Start | None, folder: Path, chat: bool) -> None:
    """Train the experts of a variant in the same steps, and ask each about its own seed, with `chat` in the chat template too."""
    known, found = {seed.id: seed for seed in seeds}, {}
    training = variant.settings.training
    for ended in train(frozen, jobs_of(variant, seeds, corpora, frozen, budget, start), training, lambda job: folder / job.name):
        if isinstance(ended, Failed):
            raise SystemExit(f"{variant.name}, {ended.job.name}: {ended.reason}")
        found[ended.job.name] = ended
    for name, seed in known.items():
        model = frozen.wear(found[name].folder)
        variant.multiple.append(probes.multiple_choice(model, frozen, seed))
        texts = [frozen.render(page) for page in corpora[name][1][:8]]
        variant.held_out.append(bits_per_byte(model, frozen, texts, training.max_tokens))
        variant.general.append(per_token(model, general))
        variant.seconds.append(found[name].seconds)
        variant.tokens.append(found[name].tokens)
        frozen.take_off(model)
    if chat:
        with open_engine(find_base("embedded"), variant.settings.models) as engine:
            for name, seed in known.items():
                path = found[name].folder / "adapter.gguf"
                export_adapter(found[name].folder, path, base_config(find_base("embedded")))
                engine.add_adapter(name, path)
                variant.chat.append(asked_in_chat(engine, seed, name))


def general_rows(engine: Engine, frozen: FrozenBase, count: int) -> Rows:
    """The base's own greedy answers to general questions that no page holds."""
    futures = engine.submit_all([Request((Message("user", question),), Sampling(max_tokens=64, temperature=0.0))
                                 for question in HELD_OUT[:count]])
    rows = []
    for question, future in zip(HELD_OUT, futures, strict=False):
        asked = frozen.tokens(frozen.template.render([Message("user", question)]))
        rows.append(([*asked, *frozen.tokens(future.result().text)], len(asked)))
    return rows


def per_token(model: Any, rows: Rows) -> float:
    """Nats a token."""
    return sum(nats(model, rows)) / sum(len(tokens) - start for tokens, start in rows)


def in_equal_time(first: Variant, others: Sequence[Variant]) -> Iterator[Variant]:
    """The first variant with as many epochs as take it as long as each of the others, where that is noticeably longer."""
    for other in others:
        factor = statistics.fmean(other.seconds) / statistics.fmean(first.seconds)
        if factor > 1.05:
            training = first.settings.training
            settings = first.settings.model_copy(update={
                "training": training.model_copy(update={"epochs": training.epochs * factor})})
            yield Variant(f"{first.name}, {factor:.2f} x the epochs", settings)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=20_000, help="training tokens of every corpus")
    parser.add_argument("--objectives", default=",".join(OBJECTIVES))
    parser.add_argument("--run", type=Path, help="a run whose seeds and finished corpora are taken instead of new ones")
    parser.add_argument("--theme", default="a harbour town and the sea that feeds it")
    parser.add_argument("--vary", nargs="+", default=[], metavar="KEY=VALUE,VALUE", help="settings of training or corpus")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all variants")
    parser.add_argument("--chat", action="store_true", help="ask open questions in the chat template as well")
    parser.add_argument("--equal-time", action="store_true", help="the first variant also for as long as each of the others")
    asked = parser.parse_args()
    try:
        compare(asked, variants(asked.objectives.split(","), asked.vary, asked.set))
    except RostokError as error:
        raise SystemExit(str(error)) from None


def compare(asked: argparse.Namespace, found: list[Variant]) -> None:
    """All variants, the table and the JSON line."""
    frozen = FrozenBase(find_base("embedded"))
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        corpora: dict[str, Corpora] = {}
        began = time.perf_counter()
        with ExitStack() as stack:
            engine = stack.enter_context(open_engine(find_base("embedded"), found[0].settings.models))
            library = Library(asked.run / "seeds").seeds() if asked.run else None
            seeds = (list(islice(library, asked.seeds)) if library is not None
                     else seeds_of(work / "seeds", engine, asked.seeds, asked.theme))
            if not seeds:
                raise SystemExit(f"{asked.run} holds no seeds. Name another run, or leave --run out.")
            general = general_rows(engine, frozen, found[0].settings.probes.general)
            own = any(part.startswith("corpus.") for part in [*asked.vary, *asked.set])
            for variant in found:
                key = variant.settings.corpus.model_dump_json()
                if key not in corpora:
                    corpora[key] = ({seed.id: training_pages(asked.run / "corpora" / seed.id) for seed in seeds}
                                    if asked.run and not own else corpora_of(
                                        variant, seeds, engine, work / f"corpora-{len(corpora)}", asked.tokens, frozen.sha256))
        print(f"{len(seeds)} seeds, corpora ready after {time.perf_counter() - began:.0f} s", flush=True)
        base = [probes.multiple_choice(frozen.model, frozen, seed) for seed in seeds]
        card = [probes.multiple_choice(frozen.model, frozen, seed, with_card=True) for seed in seeds]
        forgets = per_token(frozen.model, general)

        def run(variant: Variant) -> Variant:
            taught = schooled(variant.settings, work)
            start = school.start(taught, variant.settings) if taught is not None else None
            measure(variant, seeds, corpora[variant.settings.corpus.model_dump_json()], frozen, general, asked.tokens, start,
                    Path(tempfile.mkdtemp(dir=work)), asked.chat)
            print(f"{variant.name:50} {statistics.fmean(variant.multiple):.2f} after {statistics.fmean(variant.seconds):.0f} s",
                  flush=True)
            return variant

        for variant in found:
            run(variant)
        if asked.equal_time:
            found += [run(variant) for variant in in_equal_time(found[0], found[1:])]
    table = {variant.name: variant.figures(statistics.fmean(base)) for variant in found}
    names = [name for name in next(iter(table.values())) if name != "per_seed"]
    print(f"\n{processor()}, {usable_cores()} cores; seconds are an expert's share of steps with {len(seeds)} experts\n")
    print(f"{'':50}" + "".join(f"{name:>17}" for name in names))
    for name, row in table.items():
        print(f"{name:50}" + "".join(f"{row[key]!s:>17}" for key in names))
    print(f"base: probes {statistics.fmean(base):.3f}, with the card {statistics.fmean(card):.3f}, general {forgets:.3f}")
    print(json.dumps({
        **table, "base": round(statistics.fmean(base), 3), "base_with_card": round(statistics.fmean(card), 3),
        "base_general": round(forgets, 3), "chance": round(statistics.fmean(1 / (len(seed.nodes) - 1) for seed in seeds), 3),
        "tokens": asked.tokens, "seeds": len(seeds), "cores": usable_cores(), "processor": processor()}))


if __name__ == "__main__":
    main()
