"""The stages of a run, one after the other: theme -> seeds -> corpora -> experts -> memory -> report -> one question.

Every stage is a function from files to files. It can be killed and called again: what is finished is not done twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from rostok.config import Settings
from rostok.errors import DataError, RunError
from rostok.models import Base, find_base, find_embedder
from rostok.progress import Watch
from rostok.records import read_jsonl, read_record, write_atomic
from rostok.runs import Event, Run
from rostok.swarm.deadline import TimeIsUp, alarm

if TYPE_CHECKING:
    from rich.console import Console

    from rostok.ensemble.recall.memory import Memory
    from rostok.ensemble.routing.router import Router
    from rostok.generator.corpus import CorpusError
    from rostok.seeds.record import Seed
    from rostok.swarm.grow import Grown

# What is set aside before the hour; generous guesses, since a stage that is too slow is broken off and done the next night.
_REPORT_SECONDS = 20.0     # to let go of a stage and write the report
_MEMORY_SECONDS = 60.0     # for the memory stage to load its models and measure router and retrieval
_MEMORY_OF_A_PAGE = 0.015  # and for each page that it remembers


def night(run: Run, settings: Settings, watch: Watch, console: Console, until: float | None = None) -> None:
    """All stages, the report, and one question answered by the base and by the ensemble side by side.

    Args:
        until: `time.time()` at which everything has stopped, the report written. Stages may be broken off at any moment,
            so what does not fit is done by the next night.

    Raises:
        DataError: seeds without a corpus, and experts that cannot be trained, named after everything else is done; at once
            where no seed has a corpus.
    """
    started = time.monotonic()
    unwritten: list[CorpusError] = []
    grown, late = None, False
    try:
        with alarm(until - _REPORT_SECONDS - time.time()) if until is not None else nullcontext():
            author_stage(run, settings, watch)
            unwritten = _write(run, settings, watch)
            if len(unwritten) == len(_seeds(run)):
                _refuse(_without_corpus(run, unwritten))
            grown = _grow(run, settings, watch, until)
            if run.measurements.exists():
                memory_stage(run, settings, watch)
    except TimeIsUp:
        late = True
    watch.close()
    from rostok.report.page import write_report

    report = write_report(run)
    if not late and run.registry.exists() and run.registry.stat().st_size:
        with suppress(TimeIsUp), alarm(until - time.time()) if until is not None else nullcontext():
            ask_one_question(run, settings, console)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    waiting = grown.waiting if grown is not None else 0
    what = "Stopped in time" if late or waiting else "Done"
    console.print(f"\n{what} after {minutes} min {seconds:02d} s. Run: {run.folder}   Report: {report}")
    if late or waiting:
        rest = f"{waiting} expert{'s wait' if waiting != 1 else ' waits'}" if waiting else "Some stages are not finished"
        console.print(f"{rest}; the same command goes on: rostok night {run.folder}", markup=False, highlight=False,
                      soft_wrap=True)
    console.print("\nTry next:")
    for command in (f"rostok chat {run.folder}", f"rostok report {run.folder} --json",
                    f'rostok night {run.folder.parent / "mine"} --theme "your own theme" --count 2'):
        console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)
    _refuse(_without_corpus(run, unwritten), _without_expert(grown))


def author_stage(run: Run, settings: Settings, watch: Watch) -> None:
    """Write seeds until the library holds `author.count`."""
    from rostok.agents.graph import author, open_desk
    from rostok.agents.language import language
    from rostok.seeds.library import Library
    from rostok.seeds.measures import write_manifest

    base, embedder_model = _models(run, settings)
    library = Library(run.seeds)
    library.recover()
    have = len(library.seeds())
    if have >= settings.author.count:
        return
    from rostok.embedder import Embedder
    from rostok.engines.open import open_engine

    tongue = language(settings.author.language)
    with run.stage("author") as cost, open_engine(base, settings.models, tell=watch.note) as engine:
        embedder = Embedder(embedder_model)
        desk = open_desk(library, engine, embedder, settings, base.sha256, tongue)
        watch.start("write seeds", settings.author.count, "seeds", done=have)

        def tell(what: str, text: str) -> None:
            watch.note(f"{what}: {text}")
            if what == "admitted":
                watch.advance(1)

        cost.add(author(desk, settings.author.count, on_seed=tell))
        write_manifest(library, embedder, exemplars=tongue.exemplars())
        watch.finish()


def corpus_stage(run: Run, settings: Settings, watch: Watch) -> None:
    """Build the corpus of every seed in the library.

    Raises:
        DataError: seeds of which the gates refuse too much, named after the corpora of the others are built.
    """
    _refuse(_without_corpus(run, _write(run, settings, watch)))


def _write(run: Run, settings: Settings, watch: Watch) -> list[CorpusError]:
    """All corpora that can be built. Returns what the gates refused too much of, one error a seed."""
    from rostok.engines.open import open_engine
    from rostok.generator import corpus, folder, gates
    from rostok.generator.records import Page

    base, _ = _models(run, settings)
    seeds = _seeds(run)

    def done(seed: Seed) -> bool:
        wanted = folder.origin(seed, settings.corpus, settings.random_seed, base.sha256)
        return folder.finished(run.corpora / seed.id, wanted) is not None

    missing = [seed for seed in seeds if not done(seed)]
    unwritten: list[CorpusError] = []
    if not missing:
        return unwritten
    with run.stage("corpus") as cost, open_engine(base, settings.models, tell=watch.note) as engine:
        watch.start("write pages", len(missing) * settings.corpus.pages, "pages")
        shared = gates.Shared(seeds, settings.corpus.near_duplicate)
        unfinished = {seed.id for seed in missing}
        for seed in seeds:
            if seed.id not in unfinished:
                shared.load(seed.id, read_jsonl(run.corpora / seed.id / "pages.jsonl", Page))
        for seed in missing:
            try:
                manifest = corpus.build(seed, run.corpora / seed.id, settings.corpus, settings.random_seed, engine, base.sha256,
                                        shared=shared, on_page=lambda kind, tokens: watch.advance(1, tokens), tell=watch.note)
            except corpus.CorpusError as error:  # one hopeless seed holds up no other; whatever else goes wrong stops the stage
                unwritten.append(error)
                watch.note(f"left out: {error.refused}")
                run.journal(Event(time=time.strftime("%Y-%m-%dT%H:%M:%S"), kind="left out", stage="corpus", note=error.refused))
                continue
            cost.add(manifest.sampled_tokens + manifest.bank_tokens)
            refused = sum(manifest.rejected.values())
            watch.note(f"{seed.title}: {manifest.pages} pages accepted, {refused} refused")
        watch.finish()
    return unwritten


def swarm_stage(run: Run, settings: Settings, watch: Watch) -> None:
    """Train one expert per finished corpus and measure them all.

    Raises:
        DataError: seeds without a corpus, and experts that cannot be trained, named after the others are trained and measured.
    """
    grown = _grow(run, settings, watch, None)
    _refuse(_unbuilt(run, grown), _without_expert(grown))


def _grow(run: Run, settings: Settings, watch: Watch, until: float | None) -> Grown:
    from rostok.swarm.grow import grow
    from rostok.swarm.track import track_all

    base, _ = _models(run, settings)
    seeds = _seeds(run)
    if until is not None:
        until -= _REPORT_SECONDS + _MEMORY_SECONDS + _MEMORY_OF_A_PAGE * settings.corpus.pages * len(seeds)
    with run.stage("swarm") as cost:
        grown = grow(run, seeds, base, settings, watch, until)
        if grown.tokens:
            cost.add(grown.tokens)
    track_all(run, settings)
    return grown


def _refuse(*reasons: str) -> None:
    """Raises `DataError` with those of the reasons that are not empty."""
    told = " ".join(filter(None, reasons))
    if told:
        raise DataError(told)


def _without_corpus(run: Run, unwritten: Sequence[CorpusError]) -> str:
    """Which seeds have no corpus, why, and what can be done: settings and base of a run with corpora are fixed."""
    if not unwritten:
        return ""
    library = len(_seeds(run))
    rest = library - len(unwritten)
    reasons = " ".join(f"{error.refused[0].upper()}{error.refused[1:]}." for error in unwritten)
    advice = "Take the seeds"
    if rest:  # without --count the night would write seeds anew in the places of those that were taken out
        them, lines = ("them", "their lines") if len(unwritten) > 1 else ("it", "its line")
        advice = (f"To go on without {them}, delete {lines} from {run.seeds / 'library.jsonl'} and give rostok night "
                  f"--count {rest}; or take all seeds")
    return (f"no corpus could be built for {len(unwritten)} of {library} seeds{'; the others have theirs' if rest else ''}. "
            f"{reasons} {advice} to a new run folder, with rostok seeds import NEW {run.folder}, and build them there with other "
            "corpus settings or a larger base.")


def _unbuilt(run: Run, grown: Grown) -> str:
    count = len(grown.unbuilt)
    if not count:
        return ""
    return (f"{count} seed{'s have' if count > 1 else ' has'} no finished corpus, so that no expert was trained for "
            f"{'them' if count > 1 else 'it'}: {', '.join(grown.unbuilt)}. Why, and what can be done, is told by: "
            f"rostok corpus build {run.folder}")


def _without_expert(grown: Grown | None) -> str:
    if grown is None or not grown.left_out:
        return ""
    count = len(grown.left_out)
    return (f"{count} expert{'s' if count > 1 else ''} could not be trained or measured; the others are kept. "
            + " ".join(f"{sentence.rstrip('.')}." for sentence in grown.left_out))


def memory_stage(run: Run, settings: Settings, watch: Watch) -> None:
    """Fill the memory, calibrate the router, measure it, and draw the map."""
    from rostok.embedder import Embedder
    from rostok.ensemble.measure import measure_router
    from rostok.ensemble.recall.index import index
    from rostok.ensemble.recall.memory import Memory
    from rostok.ensemble.routing.calibrate import open_router
    from rostok.generator.general import HELD_OUT
    from rostok.swarm.records import Measurements

    _, embedder_model = _models(run, settings)
    seeds = _seeds(run)
    if not run.measurements.exists():
        raise RunError(f"{run.folder} has no measurements yet. Run: rostok swarm train {run.folder}")
    before = read_record(run.measurements, Measurements)
    with run.stage("memory") as cost:
        embedder = Embedder(embedder_model)
        total = sum(1 for _ in run.corpora.glob("*/manifest.json")) * settings.corpus.pages
        watch.start("remember pages", total, "pages")
        stored = 0

        def tell(done: int, all_pages: int) -> None:
            nonlocal stored
            watch.advance(done - stored)
            stored = done

        fresh = index(run, seeds, embedder, on_pages=tell)
        watch.finish()
        if fresh or not before.router:
            cost.add()
            with Memory(run.memory, embedder) as memory:
                router = open_router(run, settings, memory, seeds)
                figures = measure_router(run, seeds, router, HELD_OUT)
                retrieval = _what_reading_adds(run, settings, seeds, router, memory, watch)
            after = before.model_copy(update={"router": figures, "retrieval": retrieval})
            write_atomic(run.measurements, after.model_dump_json(indent=1) + "\n")


def _what_reading_adds(run: Run, settings: Settings, seeds: Sequence[Seed], router: Router, memory: Memory,
                       watch: Watch) -> dict[str, float]:
    """See `measure_retrieval`; it needs the engine for a minute."""
    from rostok.engines.open import open_engine
    from rostok.ensemble.measure import asked_of, measure_retrieval
    from rostok.ensemble.registry import admit
    from rostok.ensemble.speak import Speaker

    base, _ = _models(run, settings)
    serving = admit(run, seeds, base)
    watch.start("ask with pages and without", len(asked_of(seeds)), "questions")
    with open_engine(base, settings.models, sequences=4) as engine:
        serving.load(engine, settings.ensemble)
        speaker = Speaker(engine, {one.seed for one in serving.experts}, {one.seed: one.title for one in serving.experts},
                          settings.ensemble, settings.random_seed)
        found = measure_retrieval(seeds, router, speaker, memory, settings.router.memories,
                                  lambda: watch.advance(1))
    watch.finish()
    return found


def ask_one_question(run: Run, settings: Settings, console: Console) -> None:
    """One question about the first seed that has an expert, answered by the base and by the ensemble side by side."""
    from rich.table import Table
    from rich.text import Text

    from rostok.engines.protocol import Message
    from rostok.ensemble.conversation import open_ensemble
    from rostok.swarm.probes import QUESTIONS

    seeds = _seeds(run)
    seed = next((one for one in seeds if (run.experts / one.id / "figures.json").exists()), seeds[0])
    step = seed.sole_steps()[0]
    question = QUESTIONS[0].format(x=seed.name(step.source))
    with open_ensemble(run, settings) as ensemble:
        asked = [Message("user", question)]
        plain, routed = ensemble.reply(asked, pin="base"), ensemble.reply(asked)
    table = Table(title=Text(f"{question}   (the seed says: {seed.name(step.target)})"), expand=True)
    table.add_column("base")
    table.add_column(f"ensemble: {routed.title} ({routed.score:.2f})" if routed.seed else "ensemble: left to the base")
    table.add_row(Text(plain.text), Text(routed.text))
    console.print(table)


def _models(run: Run, settings: Settings) -> tuple[Base, Base]:
    """Base and embedder of the run, noted in run.json so that no later call can mix in others."""
    base, embedder = find_base(settings.models.base), find_embedder(settings.models.embedder)
    run.note_model("base", base.name, base.sha256)
    run.note_model("embedder", embedder.name, embedder.sha256)
    return base, embedder


def _seeds(run: Run) -> list[Seed]:
    from rostok.seeds.library import Library

    seeds = Library(run.seeds).seeds()
    if not seeds:
        raise RunError(f"{run.folder} has no seeds yet. Run: rostok seeds author {run.folder} --theme \"…\"")
    return seeds
