"""The memory is built once, goes on where it was killed, and comes back when it is damaged."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rostok.embedder import Embedder
from rostok.ensemble.recall import corpus
from rostok.ensemble.recall import index as module
from rostok.ensemble.recall.index import index
from rostok.ensemble.recall.memory import Memory
from rostok.errors import DataError, RunError, StorageError
from rostok.generator.records import Manifest, Page
from rostok.records import append_jsonl, digest, read_jsonl, read_record, write_atomic
from rostok.report.sources import seed_map
from rostok.runs import Run
from rostok.seeds.record import Seed


def _contents(run: Run, embedder: Embedder) -> tuple[list[str], list[str]]:
    with Memory(run.memory, embedder) as memory:
        return memory.known("pages"), memory.known("seeds")


def test_index_takes_each_trained_page_once(fresh: Run, seeds: list[Seed], embedder: Embedder) -> None:
    """Held-out pages in the store would make the router's figures worthless; replay belongs to no seed."""
    told: list[tuple[int, int]] = []
    assert index(fresh, seeds, embedder, lambda done, total: told.append((done, total))) == 36
    pages, nodes = _contents(fresh, embedder)
    assert pages == sorted(f"{seed.id}:{number}" for seed in seeds for number in range(16) if number % 4 != 3)
    assert len(nodes) == 3 * (1 + 8 + 8) and told == [(36, 36)]
    points = seed_map(fresh)
    assert points is not None and [point.kind for point in points.points].count("page") == 36
    assert {point.label for point in points.points if point.kind == "seed"} == {seed.title for seed in seeds}
    spread = [point.x for point in points.points]
    assert max(spread) - min(spread) > 0.3


def test_finished_index_embeds_nothing(ready: Run, seeds: list[Seed], embedder: Embedder,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 pages embedded again at every start of the chat."""
    before = (ready.memory / "indexed.json").stat().st_mtime_ns
    monkeypatch.setattr(module, "_build", None)
    assert index(ready, seeds, embedder) == 0
    assert (ready.memory / "indexed.json").stat().st_mtime_ns == before


def test_memory_held_by_another_process_is_told_and_left_alone(ready: Run, seeds: list[Seed], embedder: Embedder) -> None:
    """Prevents: a command that waits for ever, or takes the lock for damage and deletes the folder under its holder."""
    database = ready.memory / "chroma.sqlite3"
    code = ("import sqlite3, sys; one = sqlite3.connect(sys.argv[1], isolation_level=None); one.execute('BEGIN EXCLUSIVE'); "
            "print('held', flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="held by another process"):
            index(ready, seeds, embedder)
        holder.kill()
    assert index(ready, seeds, embedder) == 0


def test_interrupted_index_goes_on(fresh: Run, seeds: list[Seed], embedder: Embedder,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill costs one batch, not the night; and nothing stands twice."""
    monkeypatch.setattr(module, "_BATCH", 10)

    def kill(done: int, _: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(fresh, seeds, embedder, kill)
    assert not (fresh.memory / "indexed.json").exists()
    assert index(fresh, seeds, embedder) == 16
    pages, _ = _contents(fresh, embedder)
    assert len(pages) == 36 and index(fresh, seeds, embedder) == 0


def test_killed_index_goes_on(fresh: Run, seeds: list[Seed], embedder: Embedder) -> None:
    """`kill -9` runs no handler: what Chroma had not written by then must not be taken for written."""
    script = f"""
import os, signal
from pathlib import Path
from rostok.embedder import Embedder
from rostok.ensemble.recall import index as module
from rostok.models import find_embedder
from rostok.runs import Run
from rostok.seeds.library import Library
run = Run(Path({str(fresh.folder)!r}))
module._BATCH = 5
module.index(run, Library(run.seeds).seeds(), Embedder(find_embedder("embedded")),
             lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done == 15 else None)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert index(fresh, seeds, embedder) == 36 - 15
    assert len(_contents(fresh, embedder)[0]) == 36


@pytest.mark.parametrize("room", [20_000, 300_000])
def test_full_disk_is_told(fresh: Run, seeds: list[Seed], embedder: Embedder, room: int) -> None:
    """Chroma's `Error in compaction: Failed to apply logs`; and once there is room, the same command goes on."""
    fresh.memory.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(StorageError, match="Free some space"):
            index(fresh, seeds, embedder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    index(fresh, seeds, embedder)
    assert len(_contents(fresh, embedder)[0]) == 36


def test_lost_marker_stores_nothing_twice(ready: Run, seeds: list[Seed], embedder: Embedder) -> None:
    """A kill between the last page and the marker."""
    before = _contents(ready, embedder)
    (ready.memory / "indexed.json").unlink()
    assert index(ready, seeds, embedder) == 0
    assert _contents(ready, embedder) == before and (ready.memory / "indexed.json").is_file()


def test_changed_corpus_is_indexed_anew(ready: Run, seeds: list[Seed], embedder: Embedder) -> None:
    """Pages of a corpus that no longer exists would go on being quoted."""
    folder = ready.corpora / seeds[0].id
    pages = [page for page in read_jsonl(folder / "pages.jsonl", Page) if page.spec != 0]
    (folder / "pages.jsonl").unlink()
    append_jsonl(folder / "pages.jsonl", pages)
    manifest = read_record(folder / "manifest.json", Manifest)
    write_atomic(folder / "manifest.json", manifest.model_copy(update={"pages_sha256": digest("new")}).line())
    assert index(ready, seeds, embedder) == 35
    assert f"{seeds[0].id}:0" not in _contents(ready, embedder)[0]


def _garbage(folder: Path) -> None:
    (folder / "chroma.sqlite3").write_bytes(b"not a database" * 400)


def _half(folder: Path) -> None:
    data = (folder / "chroma.sqlite3").read_bytes()
    (folder / "chroma.sqlite3").write_bytes(data[: len(data) // 2])


def _empty(folder: Path) -> None:
    (folder / "chroma.sqlite3").write_bytes(b"")


def _file_instead(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def _marker_only(folder: Path) -> None:
    (folder / "chroma.sqlite3").unlink()


def _bad_marker(folder: Path) -> None:
    (folder / "indexed.json").write_bytes(b"\xff{")
    _garbage(folder)


@pytest.mark.parametrize("damage", [_garbage, _half, _empty, _file_instead, _marker_only, _bad_marker])
def test_damaged_store_is_rebuilt(ready: Run, seeds: list[Seed], embedder: Embedder,
                                  damage: Callable[[Path], None]) -> None:
    """Chroma answers damage with InternalError, AttributeError or silence, and remembers the failed opening."""
    damage(ready.memory)
    with pytest.raises(DataError, match="Run the same command again"):
        Memory(ready.memory, embedder)
    assert index(ready, seeds, embedder) == 36
    with Memory(ready.memory, embedder) as memory:
        assert memory.sound()
        assert memory.nearest(["What does the pendulum do?"], 1)[0][0].seed == seeds[1].id


def test_vectors_of_other_texts_are_noticed(ready: Run, seeds: list[Seed], embedder: Embedder) -> None:
    """A half-written index answers every question, with the wrong neighbours."""
    with Memory(ready.memory, embedder) as memory:
        keys = memory.known("pages")
        texts, vectors = memory.stored("pages", keys)
        collection = memory.store._collections["pages"]
        collection.update(ids=keys, embeddings=-vectors)
        assert not memory.sound()
    assert index(ready, seeds, embedder) == 36
    with Memory(ready.memory, embedder) as memory:
        assert memory.sound() and memory.stored("pages", keys)[0] == texts


def test_run_without_corpora_says_so(fresh: Run, seeds: list[Seed], embedder: Embedder) -> None:
    """An empty memory, with which every question goes to the base."""
    shutil.rmtree(fresh.corpora)
    with pytest.raises(RunError, match="no finished corpus"):
        index(fresh, seeds, embedder)


def test_first_sentence() -> None:
    """A full stop inside a number ends no sentence; of a dialogue the user's words count."""
    page = Page(spec=0, kind="written", author="model", text="It cost 3.50 “in all.” Then it rained.")
    assert corpus.first_sentence(page) == "It cost 3.50 “in all.”"
    assert corpus.first_sentence(page.model_copy(update={"text": "no end"})) == "no end"
