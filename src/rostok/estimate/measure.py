"""Measure this machine in under a minute: do a little of every stage, with the real prompts, batches, steps and stores.

The stages are gone through in the order of a run and in one process, so that what is loaded once, and what memory is kept,
is as in a run. Everything is written to a folder that is thrown away.
"""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path

import psutil

from rostok.config import Settings
from rostok.estimate.found import besides_pages, free_bytes, size
from rostok.estimate.pace import Pace, Peaks, Sizes
from rostok.machine import processor, total_memory, usable_cores
from rostok.progress import Watch
from rostok.runs import PeakMemory, Run

_AUTHOR_S = 7.0         # seconds that the agents are given
_PAGES = 40             # of the corpus that is built; fewer where the configuration has fewer
_SEED_BYTES = 330_000   # of a seed of 12 nodes with 3 candidates: the agents' checkpoints, and its line
_PAGE_MIB = 0.004       # of a page while the store is built: its text, and its vector in the index
_WORKER_MIB = 700       # of a worker before it holds the base: torch, transformers, bitsandbytes
_PARTS = 7


def measure(settings: Settings, watch: Watch, place: Path | None = None) -> Pace:
    """The pace of this machine for these settings.

    Args:
        place: where the run lies, for the disk that is free there; without it the current folder.

    Raises:
        ModelError: a model is missing or does not fit.
        StorageError: the folder for temporary files is full.
    """
    started_s = time.time() - psutil.Process().create_time()
    from rostok.embedder import Embedder
    from rostok.engines.open import open_engine
    from rostok.estimate.example import example
    from rostok.estimate.writing import author_pace, corpus_pace
    from rostok.models import find_base, find_embedder, serving_file, training_folder

    base, embedder_model = find_base(settings.models.base), find_embedder(settings.models.embedder)
    if settings.models.engine == "llama.cpp":
        serving_file(base, tell=watch.note)  # converted once per machine, which is no part of a run
    training_folder(base)
    seed = example(settings.author.nodes)
    began = time.perf_counter()
    watch.start("measure this machine", _PARTS, "parts")

    def done(text: str) -> None:
        watch.note(text)
        watch.advance()

    with tempfile.TemporaryDirectory(prefix="rostok-estimate-") as scratch:
        run = Run(Path(scratch))
        run.start(settings)
        opening = time.perf_counter()
        with open_engine(base, settings.models, tell=watch.note) as engine:
            open_s = time.perf_counter() - opening
            with PeakMemory() as author_peak:
                importing = time.perf_counter()
                embedder = Embedder(embedder_model)
                import_s = time.perf_counter() - importing
                author = author_pace(engine, embedder, settings, run.seeds, base.sha256, limit_s=_AUTHOR_S,
                                     opened_s=time.perf_counter() - opening)
            done(f"agents: {author.seed_s:.0f} s a seed")
            pages = min(settings.corpus.pages, _PAGES)
            with PeakMemory() as corpus_peak:
                engine_pace, corpus = corpus_pace(engine, seed, settings, run.corpora / seed.id, base.sha256, pages=pages,
                                                  opened_s=open_s)
            done(f"writing: {engine_pace.rate():,.0f} tokens/s; composing and gates: {1 / max(corpus.page_s, 1e-6):,.0f} pages/s")
        from rostok.estimate.growing import asking_s, swarm_pace
        from rostok.generator.records import Page
        from rostok.records import read_jsonl

        folder = run.corpora / seed.id
        with PeakMemory() as swarm_peak:
            grown = swarm_pace(base, seed, read_jsonl(folder / "pages.jsonl", Page), settings, run.folder / "trained",
                               start_s=started_s + import_s, done=done)
            gc.collect()  # the base goes before the engine comes, as in a run
            with open_engine(base, settings.models) as engine:
                ask_s = asking_s(engine, seed, settings, grown.adapter)
        done(f"asking: {ask_s:.1f} s a seed")
        with PeakMemory() as memory_peak:
            opening = time.perf_counter()
            from rostok.estimate.remembering import memory_pace

            remembered = memory_pace(run, seed, settings, embedder_model, engine_pace, started_s=started_s,
                                     opened_s=time.perf_counter() - opening)
        done(f"remembering: {1 / remembered.pace.remember_s:,.0f} pages/s")
        besides = besides_pages(folder)
        page_bytes = (size(folder) - besides) / pages
    watch.finish()
    nodes, candidates = settings.author.nodes / 12, settings.author.candidates / 3
    return Pace(
        how="measured", machine=f"{processor()}, {usable_cores()} cores", model=base.name, engine=engine_pace, author=author,
        corpus=corpus, swarm=grown.pace.model_copy(update={"ask_s": ask_s}), memory=remembered.pace,
        sizes=Sizes(seed=_SEED_BYTES * nodes * candidates, corpus=besides, page=page_bytes, expert=grown.expert_bytes,
                    remembered=remembered.page_bytes, fixed=remembered.fixed_bytes),
        peaks=Peaks(author=author_peak.mib, corpus=corpus_peak.mib, adapter=grown.adapter_mib,
                    swarm=max(0.0, swarm_peak.mib + _WORKER_MIB - grown.pace.together * grown.adapter_mib),
                    memory=memory_peak.mib, remembered=_PAGE_MIB, report=memory_peak.mib),
        seconds=round(time.perf_counter() - began, 1), room_mib=total_memory() / 2**20,
        room_bytes=free_bytes(place or Path.cwd()),
        notes=(_drafts(base.name),))


def _drafts(model: str) -> str:
    return ("How many tokens the agents draw for a seed is the mean of 47 seeds of SmolLM2-135M-Instruct, how fast they do was "
            f"measured with {model}; one seed may take half as long or twice as long.")
