"""Building corpora with the embedded model, killed and broken in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from rostok.config import CorpusSettings, Shares
from rostok.errors import DataError
from rostok.generator import corpus, gates
from rostok.generator.records import Page, PageSpec, Reject
from rostok.records import read_jsonl
from rostok.seeds.record import Seed

SMALL = CorpusSettings(pages=24, shares=Shares(written=0.2, composed=0.4, dialogue=0.25, replay=0.15))


class NoEngine:
    """Fails the test when a page is asked for: what is finished must not be made again."""

    def submit_all(self, requests: list[object]) -> list[object]:
        assert not requests, "a finished page was asked for again"
        return []


@pytest.fixture(scope="session")
def small_engine(base_gguf: Path) -> object:
    from rostok.engines.llamacpp import LlamaCppEngine

    return LlamaCppEngine(base_gguf, sequences=8, context=1024, threads=2)


def test_a_corpus_holds_what_was_asked_for(seed: Seed, small_engine: object, tmp_path: Path) -> None:
    """Prevents: missing pages, pages that no gate has seen, a manifest that does not count what lies there."""
    manifest = corpus.build(seed, tmp_path / "c", SMALL, 7, small_engine, "0" * 64)  # type: ignore[arg-type]
    pages = read_jsonl(tmp_path / "c" / "pages.jsonl", Page)
    rejects = read_jsonl(tmp_path / "c" / "rejects.jsonl", Reject)
    specs = {spec.number: spec for spec in read_jsonl(tmp_path / "c" / "plan.jsonl", PageSpec)}
    assert len(pages) == manifest.pages == 24
    assert Counter(page.kind for page in pages) == manifest.by_kind == {"written": 5, "composed": 9, "dialogue": 6, "replay": 4}
    assert Counter(reject.reason for reject in rejects) == manifest.rejected
    assert len({page.spec for page in pages}) == 24
    assert all(page.kind == specs[page.spec].kind and page.path == specs[page.spec].path for page in pages)
    assert all((page.author == "model") == (page.kind in ("written", "replay")) for page in pages)
    context = gates.Context(seed, SMALL.page_characters, SMALL.near_duplicate)
    for page in pages:
        context.kind = page.kind
        assert gates.judge(page.text, context) is None
        context.remember(page.spec, page.text)
    # the same call again asks for nothing and changes nothing
    before = (tmp_path / "c" / "pages.jsonl").read_bytes()
    assert corpus.build(seed, tmp_path / "c", SMALL, 7, NoEngine(), "0" * 64) == manifest  # type: ignore[arg-type]
    assert (tmp_path / "c" / "pages.jsonl").read_bytes() == before
    # a half-written last line and a missing marker: only what is missing is made
    (tmp_path / "c" / "manifest.json").unlink()
    lines = before.splitlines(keepends=True)
    composed = next(i for i in range(len(lines) - 1, 0, -1) if json.loads(lines[i])["kind"] in ("composed", "dialogue"))
    kept = [line for i, line in enumerate(lines) if i != composed]
    (tmp_path / "c" / "pages.jsonl").write_bytes(b"".join(kept) + lines[composed][:40])
    again = corpus.build(seed, tmp_path / "c", SMALL, 7, NoEngine(), "0" * 64)  # type: ignore[arg-type]
    assert again.pages == 24
    assert sorted((tmp_path / "c" / "pages.jsonl").read_bytes().splitlines()) == sorted(before.splitlines())


def test_another_corpus_in_the_folder_is_refused(seed: Seed, tmp_path: Path) -> None:
    """Prevents: pages of two corpora mixed in one folder."""
    code_only = CorpusSettings(pages=20, shares=Shares(written=0, composed=0.6, dialogue=0.4, replay=0))
    corpus.build(seed, tmp_path / "c", code_only, 7, NoEngine(), "0" * 64)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="another seed, model or settings"):
        corpus.build(seed, tmp_path / "c", code_only, 8, NoEngine(), "0" * 64)  # type: ignore[arg-type]


def test_a_changed_corpus_is_named_with_its_line(seed: Seed, tmp_path: Path) -> None:
    """Prevents: training on a corpus with a broken line, or on pages edited after the manifest."""
    code_only = CorpusSettings(pages=20, shares=Shares(written=0, composed=0.6, dialogue=0.4, replay=0))
    corpus.build(seed, tmp_path / "c", code_only, 7, NoEngine(), "0" * 64)  # type: ignore[arg-type]
    path = tmp_path / "c" / "pages.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[4][:50], *lines[5:]]) + "\n")
    with pytest.raises(DataError, match=r"pages.jsonl, line 5"):
        corpus.training_pages(tmp_path / "c")
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="was changed after the corpus was finished"):
        corpus.training_pages(tmp_path / "c")


def test_gates_that_refuse_everything_end_with_their_reasons(seed: Seed, tmp_path: Path) -> None:
    """Prevents: a night spent on pages that can never pass."""
    impossible = CorpusSettings(pages=20, page_characters=4000, tries=1,
                                shares=Shares(written=0, composed=0.6, dialogue=0.4, replay=0))
    with pytest.raises(corpus.CorpusError, match=r"refused too many pages .* too short \d+×"):
        corpus.build(seed, tmp_path / "c", impossible, 7, NoEngine(), "0" * 64)  # type: ignore[arg-type]


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
settings = CorpusSettings(pages=24, shares=Shares(written=0.2, composed=0.4, dialogue=0.25, replay=0.15))
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
        child.send_signal(signal.SIGKILL)
        child.wait()
    whole = (folder / "pages.jsonl").read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    manifest = corpus.build(seed, folder, SMALL, 7, small_engine, "0" * 64)  # type: ignore[arg-type]
    after = (folder / "pages.jsonl").read_bytes()
    assert manifest.pages == 24
    assert after.startswith(whole)
    assert len({page.spec for page in read_jsonl(folder / "pages.jsonl", Page)}) == 24
