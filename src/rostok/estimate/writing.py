"""The pace of authoring and of corpora, from a little of both done with the real prompts, batches and gates."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rostok.config import Settings
from rostok.embedder import Embedder
from rostok.engines.protocol import Engine
from rostok.estimate.pace import AuthorPace, CorpusPace, EnginePace
from rostok.estimate.recorder import Enough, Recorder, fit
from rostok.estimate.seeds import seed_tokens, side_by_side
from rostok.seeds.record import Seed

_LATER = 0.85    # of the speed of a draft's beginning, over the whole draft: later the critic scores more than it reads
_TEXTS, _REFUSED = 30, 0.19  # texts in the demo weigh so much: 65 of 345 were refused there, of a few pages here perhaps none
_COMPARED = 32   # texts embedded to time one
# With it a gate loads its classifier of languages, too.
_NOT_ENGLISH = "Der Wärter kam am Abend herab und fand das Tor offen, obwohl er es selbst geschlossen hatte. " * 2
_SCENE = "The keeper came down at dusk and found the gate open. He had closed it himself, and the rope lay wet. " * 2


def author_pace(engine: Engine, embedder: Embedder, settings: Settings, folder: Path, model_sha256: str, *, opened_s: float,
                limit_s: float) -> AuthorPace:
    """Let the agents write seeds into `folder`, as many side by side as a run would, for `limit_s` seconds at most.

    How fast they draw words is measured, with their scoring and checking; how many words a seed takes is not, since drafts
    differ too much: that is the mean of many seeds of the embedded base.

    Args:
        opened_s: seconds that it took to open engine and embedder.
    """
    started = time.perf_counter()
    from rostok.agents.graph import author, open_desk
    from rostok.agents.language import language
    from rostok.seeds.library import Library

    opened_s += time.perf_counter() - started
    started = time.perf_counter()
    recorder = Recorder(engine, _stop_after(started + limit_s))
    drafts = min(settings.author.count, settings.author.batch)
    try:
        desk = open_desk(Library(folder), recorder, embedder, settings, model_sha256, language(settings.author.language))
        author(desk, drafts)
    except Enough:
        pass
    token_s = (time.perf_counter() - started) / max(recorder.tokens, 1) / _LATER / side_by_side(drafts)
    started = time.perf_counter()
    embedder.embed([_SCENE] * _COMPARED)
    compared = (time.perf_counter() - started) / _COMPARED
    return AuthorPace(fixed_s=opened_s, seed_s=seed_tokens(settings) * token_s, compare_s=compared)


def corpus_pace(engine: Engine, seed: Seed, settings: Settings, folder: Path, model_sha256: str, *, pages: int,
                opened_s: float) -> tuple[EnginePace, CorpusPace]:
    """Build a corpus of so many pages in `folder`, and take apart what its time went into.

    What the gates load (0.3 s of a run) is loaded before, and the plan is told with the bank: counted by the page of a small
    corpus, both would grow with every page of a large library.

    Args:
        opened_s: seconds that it took to open the engine.
    """
    from rostok.generator.corpus import build
    from rostok.generator.gates import GATES, Context, Shared
    from rostok.generator.plan import plan
    from rostok.generator.records import Page, Reject
    from rostok.records import read_jsonl

    recorder = Recorder(engine)
    small = settings.corpus.model_copy(update={"pages": pages})
    unused = Context(seed, small.page_characters, small.near_duplicate)
    for gate in GATES:
        gate(_NOT_ENGLISH, unused)
    started = time.perf_counter()
    plan(seed, small, settings.random_seed)
    planned = time.perf_counter() - started
    started = time.perf_counter()
    build(seed, folder, small, settings.random_seed, recorder, model_sha256, shared=Shared([seed], small.near_duplicate))
    total = time.perf_counter() - started - planned
    made, refused = read_jsonl(folder / "pages.jsonl", Page), read_jsonl(folder / "rejects.jsonl", Reject)
    by_model = {page.kind for page in made if page.author == "model"}
    accepted = sum(page.kind in by_model for page in made)
    rejected = sum(reject.kind in by_model for reject in refused)
    # The last waves asked for pages, the ones before them for the bank.
    waves, asked = list(recorder.waves), accepted + rejected
    of_pages = []
    while waves and asked > 0:
        of_pages.append(waves.pop())
        asked -= of_pages[-1].requests
    lengths = tuple(length for wave in of_pages for length in wave.lengths)
    waited = sum(wave.seconds for wave in recorder.waves)
    return fit(recorder.waves, settings.models.sequences, opened_s), CorpusPace(
        bank_s=planned + sum(wave.seconds for wave in waves), by_model=accepted / len(made),
        refused=min(0.95, (rejected + _TEXTS * _REFUSED) / (accepted + rejected + _TEXTS)), lengths=lengths or (1,),
        page_s=max(0.0, total - waited) / len(made))


def _stop_after(deadline: float) -> Callable[[], None]:
    def check() -> None:
        if time.perf_counter() > deadline:
            raise Enough

    return check
