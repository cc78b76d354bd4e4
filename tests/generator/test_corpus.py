"""Building corpora with the embedded model, killed and broken in between."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rostok.config import CorpusSettings, Shares
from rostok.errors import DataError, StorageError
from rostok.generator import compose, corpus, gates
from rostok.generator.bank import Bank, read_bank
from rostok.generator.folder import GENERATOR, training_pages
from rostok.generator.records import BankSentence, Manifest, Page, PageSpec, Reject
from rostok.records import read_jsonl
from rostok.seeds.record import Seed

SMALL = CorpusSettings(pages=24, page_characters=400, bank=1,
                       shares=Shares(written=0.15, composed=0.4, dialogue=0.25, rewritten=0.1, replay=0.1))
TWICE = CorpusSettings(pages=20, page_characters=400, bank=0,
                       shares=Shares(written=0.2, composed=0.4, dialogue=0.2, rewritten=0, replay=0.2))
BY_CODE = CorpusSettings(pages=40, bank=0, shares=Shares(written=0, composed=0.6, dialogue=0.4, replay=0))


class NoEngine:
    """Fails the test when a page is asked for: what is finished must not be made again."""

    def submit_all(self, requests: list[object]) -> list[object]:
        assert not requests, "a finished page was asked for again"
        return []


def by_code(seed: Seed, folder: Path, settings: CorpusSettings = BY_CODE, random_seed: int = 7, model: str = "0" * 64,
            **more: Any) -> Manifest:
    """Build a corpus in which no page needs a model."""
    return corpus.build(seed, folder, settings, random_seed, NoEngine(), model, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def small_engine(base_gguf: Path) -> object:
    from rostok.engines.llamacpp import LlamaCppEngine

    return LlamaCppEngine(base_gguf, sequences=16, context=1024, threads=1)  # one does not give way


@pytest.fixture(scope="session")
def built(keeper: Seed, small_engine: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus of all kinds by the embedded model, built once."""
    folder = tmp_path_factory.mktemp("corpus") / "c"
    corpus.build(keeper, folder, SMALL, 7, small_engine, "0" * 64)  # type: ignore[arg-type]
    return folder


def test_a_corpus_holds_what_was_asked_for(seed: Seed, built: Path, tmp_path: Path) -> None:
    """Prevents: missing pages, pages that no gate has seen, a manifest that does not count what lies there."""
    manifest = Manifest.model_validate_json((built / "manifest.json").read_text())
    pages = read_jsonl(built / "pages.jsonl", Page)
    rejects = read_jsonl(built / "rejects.jsonl", Reject)
    specs = {spec.number: spec for spec in read_jsonl(built / "plan.jsonl", PageSpec)}
    assert len(pages) == manifest.pages == 24
    assert Counter(page.kind for page in pages) == manifest.by_kind == {
        "written": 4, "composed": 10, "dialogue": 6, "rewritten": 2, "replay": 2}
    assert Counter(reject.reason for reject in rejects) == manifest.rejected
    assert len({page.spec for page in pages}) == 24
    assert all(page.kind == specs[page.spec].kind and page.path == specs[page.spec].path for page in pages)
    assert all((page.author == "model") == (page.kind in ("written", "rewritten", "replay")) for page in pages)
    context = gates.Context(seed, SMALL.page_characters, SMALL.near_duplicate)
    for page in pages:
        context.kind = page.kind
        assert gates.judge(page.text, context) is None
        context.remember(page.spec, page.text)


def test_every_page_tells_where_it_comes_from(seed: Seed, built: Path) -> None:
    """Prevents: a corpus of which nobody can say which model wrote what, and how it was asked."""
    pages = {page.spec: page for page in read_jsonl(built / "pages.jsonl", Page)}
    specs = {spec.number: spec for spec in read_jsonl(built / "plan.jsonl", PageSpec)}
    for page in pages.values():
        assert page.seed == seed.id and page.figures["characters"] == len(page.text) and page.random_seed > 0
        spec = specs[page.spec]
        assert (page.focus, page.path, page.fragmentation) == (spec.focus, spec.path, spec.fragmentation)
        assert page.variant == spec.variant
        assert ("surprisal" in page.figures) == (page.author == "model")
        assert (page.sampled is not None) == (page.author == "model") == (page.tokens > 0)
        if page.sampled is not None:
            assert page.sampled.engine == "LlamaCppEngine" and page.sampled.model == "0" * 64
        if page.kind == "rewritten":
            assert page.source is not None
            source = pages[page.source]
            assert source.kind in ("written", "composed") and source.held_out == page.held_out and source.text != page.text
    prompts = [page.sampled.prompt_sha256 for page in pages.values() if page.sampled is not None]
    assert len(set(prompts)) == len(prompts)


def test_the_bank_states_only_what_the_seed_holds(seed: Seed, built: Path) -> None:
    """Prevents: sentences that lead from a node to one that the seed has elsewhere, cut off, said twice, or without a trace."""
    every = read_jsonl(built / "bank.jsonl", BankSentence)
    bank = read_bank(built / "bank.jsonl")
    kept = [sentence for sentence in every if not sentence.refused]
    assert list(bank.sentences) == kept and len(kept) > 30
    assert {sentence.kind for sentence in kept} == {"definition", "scene", "reason", "answer", "trait"}
    for sentence in kept:
        others = [node.name for node in seed.nodes if node.key not in sentence.about]
        assert not any(name in sentence.text.casefold() for name in others)
        assert sentence.kind == "trait" or sentence.text.endswith((".", "!", "?"))
        assert sentence.sampled.prompt_sha256 and sentence.tokens > 0
    assert len({sentence.text for sentence in kept if sentence.kind != "trait"}) == sum(s.kind != "trait" for s in kept)
    steps = {(step.source, step.target) for step in seed.transitions}
    assert {sentence.about for sentence in kept if sentence.kind == "reason"} <= steps


def test_a_page_by_code_is_made_again_from_its_row(seed: Seed, tmp_path: Path) -> None:
    """Prevents: a row whose random seed, depth or cut is not the one that the page was composed with."""
    by_code(seed, tmp_path / "c")
    specs = {spec.number: spec for spec in read_jsonl(tmp_path / "c" / "plan.jsonl", PageSpec)}
    for page in read_jsonl(tmp_path / "c" / "pages.jsonl", Page):
        assert page.random_seed == compose.thrown(specs[page.spec], seed, page.attempt, 7)
        if page.kind == "composed":
            assert page.text == compose.compose(specs[page.spec], seed, Bank(), 550, page.attempt, 7)


def test_what_refused_pages_cost_is_counted_after_a_stop_too(built: Path, seed: Seed, tmp_path: Path) -> None:
    """Prevents: a manifest whose tokens are those of the accepted pages, or of the last call alone."""
    manifest = Manifest.model_validate_json((built / "manifest.json").read_text())
    pages, rejects = read_jsonl(built / "pages.jsonl", Page), read_jsonl(built / "rejects.jsonl", Reject)
    assert manifest.sampled_tokens == sum(page.tokens for page in pages) + sum(reject.tokens for reject in rejects)
    assert manifest.bank_tokens == sum(sentence.tokens for sentence in read_jsonl(built / "bank.jsonl", BankSentence)) > 0
    shutil.copytree(built, tmp_path / "c")
    (tmp_path / "c" / "manifest.json").unlink()
    again = corpus.build(seed, tmp_path / "c", SMALL, 7, NoEngine(), "0" * 64)  # type: ignore[arg-type]
    assert again.sampled_tokens == manifest.sampled_tokens and again.bank_tokens == manifest.bank_tokens


def test_a_finished_corpus_is_not_made_again_and_a_cut_one_only_where_it_was_cut(seed: Seed, built: Path, tmp_path: Path) -> None:
    """Prevents: pages asked for twice; a page file cut in a line that loses more than that line, or loses it in silence."""
    folder = tmp_path / "c"
    shutil.copytree(built, folder)
    before = (folder / "pages.jsonl").read_bytes()
    manifest = Manifest.model_validate_json((built / "manifest.json").read_text())
    assert corpus.build(seed, folder, SMALL, 7, NoEngine(), "0" * 64) == manifest  # type: ignore[arg-type]
    assert (folder / "pages.jsonl").read_bytes() == before
    lines = before.splitlines(keepends=True)
    cut = [i for i, line in enumerate(lines) if json.loads(line)["kind"] in ("composed", "dialogue")][-2:]
    damaged = [line for i, line in enumerate(lines) if i not in cut]
    damaged.insert(3, lines[cut[0]][:90] + b"\n")  # one broken in the middle of the file, one without its end
    (folder / "pages.jsonl").write_bytes(b"".join(damaged) + lines[cut[1]][:40])
    told: list[str] = []
    again = corpus.build(seed, folder, SMALL, 7, NoEngine(), "0" * 64, tell=told.append)  # type: ignore[arg-type]
    assert again.pages == 24
    assert sorted((folder / "pages.jsonl").read_bytes().splitlines()) == sorted(before.splitlines())
    assert len(told) == 1 and "line 4, 24 was not whole, or stood alone; 130 bytes" in told[0]
    assert "22 whole lines are kept" in told[0]
    assert (folder / "pages.jsonl.dropped").read_bytes() == lines[cut[0]][:90] + b"\n" + lines[cut[1]][:40] + b"\n"


def test_two_runs_from_the_same_inputs_are_alike(seed: Seed, small_engine: object, tmp_path: Path) -> None:
    """Prevents: a plan, a prompt or a composed page that depends on the process or the clock; the engine keeps its part while
    the same requests meet in the same batches."""
    for name in ("one", "two"):
        corpus.build(seed, tmp_path / name, TWICE, 7, small_engine, "0" * 64)  # type: ignore[arg-type]
    for name in ("plan.jsonl", "pages.jsonl", "rejects.jsonl"):
        one, two = ((tmp_path / run / name).read_bytes() if (tmp_path / run / name).exists() else b"" for run in ("one", "two"))
        assert one == two, name


def test_another_corpus_in_the_folder_is_refused(seed: Seed, make_seed: Any, tmp_path: Path) -> None:
    """Prevents: pages of two corpora mixed in one folder, and a refusal that does not say what differs."""
    by_code(seed, tmp_path / "c")
    other = make_seed(size=12)
    wider = BY_CODE.model_copy(update={"page_characters": 600})
    for what, call in {
        f"the seed {seed.id}, now it would be {other.id}": lambda: by_code(other, tmp_path / "c"),
        "random_seed 7, now it would be 8": lambda: by_code(seed, tmp_path / "c", random_seed=8),
        "the model 000000000000, now it would be 111111111111": lambda: by_code(seed, tmp_path / "c", model="1" * 64),
        "corpus.page_characters = 550, now it would be 600": lambda: by_code(seed, tmp_path / "c", wider),
    }.items():
        for finished in (True, False):
            if not finished:
                (tmp_path / "c" / "manifest.json").rename(tmp_path / "kept")
            with pytest.raises(DataError, match=re.escape(what)):
                call()
            if not finished:
                (tmp_path / "kept").rename(tmp_path / "c" / "manifest.json")
    assert by_code(seed, tmp_path / "c").pages == 40


def test_a_corpus_of_another_version_is_refused(seed: Seed, tmp_path: Path) -> None:
    """Prevents: pages of two generators in one corpus."""
    by_code(seed, tmp_path / "c")
    path = tmp_path / "c" / "manifest.json"
    old = path.read_text().replace(f'"generator": {GENERATOR}', '"generator": 1')
    path.write_text(old.replace('"made_from": "', '"made_from": "0'))
    with pytest.raises(DataError, match=f"version 1 of the generator, this is version {GENERATOR}"):
        by_code(seed, tmp_path / "c")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "origin").write_text("0" * 64)
    with pytest.raises(DataError, match="from an older version"):
        by_code(seed, tmp_path / "old")


def test_a_changed_corpus_is_named_with_its_line(seed: Seed, tmp_path: Path) -> None:
    """Prevents: training on a corpus with a broken line, or on pages edited after the manifest."""
    by_code(seed, tmp_path / "c")
    path = tmp_path / "c" / "pages.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[4][:50], *lines[5:]]) + "\n")
    with pytest.raises(DataError, match=r"pages.jsonl, line 5"):
        training_pages(tmp_path / "c")
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"line 40: its end is missing. Run: rostok corpus build RUN, which keeps"):
        training_pages(tmp_path / "c")
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="was changed after the corpus was finished"):
        training_pages(tmp_path / "c")
    with pytest.raises(DataError, match="was changed after the corpus was finished"):
        by_code(seed, tmp_path / "c")


def test_a_lost_plan_is_planned_again(seed: Seed, tmp_path: Path) -> None:
    """Prevents: a half-built corpus that cannot go on because of a line that code can compute; pages whose line is gone."""
    once = BY_CODE.model_copy(update={"tries": 1})
    manifest = by_code(seed, tmp_path / "c", once)
    assert manifest.given_up > 2
    (tmp_path / "c" / "manifest.json").unlink()
    plan = (tmp_path / "c" / "plan.jsonl").read_bytes()
    lines = plan.splitlines(keepends=True)
    del lines[5], lines[42]  # a planned line, and the third replacement, on which the later ones follow
    (tmp_path / "c" / "plan.jsonl").write_bytes(b"".join(lines)[:-30])
    told: list[str] = []
    again = by_code(seed, tmp_path / "c", once, tell=told.append)
    pages = read_jsonl(tmp_path / "c" / "pages.jsonl", Page)
    specs = {spec.number: spec for spec in read_jsonl(tmp_path / "c" / "plan.jsonl", PageSpec)}
    assert again.pages == len(pages) == len({page.spec for page in pages}) == 40
    assert all(page.path == specs[page.spec].path for page in pages) and sorted(specs) == list(range(len(specs)))
    assert (tmp_path / "c" / "plan.jsonl").read_bytes().startswith(b"".join(plan.splitlines(keepends=True)[:42]))
    assert "plan.jsonl" in told[0] and "pages.jsonl" in told[1]


def test_gates_that_refuse_everything_end_with_their_reasons(seed: Seed, tmp_path: Path) -> None:
    """Prevents: a night spent on pages that can never pass, rejects that are lost with the error, and advice that is refused:
    the settings of a folder that holds a corpus cannot be changed."""
    mistaken = seed.model_copy(update={"language": "ru"})  # whatever is composed of its English sentences
    once = BY_CODE.model_copy(update={"tries": 1})
    with pytest.raises(corpus.CorpusError, match=r"refused too many pages .* wrong script \d+×.* 0 accepted pages") as told:
        by_code(mistaken, tmp_path / "c", once)
    assert str(told.value) == f"{told.value.refused}. Use a new run folder with other corpus settings, or with a larger base."
    many = once.model_copy(update={"pages": 2000, "tries": 20})
    with pytest.raises(corpus.CorpusError, match=r"composed: wrong script \d+×, dialogue: wrong script \d+×"):
        by_code(mistaken, tmp_path / "d", many)
    assert 96 <= len(read_jsonl(tmp_path / "d" / "rejects.jsonl", Reject)) < 200


def test_a_full_disk_ends_in_a_sentence_and_loses_nothing(seed: Seed, tmp_path: Path) -> None:
    """Prevents: a half page at the end of the file, and pages made again after space was found."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limit[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*pages.jsonl: File too large. Free some space"):
            by_code(seed, tmp_path / "c", BY_CODE.model_copy(update={"pages": 100}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    kept = (tmp_path / "c" / "pages.jsonl").read_bytes() if (tmp_path / "c" / "pages.jsonl").exists() else b""
    assert not kept or kept.endswith(b"\n")
    assert by_code(seed, tmp_path / "c", BY_CODE.model_copy(update={"pages": 100})).pages == 100
    assert (tmp_path / "c" / "pages.jsonl").read_bytes().startswith(kept)


_CHILD = """
import sys
from pathlib import Path
from rostok.environment import prepare
prepare()
from rostok.config import CorpusSettings, Shares
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.generator import corpus
from rostok.seeds.record import Seed
seed = Seed.model_validate_json(Path(sys.argv[1]).read_text())
settings = CorpusSettings(pages=24, bank=0, shares=Shares(written=0.2, composed=0.4, dialogue=0.25, replay=0.15))
with LlamaCppEngine(Path(sys.argv[3]), sequences=8, context=1024, threads=2) as engine:
    corpus.build(seed, Path(sys.argv[2]), settings, 7, engine, "0" * 64)
"""


def test_kill_9_and_go_on(seed: Seed, small_engine: object, base_gguf: Path, tmp_path: Path) -> None:
    """Prevents: pages lost, doubled or made again after a kill at any moment."""
    (tmp_path / "seed.json").write_text(seed.line())
    folder = tmp_path / "c"
    for wait_for in (2, 12):
        child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path / "seed.json"), str(folder), str(base_gguf)],
                                 env=dict(os.environ))
        pages = folder / "pages.jsonl"
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and child.poll() is None:
            if pages.exists() and pages.read_bytes().count(b"\n") >= wait_for:
                break
            time.sleep(0.005)
        ended = child.poll()
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert ended is None, f"the child had ended before it was killed, with {ended}"
        assert pages.exists() and pages.read_bytes().count(b"\n") >= wait_for
    whole = (folder / "pages.jsonl").read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    settings = CorpusSettings(pages=24, bank=0, shares=Shares(written=0.2, composed=0.4, dialogue=0.25, replay=0.15))
    manifest = corpus.build(seed, folder, settings, 7, small_engine, "0" * 64)  # type: ignore[arg-type]
    after = (folder / "pages.jsonl").read_bytes()
    assert manifest.pages == 24
    assert after.startswith(whole)
    assert len({page.spec for page in read_jsonl(folder / "pages.jsonl", Page)}) == 24
