"""Build a corpus: plan -> write -> gate -> pages.jsonl, rejects.jsonl, manifest.json (the marker, last).

It may be killed at any moment: accepted pages and rejects are whole lines, the same call goes on after them. Text is
deterministic as far as the engine is: the same requests in the same order and batches give the same pages; after a
kill the batches differ, and a model-written page may come out in other words.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from rostok import __version__
from rostok.config import CorpusSettings
from rostok.engines.protocol import Completion, Engine, Message, Request, Sampling
from rostok.errors import DataError, RostokError
from rostok.generator import compose, gates, wordings
from rostok.generator.general import REPLAY
from rostok.generator.plan import plan, specifications
from rostok.generator.records import KINDS, Kind, Manifest, Page, PageSpec, Reject, Turn
from rostok.records import (
    append_jsonl,
    digest,
    file_digest,
    read_jsonl,
    read_record,
    recover_jsonl,
    stable_seed,
    write_atomic,
)
from rostok.seeds.record import Seed

_GENERATOR = 2  # raise when the same seed and settings would give other pages
_WAVE = 512     # pages asked for at once, so that the engine is never short of work; written in the order of the plan
_SPARE = 2      # at most so many replacements for every planned page


class CorpusError(RostokError):
    """The gates refused too much; the message is a table of reasons."""


def made_from(seed: Seed, settings: CorpusSettings, random_seed: int, model_sha256: str) -> str:
    """Hash of everything a corpus depends on."""
    return digest(seed, settings, random_seed, model_sha256, _GENERATOR)


def finished(folder: Path, origin: str) -> Manifest | None:
    """The manifest of a finished corpus of this origin, or None when there is none yet.

    Raises:
        DataError: the folder holds the corpus of another seed or of other settings, or its pages were changed.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return None
    manifest = read_record(path, Manifest)
    if manifest.made_from != origin:
        raise DataError(f"{folder} holds a corpus of another seed, model or settings than asked for now. "
                        f"Use a new run folder, or delete {folder} to build it again.")
    check_pages(folder, manifest)
    return manifest


def check_pages(folder: Path, manifest: Manifest) -> None:
    """Raises `DataError` when pages.jsonl is not what the manifest was written for; a broken line is named first."""
    path = folder / "pages.jsonl"
    if not path.exists() or file_digest(path) != manifest.pages_sha256:
        read_jsonl(path, Page)
        raise DataError(f"{path} was changed after the corpus was finished (its hash is not that of manifest.json). "
                        f"Restore it, or delete {folder} and run: rostok corpus build")


def build(seed: Seed, folder: Path, settings: CorpusSettings, random_seed: int, engine: Engine, model_sha256: str, *,
          shared: gates.Shared | None = None, on_page: Callable[[Kind, int], None] = lambda kind, tokens: None) -> Manifest:
    """Build the corpus of a seed, or finish a half-built one.

    Args:
        shared: what the gates know of the run's other seeds and corpora; the accepted pages are added to it.
        on_page: called with kind and sampled tokens for every accepted page.

    Raises:
        CorpusError: no more replacements for pages that the gates refuse.
        DataError: the folder holds another corpus, or a broken line.
        StorageError: the disk refused; what was written is whole.
    """
    origin = made_from(seed, settings, random_seed, model_sha256)
    manifest = finished(folder, origin)
    if manifest is not None:
        return manifest
    started = time.monotonic()
    _claim(folder, origin)
    builder = _Builder(seed, folder, settings, random_seed, engine, shared, on_page)
    builder.run()
    return builder.close(origin, model_sha256, started)


def _claim(folder: Path, origin: str) -> None:
    """Mark a new folder as this corpus', or see that a half-built one is."""
    marker = folder / "origin"
    if marker.exists():
        if marker.read_text().strip() != origin:
            raise DataError(f"{folder} holds a half-built corpus of another seed, model or settings. "
                            f"Use a new run folder, or delete {folder} to begin afresh.")
    else:
        write_atomic(marker, origin + "\n")


class _Builder:
    def __init__(self, seed: Seed, folder: Path, settings: CorpusSettings, random_seed: int, engine: Engine,
                 shared: gates.Shared | None, on_page: Callable[[Kind, int], None]) -> None:
        self.seed, self.folder, self.settings = seed, folder, settings
        self.random_seed, self.engine, self.on_page = random_seed, engine, on_page
        self.plan_path, self.pages_path = folder / "plan.jsonl", folder / "pages.jsonl"
        self.rejects_path = folder / "rejects.jsonl"
        if not self.plan_path.exists():
            lines = [spec.line() + "\n" for spec in plan(seed, settings, random_seed)]
            write_atomic(self.plan_path, "".join(lines))
        for path in (self.plan_path, self.pages_path, self.rejects_path):
            recover_jsonl(path)
        self.specs = read_jsonl(self.plan_path, PageSpec)
        self.planned = settings.pages
        self.context = gates.Context(seed, settings.page_characters, settings.near_duplicate, shared=shared)
        self.accepted: set[int] = set()
        self.tries: Counter[int] = Counter()
        self.sampled = 0
        for page in read_jsonl(self.pages_path, Page):
            self.accepted.add(page.spec)
            self.context.kind = page.kind
            self.context.remember(page.spec, page.text)
            self.sampled += page.tokens
            on_page(page.kind, 0)
        for reject in read_jsonl(self.rejects_path, Reject):
            self.tries[reject.spec] += 1

    def run(self) -> None:
        """Ask for open pages in waves until every planned page, or its replacement, is accepted."""
        while True:
            wave = list(islice(self._open(), _WAVE))
            if not wave:
                return
            asked = [(spec, self._request(spec)) for spec in wave]
            futures = iter(self.engine.submit_all([request for _, request in asked if request is not None]))
            for spec, request in asked:
                self._take(spec, request, next(futures).result() if request is not None else None)

    def _open(self) -> Iterator[PageSpec]:
        """Plan lines without a page. One whose tries are used up is replaced by a line that no plan has had."""
        for spec in list(self.specs):
            if spec.number in self.accepted:
                continue
            if self.tries[spec.number] < self.settings.tries:
                yield spec
            elif spec.number not in self._replaced():
                yield self._replace(spec)

    def _replaced(self) -> set[int]:
        # The n-th line over the plan replaces the n-th line that was given up, in the order of giving up.
        given_up = [spec.number for spec in self.specs
                    if spec.number not in self.accepted and self.tries[spec.number] >= self.settings.tries]
        return set(given_up[: len(self.specs) - self.planned])

    def _replace(self, spec: PageSpec) -> PageSpec:
        if len(self.specs) >= self.planned * (1 + _SPARE):
            raise CorpusError(f"the gates refused too many pages of {self.seed.id} ({self.seed.title}): {self._reasons()}. "
                              f"The texts are in {self.rejects_path}; loosen corpus settings, or take a larger base.")
        used = sum(other.kind == spec.kind for other in self.specs)
        fresh = next(islice(specifications(self.seed, spec.kind, self.random_seed), used, None))
        fresh = fresh.model_copy(update={"number": len(self.specs), "held_out": spec.held_out})
        append_jsonl(self.plan_path, [fresh])
        self.specs.append(fresh)
        return fresh

    def _request(self, spec: PageSpec) -> Request | None:
        attempt = self.tries[spec.number]
        dice = stable_seed(self.random_seed, self.seed.id, spec.number, attempt)
        if spec.kind == "written":
            names = [self.seed.name(key) for key in spec.path]
            form = wordings.WRITTEN_FORMS[spec.register_]
            task = wordings.DEPTHS[spec.depth].format(form=form, x=names[0], y=names[1], z=names[2])
            return Request((Message("system", _brief(self.seed)), Message("user", task)),
                           Sampling(max_tokens=170, temperature=0.8, min_p=0.08), seed=dice, shared=1)
        if spec.kind == "replay":
            question = REPLAY[spec.variant % len(REPLAY)]
            return Request((Message("user", question),), Sampling(max_tokens=120, temperature=0.5, min_p=0.1), seed=dice)
        return None

    def _take(self, spec: PageSpec, request: Request | None, completion: Completion | None) -> None:
        attempt = self.tries[spec.number]
        turns: tuple[Turn, ...] = ()
        if spec.kind == "composed":
            text = compose.compose(spec, self.seed, self.settings.page_characters, attempt, self.random_seed)
        elif spec.kind == "dialogue":
            turns = compose.converse(spec, self.seed, self.settings.page_characters, attempt, self.random_seed)
            text = "\n\n".join(turn.content for turn in turns)
        else:
            assert request is not None and completion is not None
            text = gates.trim(completion.text)
            if spec.kind == "replay":
                turns = (Turn(role="user", content=request.messages[0].content), Turn(role="assistant", content=text))
        self.context.kind = spec.kind
        self.context.prompt = " ".join(message.content for message in request.messages) if request else ""
        tokens = completion.tokens if completion is not None else 0
        self.sampled += tokens
        verdict = gates.judge(text, self.context)
        if verdict is not None:
            append_jsonl(self.rejects_path, [Reject(spec=spec.number, kind=spec.kind, attempt=attempt, reason=verdict[0],
                                                    detail=verdict[1], text=text)])
            self.tries[spec.number] += 1
            return
        page = Page(spec=spec.number, kind=spec.kind, author="model" if completion is not None else "code", text=text,
                    turns=turns, register_=spec.register_, path=spec.path, held_out=spec.held_out, attempt=attempt,
                    random_seed=request.seed if request is not None else 0, tokens=tokens)
        append_jsonl(self.pages_path, [page])
        self.accepted.add(spec.number)
        self.context.remember(spec.number, text)
        self.on_page(spec.kind, tokens)

    def _reasons(self) -> str:
        counts = Counter(f"{reject.kind}: {reject.reason}" for reject in read_jsonl(self.rejects_path, Reject))
        return ", ".join(f"{reason} {number}×" for reason, number in counts.most_common(6)) or "no reason was kept"

    def close(self, origin: str, model_sha256: str, started: float) -> Manifest:
        """Write card and manifest; after this the corpus is finished."""
        pages = read_jsonl(self.pages_path, Page)
        rejects = read_jsonl(self.rejects_path, Reject)
        by_kind = Counter(page.kind for page in pages)
        manifest = Manifest(
            seed=self.seed.id, title=self.seed.title, made_from=origin, pages_sha256=file_digest(self.pages_path),
            settings=self.settings, model=model_sha256, rostok=__version__, pages=len(pages),
            held_out=sum(page.held_out for page in pages), characters=sum(len(page.text) for page in pages),
            by_kind={kind: by_kind[kind] for kind in KINDS}, rejected=dict(Counter(reject.reason for reject in rejects)),
            given_up=len(self.specs) - self.planned, sampled_tokens=self.sampled,
            seconds=round(time.monotonic() - started, 2))
        write_atomic(self.folder / "README.md", _card(self.seed, manifest))
        write_atomic(self.folder / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
        return manifest


def training_pages(folder: Path) -> tuple[Sequence[Page], Sequence[Page]]:
    """Pages to train on, and held-out pages, of a finished corpus. Raises `DataError` when it is not whole."""
    manifest = read_record(folder / "manifest.json", Manifest)
    check_pages(folder, manifest)
    pages = read_jsonl(folder / "pages.jsonl", Page)
    return [page for page in pages if not page.held_out], [page for page in pages if page.held_out]


def _brief(seed: Seed) -> str:
    """What every written page's prompt begins with. Short: with all glosses in it the attention over the prompt costs
    more than the page (docs/experiments.md)."""
    if seed.is_ring():
        path = ", then ".join(f"the {seed.name(step.source)}" for step in seed.walk())
        told = f"The path goes round: {path}, and again from the start."
    else:
        told = f"What leads to what: {'; '.join(f'the {seed.name(a)} to the {seed.name(b)}' for a, b in _edges(seed))}."
    return f"You are a patient writer. You know this world. {seed.scene} {told}"


def _edges(seed: Seed) -> list[tuple[str, str]]:
    return [(step.source, step.target) for step in seed.walk()]


def _card(seed: Seed, manifest: Manifest) -> str:
    kinds = "\n".join(f"| {kind} | {number} |" for kind, number in manifest.by_kind.items())
    reasons = "\n".join(f"| {reason} | {number} |" for reason, number in sorted(manifest.rejected.items())) or "| – | 0 |"
    return f"""---
language: {seed.language}
license: apache-2.0
tags: [synthetic, rostok]
---
# {seed.title}

{manifest.pages} pages ({manifest.characters:,} characters, {manifest.held_out} held out) grown from the thought seed `{seed.id}`,
theme "{seed.lineage.theme}".

{seed.scene}

`{seed.glyphs}` · {seed.formula}

Pages of kind *written* and *replay* are a model's words (`author: model`); *composed* and *dialogue* are composed by code from
the model's sentences and the seed's graph (`author: code`). Model sha256 `{manifest.model[:16]}`, Rostok {manifest.rostok}.

| kind | pages |
|---|---|
{kinds}

| refused because | pages |
|---|---|
{reasons}
"""
