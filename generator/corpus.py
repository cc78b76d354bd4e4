"""Build a corpus: plan -> bank -> pages -> gates -> pages.jsonl, rejects.jsonl, manifest.json (the marker, last).

It may be killed at any moment: accepted pages and rejects are whole lines, the same call goes on after them. Plan,
prompts and pages by code are the same for the same inputs; texts of the model are, too, while the same requests meet in
the same batches (docs/corpora.md tells where they do not).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import islice
from pathlib import Path

from rostok import __version__
from rostok.config import CorpusSettings
from rostok.engines.protocol import Completion, Engine, Request
from rostok.errors import RostokError
from rostok.generator import compose, gates, writers
from rostok.generator.bank import Bank, read_bank, write_bank
from rostok.generator.card import card
from rostok.generator.folder import claim, finished, origin, recover
from rostok.generator.plan import check, plan, rewriting_after, specifications
from rostok.generator.records import KINDS, BankSentence, Kind, Manifest, Origin, Page, PageSpec, Reject, Turn
from rostok.records import append_jsonl, file_digest, read_jsonl, stable_seed, write_atomic
from rostok.seeds.record import Seed

_WAVE = 512     # pages asked for at once, so that the engine is never short of work; taken in the order of the plan
_SPARE = 2      # at most so many replacements for every planned page
_HOPELESS = 96  # refusals of one kind, from which on at least one in twenty must be accepted
_UNSAVED = 64   # pages and rejects held back at most, while none of the model's answers is waited for


class CorpusError(RostokError):
    """The gates refused too much of one seed; the message is a table of reasons, and what can be done.

    Attributes:
        refused: the seed, the table, and where the refused texts are, without the advice.
    """

    def __init__(self, refused: str) -> None:
        # The folder holds the model and the settings fast, so that neither can be changed here.
        super().__init__(f"{refused}. Use a new run folder with other corpus settings, or with a larger base.")
        self.refused = refused


def build(seed: Seed, folder: Path, settings: CorpusSettings, random_seed: int, engine: Engine, model_sha256: str, *,
          shared: gates.Shared | None = None, on_page: Callable[[Kind, int], None] = lambda kind, tokens: None,
          tell: Callable[[str], None] = lambda text: None) -> Manifest:
    """Build the corpus of a seed, or finish a half-built one.

    Args:
        shared: what the gates know of the run's other seeds and corpora; the accepted pages are added to it.
        on_page: called with kind and sampled tokens for every accepted page.
        tell: called with a sentence about what was recovered, or refused beyond measure.

    Raises:
        CorpusError: no more replacements for pages that the gates refuse.
        DataError: a seed with placeholders; the folder holds another corpus, or edited pages.
        StorageError: the disk refused; what was written is whole.
    """
    wanted = origin(seed, settings, random_seed, model_sha256)
    check(seed)
    manifest = finished(folder, wanted)
    if manifest is not None:
        return manifest
    started = time.monotonic()
    claim(folder, wanted)
    (folder / "manifest.json").unlink(missing_ok=True)  # of pages that are not whole any more
    builder = _Builder(seed, folder, settings, random_seed, engine, model_sha256, shared, on_page, tell)
    builder.run()
    return builder.close(wanted, started)


class _Builder:
    def __init__(self, seed: Seed, folder: Path, settings: CorpusSettings, random_seed: int, engine: Engine, model_sha256: str,
                 shared: gates.Shared | None, on_page: Callable[[Kind, int], None], tell: Callable[[str], None]) -> None:
        self.seed, self.seed_id, self.folder, self.settings = seed, seed.id, folder, settings
        self.random_seed, self.engine, self.model = random_seed, engine, model_sha256
        self.on_page, self.tell = on_page, tell
        self.plan_path, self.pages_path = folder / "plan.jsonl", folder / "pages.jsonl"
        self.rejects_path, self.bank_path = folder / "rejects.jsonl", folder / "bank.jsonl"
        self.planned = settings.pages
        self.specs = self._plan()
        self.given_up = {spec.replaces: spec.number for spec in self.specs if spec.replaces is not None}
        self.streams: dict[Kind, Iterator[PageSpec]] = {}
        self.context = gates.Context(seed, settings.page_characters, settings.near_duplicate, shared=shared)
        self.texts: dict[int, str] = {}  # of accepted pages, by plan line
        self.tries: Counter[int] = Counter()
        self.kept: Counter[Kind] = Counter()
        self.refused: Counter[Kind] = Counter()
        self.sampled = 0
        self.unsaved: list[Page | Reject] = []
        self._resume()
        self.bank = self._bank()

    def _plan(self) -> list[PageSpec]:
        """The plan, computed anew, and the replacements that plan.jsonl holds after it, as far as none is missing."""
        specs = plan(self.seed, self.settings, self.random_seed)
        recover(self.plan_path, PageSpec, self.tell)
        found = read_jsonl(self.plan_path, PageSpec)
        for spec in found:
            if spec.number == len(specs):
                specs.append(spec)
        if found != specs:
            write_atomic(self.plan_path, "".join(spec.line() + "\n" for spec in specs))
        return specs

    def _resume(self) -> None:
        recover(self.pages_path, Page, self.tell, lambda page: page.spec < len(self.specs))
        recover(self.rejects_path, Reject, self.tell, lambda reject: reject.spec < len(self.specs))
        for page in read_jsonl(self.pages_path, Page):
            self.texts[page.spec] = page.text
            self.kept[page.kind] += 1
            self.context.kind = page.kind
            self.context.remember(page.spec, page.text)
            self.sampled += page.tokens
            self.on_page(page.kind, 0)
        for reject in read_jsonl(self.rejects_path, Reject):
            self.sampled += reject.tokens
            self.tries[reject.spec] += 1
            self.refused[reject.kind] += 1

    def _bank(self) -> Bank:
        """The seed's bank, written before the first page; pages by code are made from it."""
        if not self.settings.bank:
            return Bank()
        recover(self.bank_path, BankSentence, self.tell)
        if self.bank_path.exists():
            return read_bank(self.bank_path)
        return write_bank(self.seed, self.bank_path, self.settings.bank, self.random_seed, self.engine, self.model)

    def run(self) -> None:
        """Ask for open pages in waves until every planned page, or its replacement, is accepted."""
        while True:
            wave = list(islice(self._open(), _WAVE))
            if not wave:
                return
            asked = [(spec, self._request(spec)) for spec in wave]
            futures = self.engine.submit_all([request for _, request in asked if request is not None])
            answers = iter(futures)
            try:
                for spec, request in asked:
                    self._take(spec, request, self._answer(next(answers)) if request is not None else None)
            finally:
                for future in futures:
                    future.cancel()
                self._save()

    def _answer(self, future: Future[Completion]) -> Completion:
        if not future.done():
            self._save()  # nothing that was accepted waits for the model
        return future.result()

    def _open(self) -> Iterator[PageSpec]:
        """Plan lines without a page. One whose tries are used up is replaced by a line that no plan has had."""
        for spec in list(self.specs):
            if spec.number in self.texts or spec.number in self.given_up:
                continue
            if self.tries[spec.number] >= self.settings.tries:
                spec = self._replace(spec)
            if spec.source is None or self._source(spec) in self.texts:
                yield spec

    def _source(self, spec: PageSpec) -> int:
        """The plan line that a rewriting rewrites: its source, or what replaced it."""
        number = spec.source
        assert number is not None
        while number in self.given_up:
            number = self.given_up[number]
        return number

    def _replace(self, spec: PageSpec) -> PageSpec:
        if len(self.specs) >= self.planned * (1 + _SPARE):
            raise CorpusError(self._too_many())
        if spec.kind == "rewritten":
            fresh = rewriting_after(self.specs, spec, self.seed, self.random_seed, self.planned)
        else:
            if spec.kind not in self.streams:
                used = sum(other.kind == spec.kind for other in self.specs)
                stream = specifications(self.seed, spec.kind, self.random_seed, self.settings)
                self.streams[spec.kind] = islice(stream, used, None)
            fresh = next(self.streams[spec.kind])
        fresh = fresh.model_copy(update={"number": len(self.specs), "held_out": spec.held_out, "replaces": spec.number})
        append_jsonl(self.plan_path, [fresh])
        self.specs.append(fresh)
        self.given_up[spec.number] = fresh.number
        return fresh

    def _request(self, spec: PageSpec) -> Request | None:
        if spec.kind in ("composed", "dialogue"):
            return None
        dice = stable_seed(self.random_seed, self.seed_id, spec.number, self.tries[spec.number])
        source = self.texts[self._source(spec)] if spec.source is not None else ""
        return writers.request(spec, self.seed, self.settings.page_characters, dice, source)

    def _take(self, spec: PageSpec, request: Request | None, completion: Completion | None) -> None:
        attempt = self.tries[spec.number]
        turns: tuple[Turn, ...] = ()
        if request is not None and completion is not None:
            text, turns = writers.page(spec, request, completion.text)
        elif spec.kind == "composed":
            text = compose.compose(spec, self.seed, self.bank, self.settings.page_characters, attempt, self.random_seed)
        else:
            turns = compose.converse(spec, self.seed, self.bank, self.settings.page_characters, attempt, self.random_seed)
            text = "\n\n".join(turn.content for turn in turns)
        self.context.kind = spec.kind
        self.context.prompt = " ".join(message.content for message in request.messages) if request else ""
        tokens = completion.tokens if completion is not None else 0
        self.sampled += tokens
        verdict = gates.judge(text, self.context)
        if verdict is None and spec.kind == "rewritten":
            verdict = writers.another_order(text, self.seed)
        if verdict is not None:
            self._refuse(Reject(spec=spec.number, kind=spec.kind, attempt=attempt, reason=verdict[0], detail=verdict[1],
                                text=text, tokens=tokens))
            return
        thrown = request.seed if request is not None else compose.thrown(spec, self.seed, attempt, self.random_seed)
        page = Page(spec=spec.number, kind=spec.kind, author="model" if completion is not None else "code", text=text,
                    seed=self.seed_id, turns=turns, register_=spec.register_, form=spec.form, depth=spec.depth, focus=spec.focus,
                    path=spec.path, fragmentation=spec.fragmentation, variant=spec.variant, held_out=spec.held_out,
                    attempt=attempt, random_seed=thrown, tokens=tokens,
                    source=self._source(spec) if spec.source is not None else None,
                    sampled=writers.sampled(request, self.engine, self.model) if request is not None else None,
                    figures={**_figures(text, self.seed), **self.context.measured})
        self.texts[spec.number] = text
        self.kept[spec.kind] += 1
        self.context.remember(spec.number, text)
        self._keep(page)
        self.on_page(spec.kind, tokens)

    def _refuse(self, reject: Reject) -> None:
        self.tries[reject.spec] += 1
        self.refused[reject.kind] += 1
        self._keep(reject)
        if self.refused[reject.kind] >= max(_HOPELESS, 20 * self.kept[reject.kind]):
            self._save()
            raise CorpusError(self._too_many())

    def _keep(self, record: Page | Reject) -> None:
        self.unsaved.append(record)
        if len(self.unsaved) >= _UNSAVED:
            self._save()

    def _save(self) -> None:
        """Append what was held back: one sync for many pages, since a sync takes as long as composing ten."""
        unsaved, self.unsaved = self.unsaved, []
        append_jsonl(self.pages_path, [record for record in unsaved if isinstance(record, Page)])
        append_jsonl(self.rejects_path, [record for record in unsaved if isinstance(record, Reject)])

    def _too_many(self) -> str:
        counts = Counter(f"{reject.kind}: {reject.reason}" for reject in read_jsonl(self.rejects_path, Reject))
        reasons = ", ".join(f"{reason} {number}×" for reason, number in counts.most_common(6)) or "no reason was kept"
        return (f"the gates refused too many pages of {self.seed.id} ({self.seed.title}): {reasons}. {len(self.texts)} accepted "
                f"pages are kept, the refused texts are in {self.rejects_path}")

    def close(self, made: Origin, started: float) -> Manifest:
        """Write card and manifest; after this the corpus is finished."""
        pages = read_jsonl(self.pages_path, Page)
        rejects = read_jsonl(self.rejects_path, Reject)
        by_kind = Counter(page.kind for page in pages)
        manifest = Manifest(
            seed=self.seed.id, title=self.seed.title, made_from=made.made_from, pages_sha256=file_digest(self.pages_path),
            settings=self.settings, model=self.model, rostok=__version__, generator=made.generator, random_seed=self.random_seed,
            pages=len(pages), held_out=sum(page.held_out for page in pages), characters=sum(len(page.text) for page in pages),
            by_kind={kind: by_kind[kind] for kind in KINDS}, rejected=dict(Counter(reject.reason for reject in rejects)),
            given_up=len(self.specs) - self.planned, bank=len(self.bank.sentences),
            bank_sha256=file_digest(self.bank_path) if self.settings.bank else "", sampled_tokens=self.sampled,
            bank_tokens=sum(sentence.tokens for sentence in read_jsonl(self.bank_path, BankSentence)),
            seconds=round(time.monotonic() - started, 2))
        write_atomic(self.folder / "README.md", card(self.seed, manifest))
        write_atomic(self.folder / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
        return manifest


def _figures(text: str, seed: Seed) -> dict[str, float]:
    """What is measured of a page: length, share of four-word runs that stand once, nodes named."""
    words = gates.words(text)
    runs = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    lower = text.casefold()
    return {"characters": len(text), "words": len(words), "distinct_4": round(len(set(runs)) / max(1, len(runs)), 4),
            "nodes": sum(node.name.casefold() in lower for node in seed.nodes)}
