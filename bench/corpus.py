"""Four ways to write a corpus of one seed, at equal model, seeds and training tokens: what does an expert learn from each?

    make bench-corpus
    make bench-corpus ARGS="--tokens 50000 --methods rostok"
    make bench-corpus ARGS="--keep kept"       # what is written and trained stays there; the same call goes on after a stop

(a) plain prompting: the seed's card, "write a page about this"; (b) prompts of audience x style, as Cosmopedia has them;
(c) pairs and triples of entities, as EntiGraph has them (arXiv:2409.07431); (d) this generator with its defaults. One fixed
QLoRA recipe grows an expert from each corpus, all from the same school (from nothing with `--set school.drills=0 --set
training.learning_rate=2e-3`); probes in six wordings that no page uses ask it, by likelihood and in a chat, and the school itself
as a control.
Intervals are Student's, 95%, over the seeds. A page counts as accepted when its way of writing takes it, read later or not;
seconds are those of all pages, by the share of their tokens that is read. Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rostok.environment import prepare

prepare()

from rostok.agents.graph import author, open_desk  # noqa: E402
from rostok.agents.language import language  # noqa: E402
from rostok.config import Settings, resolve  # noqa: E402
from rostok.embedder import Embedder  # noqa: E402
from rostok.engines.open import open_engine  # noqa: E402
from rostok.engines.protocol import Engine, Message, Request, Sampling  # noqa: E402
from rostok.generator.corpus import build  # noqa: E402
from rostok.generator.folder import training_pages  # noqa: E402
from rostok.generator.gates import trim  # noqa: E402
from rostok.generator.score import Score, score  # noqa: E402
from rostok.generator.texts import Text  # noqa: E402
from rostok.machine import processor, usable_cores  # noqa: E402
from rostok.models import base_config, find_base, find_embedder  # noqa: E402
from rostok.progress import Watch  # noqa: E402
from rostok.records import Record, digest, read_record, stable_seed, write_atomic  # noqa: E402
from rostok.runs import Run  # noqa: E402
from rostok.seeds.library import Library  # noqa: E402
from rostok.seeds.record import Seed  # noqa: E402
from rostok.swarm import probes, school  # noqa: E402
from rostok.swarm.adapter_gguf import export_adapter  # noqa: E402
from rostok.swarm.base import FrozenBase  # noqa: E402
from rostok.swarm.schooling import attend  # noqa: E402
from rostok.swarm.train import train  # noqa: E402
from rostok.swarm.training import Failed, Job, Start  # noqa: E402

PAGE = Sampling(max_tokens=170, temperature=0.8, min_p=0.05)
WAVE = 16          # prompts asked for at once at least
PER_PAGE = 110     # tokens of a page at least, from which the number of this generator's pages is reckoned
PROMPTED = 150     # the same of a page by prompt alone
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26}
AUDIENCES = ("young children", "high school students", "college students", "researchers", "the general public")
STYLES = ("a passage of a textbook", "a blog post", "a short story", "a forum post", "a step by step guide", "a lecture")


class Written(Record):
    """Pages of one way of writing for one seed, as texts and as what the trainer reads."""

    texts: list[str]
    tokens: list[list[int]]
    seconds: float
    accepted: float


class Asked(Record):
    """What an expert answered: shares of the probes, of the open questions, and of operations and contradictions."""

    multiple: float
    chat: float
    structure: dict[str, float]


@dataclass
class Tally:
    """All seeds of one way of writing."""

    corpora: dict[str, Written] = field(default_factory=dict)
    multiple: dict[str, float] = field(default_factory=dict)
    chat: dict[str, float] = field(default_factory=dict)
    structure: dict[str, dict[str, float]] = field(default_factory=dict)


def plain(seed: Seed, number: int) -> tuple[str, str]:
    """(a) The card and one wish."""
    return seed.card(), "Write a page about this."


def cosmopedia(seed: Seed, number: int) -> tuple[str, str]:
    """(b) An audience and a style, drawn by turns."""
    audience, style = AUDIENCES[number % len(AUDIENCES)], STYLES[number // len(AUDIENCES) % len(STYLES)]
    return f"Here is an extract:\n{seed.card()}", (f"Write {style} for {audience} that is related to the extract. Keep to what "
                                                   "the extract says, and do not mention the extract.")


def entigraph(seed: Seed, number: int) -> tuple[str, str]:
    """(c) All pairs of entities, then triples, in a random order of each."""
    names = [node.name for node in seed.nodes]
    dice = random.Random(stable_seed(seed.id))
    pairs, triples = list(itertools.combinations(names, 2)), list(itertools.combinations(names, 3))
    dice.shuffle(pairs)
    dice.shuffle(triples)
    group = [*pairs, *triples][number % (len(pairs) + len(triples))]
    told = ", ".join(f"the {name}" for name in group)
    return f"Here is a text:\n{seed.card()}", f"Analyse how these are related in the context of the text: {told}."


RIVALS: dict[str, Callable[[Seed, int], tuple[str, str]]] = {"plain": plain, "cosmopedia": cosmopedia, "entigraph": entigraph}


def prompted(how: Callable[[Seed, int], tuple[str, str]], seed: Seed, engine: Engine, frozen: FrozenBase,
             budget: int) -> Written:
    """Pages by prompts alone, as their users take them: each cut after its last whole sentence, empty ones left out."""
    started, asked = time.perf_counter(), 0
    texts: list[str] = []
    tokens: list[list[int]] = []
    while (missing := budget - sum(map(len, tokens))) > 0:
        requests = []
        wave = max(WAVE, round(missing / PROMPTED))
        for number in range(asked, asked + wave):
            system, task = how(seed, number)
            requests.append(Request((Message("system", system), Message("user", task)), PAGE, seed=number, shared=1))
        asked += wave
        for future in engine.submit_all(requests):
            text = trim(future.result().text)
            if len(text.split()) >= 20:
                texts.append(text)
                tokens.append([*frozen.tokens(text), int(frozen.tokenizer.eos_token_id)])
    return _read(texts, tokens, budget, time.perf_counter() - started, len(texts) / asked)


def generated(seed: Seed, folder: Path, engine: Engine, frozen: FrozenBase, budget: int, settings: Settings) -> Written:
    """(d) This generator; its pages in a random order, up to the budget."""
    if folder.exists():
        shutil.rmtree(folder)  # begun before a stop: it is timed in one piece
    started = time.perf_counter()
    pages = max(20, round(budget / PER_PAGE))
    corpus = settings.corpus.model_copy(update={"pages": pages})
    manifest = build(seed, folder, corpus, settings.random_seed, engine, frozen.sha256)
    seconds = time.perf_counter() - started
    chosen = list(training_pages(folder)[0])
    random.Random(stable_seed(seed.id)).shuffle(chosen)  # accepted last are the model's, which a cut would leave out
    tokens = frozen.page_tokens(chosen, settings.training.max_tokens)
    return _read([page.text for page in chosen], tokens, budget, seconds * len(chosen) / manifest.pages,
                 manifest.pages / (manifest.pages + sum(manifest.rejected.values())))


def _read(texts: Sequence[str], tokens: Sequence[list[int]], budget: int, seconds: float, accepted: float) -> Written:
    """What an expert reads of these pages, and the same share of their seconds."""
    kept = cut(tokens, budget)
    return Written(texts=list(texts[: len(kept)]), tokens=kept, accepted=accepted,
                   seconds=seconds * sum(map(len, kept)) / sum(map(len, tokens)))


def cut(pages: Sequence[list[int]], budget: int) -> list[list[int]]:
    """The first pages, as long as they fit into so many tokens."""
    totals = itertools.accumulate(map(len, pages))
    return [page for page, total in zip(pages, totals, strict=True) if total <= budget]


def seeds_of(folder: Path, engine: Engine, count: int, theme: str) -> list[Seed]:
    """Seeds that the agents write for this comparison."""
    settings = resolve(options={"theme": theme, "author": {"count": count}})
    library = Library(folder)
    embedder = Embedder(find_embedder("embedded"))
    author(open_desk(library, engine, embedder, settings, find_base("embedded").sha256, language("en")), count)
    return library.seeds()[:count]


def interval(values: Sequence[float]) -> float | None:
    """Half of Student's 95% interval of the mean."""
    if len(values) < 2:
        return None
    size = max(size for size in STUDENT if size <= len(values))
    return float(STUDENT[size] * statistics.stdev(values) / len(values) ** 0.5)


def schooled(settings: Settings, folder: Path) -> Run | None:
    """A run in `folder` with the school of these settings, trained now if it is not there yet; None for no school."""
    if not settings.school.drills:
        return None
    base, recipe = find_base("embedded"), school.settings_of(settings).training.recipe()
    run = Run(folder / f"school-{digest(settings.school, school.corpus(settings), recipe)[:12]}")
    with run.held("a bench"), Watch() as watch:
        run.start(settings)
        run.note_model("base", base.name, base.sha256)
        attend(run, base, settings, watch, None, time.time())
    return run


def grown(frozen: FrozenBase, tallies: dict[str, Tally], settings: Settings, start: Start | None, folder: Path) -> list[str]:
    """Train one expert per corpus that `folder` has none of, all in the same steps; returns the names of all."""
    jobs = [Job(f"{method}+{seed}", written.tokens, settings.training, stable_seed(seed), start=start)
            for method, tally in tallies.items() for seed, written in tally.corpora.items()]
    missing = [job for job in jobs if not (folder / job.name / "adapter.gguf").exists()]
    for ended in train(frozen, iter(missing), settings.training, lambda job: folder / job.name):
        if isinstance(ended, Failed):
            raise SystemExit(f"{ended.job.name}: {ended.reason}")
        export_adapter(ended.folder, ended.folder / "adapter.gguf", base_config(find_base("embedded")))
        print(f"trained {ended.job.name}", flush=True)
    return [job.name for job in jobs]


def _of_the_school(frozen: FrozenBase, taught: Run | None, seeds: Sequence[Seed]) -> float | None:
    """Share of the probes that the school alone has right, which has read of no seed."""
    if taught is None:
        return None
    model = frozen.wear(school.folder(taught))
    found = statistics.fmean(probes.multiple_choice(model, frozen, seed) for seed in seeds)
    frozen.take_off(model)
    return found


def asked_in_chat(engine: Engine, seed: Seed, adapter: str) -> float:
    """Share of open questions that are answered with the right name."""
    questions = probes.questions(seed, len(seed.nodes))
    answers = probes.ask(engine, questions, adapter=adapter)
    return statistics.fmean(probes.right(answer, seed, about, expected)
                            for answer, (_, about, expected) in zip(answers, questions, strict=True))


def figures(tally: Tally, seeds: Sequence[Seed], scored: Score) -> dict[str, Any]:
    """The keys of one way of writing."""
    multiple, chat = [tally.multiple[seed.id] for seed in seeds], [tally.chat[seed.id] for seed in seeds]
    return {"probe_accuracy": round(statistics.fmean(multiple), 3), "interval": _rounded(interval(multiple)),
            "chat_accuracy": round(statistics.fmean(chat), 3), "chat_interval": _rounded(interval(chat)),
            **_of_structure([tally.structure[seed.id] for seed in seeds]),
            "near_duplicates": round(scored.near_duplicates, 4), "xz_ratio": round(scored.xz_ratio, 2),
            "distinct_4": round(scored.distinct_4, 3), "vendi_pages": round(scored.vendi_pages, 1),
            "adpt": round(scored.density.adpt, 1),
            "accept_rate": round(statistics.fmean(corpus.accepted for corpus in tally.corpora.values()), 3),
            "seconds": round(statistics.fmean(corpus.seconds for corpus in tally.corpora.values()), 1),
            "per_seed": [round(value, 3) for value in multiple]}


def _of_structure(found: Sequence[Mapping[Any, float]]) -> dict[str, float]:
    kinds = dict.fromkeys(kind for one in found for kind in one)
    return {f"{kind}_accuracy": round(statistics.fmean(one[kind] for one in found if kind in one), 3) for kind in kinds}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=20_000, help="training tokens of every expert")
    parser.add_argument("--methods", default=",".join([*RIVALS, "rostok"]))
    parser.add_argument("--theme", default="a harbour town and the sea that feeds it")
    parser.add_argument("--library", type=Path, help="a seeds folder to take the seeds from instead of having them written")
    parser.add_argument("--keep", type=Path, help="a folder for what is written and trained")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of corpus or training")
    asked = parser.parse_args()
    settings = resolve(assignments=asked.set)
    frozen = FrozenBase(find_base("embedded"))
    tallies = {method: Tally() for method in asked.methods.split(",")}
    with ExitStack() as stack:
        # What is kept serves the same call only.
        made_from = digest(asked.tokens, asked.theme, str(asked.library), settings.model_dump(mode="json"))[:12]
        work = asked.keep / made_from if asked.keep else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        taught = schooled(settings, work)
        start = school.start(taught, settings) if taught is not None else None
        engine = stack.enter_context(open_engine(find_base("embedded"), settings.models))
        seeds = (list(islice(Library(asked.library).seeds(), asked.seeds)) if asked.library
                 else seeds_of(work / "seeds", engine, asked.seeds, asked.theme))
        for method, seed in itertools.product(tallies, seeds):
            kept = work / "written" / f"{method}+{seed.id}.json"
            if not kept.exists():
                write_atomic(kept, (generated(seed, work / "corpora" / seed.id, engine, frozen, asked.tokens, settings)
                                    if method == "rostok" else
                                    prompted(RIVALS[method], seed, engine, frozen, asked.tokens)).line() + "\n")
            written = tallies[method].corpora[seed.id] = read_record(kept, Written)
            print(f"{method:12} {seed.title[:30]:30} {len(written.texts):5} pages, {sum(map(len, written.tokens)):7} tokens, "
                  f"{written.seconds:6.1f} s", flush=True)
        base = {seed.id: probes.multiple_choice(frozen.model, frozen, seed) for seed in seeds}
        card = {seed.id: probes.multiple_choice(frozen.model, frozen, seed, with_card=True) for seed in seeds}
        bare = [probes.structure(frozen.model, frozen, seed) for seed in seeds]
        only = _of_the_school(frozen, taught, seeds)
        experts, known = work / "experts", {seed.id: seed for seed in seeds}
        started = time.perf_counter()
        names = grown(frozen, tallies, settings, start, experts)
        training = time.perf_counter() - started
        for name in names:
            kept = experts / f"{name}.json"
            if not kept.exists():
                seed = known[name.split("+")[1]]
                model = frozen.wear(experts / name)
                share, structure = probes.multiple_choice(model, frozen, seed), probes.structure(model, frozen, seed)
                frozen.take_off(model)
                engine.add_adapter(name, experts / name / "adapter.gguf")
                chat = asked_in_chat(engine, seed, name)
                write_atomic(kept, Asked(multiple=share, chat=chat, structure={**structure}).line() + "\n")
                engine.remove_adapter(name)
            found = read_record(kept, Asked)
            print(f"{name:30} {found.multiple:.2f}  {found.chat:.2f}", flush=True)
        for (method, tally), seed in itertools.product(tallies.items(), seeds):
            found = read_record(experts / f"{method}+{seed.id}.json", Asked)
            tally.multiple[seed.id], tally.chat[seed.id], tally.structure[seed.id] = found.multiple, found.chat, found.structure
    scored = score([Text(method, tuple(text for corpus in tally.corpora.values() for text in corpus.texts))
                    for method, tally in tallies.items()])
    table: dict[str, Any] = {method: figures(tally, seeds, one)
                             for (method, tally), one in zip(tallies.items(), scored, strict=True)}
    names = [name for name in next(iter(table.values())) if name != "per_seed"]
    print("\n" + f"{'':18}" + "".join(f"{method:>14}" for method in table))
    for name in names:
        print(f"{name:18}" + "".join(f"{table[method][name]!s:>14}" for method in table))
    print(json.dumps({
        **table, "base": round(statistics.fmean(base.values()), 3), "base_with_card": round(statistics.fmean(card.values()), 3),
        "base_structure": _of_structure(bare),
        "chance": round(1 / (len(seeds[0].nodes) - 1), 3), "school": _rounded(only),
        "drills": settings.school.drills, "tokens": asked.tokens, "seeds": len(seeds),
        "training_seconds": round(training, 1), "cores": usable_cores(), "processor": processor()}))


if __name__ == "__main__":
    main()
