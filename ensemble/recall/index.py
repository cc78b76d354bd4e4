"""Fill a run's memory from its corpora, and draw the map of seeds and pages. Can be killed and run again.

Ids are `<seed>:<spec>`, so nothing is stored twice. memory/indexed.json, with the hash of everything the store
was made from, is written last. A store that was made from something else, or is damaged, is thrown away and built
anew. What people said lies elsewhere (`rostok.ensemble.history.words`) and stays.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from rostok.embedder import Embedder
from rostok.ensemble.recall import corpus
from rostok.ensemble.recall.memory import Memory, PageData, SeedData
from rostok.ensemble.recall.plane import Plane
from rostok.errors import DataError, RunError, writing
from rostok.generator.records import Page
from rostok.records import Record, digest, read_record, write_atomic
from rostok.report.sources import MapPoint, SeedMap
from rostok.runs import Run
from rostok.seeds.record import Seed

_VERSION = 3  # raise when the store's content changes
_BATCH = 256  # pages embedded and stored at once: what a kill costs


class Indexed(Record):
    """memory/indexed.json, the marker of a finished store."""

    made_from: str
    pages: int
    seeds: int


def index(run: Run, seeds: Sequence[Seed], embedder: Embedder,
          on_pages: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Bring `run.memory` and the map up to date with the corpora.

    Args:
        on_pages: called with (pages stored so far, pages in all).

    Returns:
        How many pages were embedded now; 0 when all was done before.

    Raises:
        RunError: no corpus is finished.
        DataError: a corpus cannot be read.
        StorageError: the disk refused; a later call goes on where this one ended.
    """
    finished = corpus.manifests(run, seeds)
    if not finished:
        raise RunError(f"{run.folder} has no finished corpus. Write it: rostok corpus build {run.folder}")
    wanted = digest(_VERSION, embedder.sha256, [seed.id for seed in seeds],
                    {seed: manifest.pages_sha256 for seed, manifest in finished.items()})
    if _is_done(run, embedder, wanted):
        return 0
    pages = {f"{seed}:{page.spec}": (seed, page)
             for seed in finished for page in corpus.pages(run, seed, held_out=False)}
    if _made_from(run.memory, embedder) == wanted and _marker(run.memory) is None:
        try:  # a build that was interrupted
            return _build(run, seeds, embedder, wanted, pages, on_pages)
        except DataError:
            pass  # what it left is damaged
    _throw_away(run.memory)
    return _build(run, seeds, embedder, wanted, pages, on_pages)


def _build(run: Run, seeds: Sequence[Seed], embedder: Embedder, made_from: str,
           pages: dict[str, tuple[str, Page]], on_pages: Callable[[int, int], None]) -> int:
    with writing(run.memory):
        run.memory.mkdir(parents=True, exist_ok=True)
    with Memory(run.memory, embedder, made_from=made_from) as memory:
        known = set(memory.known("pages"))
        missing = [key for key in pages if key not in known]
        for start in range(0, len(missing), _BATCH):
            keys = missing[start : start + _BATCH]
            memory.add("pages", keys, [pages[key][1].text for key in keys], [
                PageData(seed=pages[key][0], kind=pages[key][1].kind, spec=pages[key][1].spec, author=pages[key][1].author)
                for key in keys])
            on_pages(len(pages) - len(missing) + start + len(keys), len(pages))
        for seed in seeds:
            memory.add(
                "seeds", [seed.id, *(f"{seed.id}:{node.key}" for node in seed.nodes),
                          *(f"{seed.id}:{node.key}:name" for node in seed.nodes)],
                [f"{seed.title}. {seed.scene}", *(f"{node.name}: {node.gloss}" for node in seed.nodes),
                 *(node.name for node in seed.nodes)],
                [SeedData(seed=seed.id, kind="seed"), *(SeedData(seed=seed.id, kind="node") for _ in seed.nodes),
                 *(SeedData(seed=seed.id, kind="name") for _ in seed.nodes)])
        if set(memory.known("pages")) != set(pages) or not memory.sound():
            raise DataError(f"the memory in {run.memory} does not give back what was stored. "
                            "Check the disk, delete that folder and run the same command again.")
        _write_map(run.seeds / "map.json", memory, seeds)
        marker = Indexed(made_from=made_from, pages=memory.count("pages"), seeds=memory.count("seeds"))
    write_atomic(run.memory / "indexed.json", marker.line() + "\n")
    return len(missing)


def _is_done(run: Run, embedder: Embedder, wanted: str) -> bool:
    marker = _marker(run.memory)
    if marker is None or marker.made_from != wanted or not (run.seeds / "map.json").is_file():
        return False
    try:
        with Memory(run.memory, embedder) as memory:
            return (memory.made_from == wanted and memory.sound()
                    and (memory.count("pages"), memory.count("seeds")) == (marker.pages, marker.seeds))
    except DataError:
        return False


def _marker(folder: Path) -> Indexed | None:
    try:
        return read_record(folder / "indexed.json", Indexed)
    except (DataError, OSError, UnicodeDecodeError):
        return None


def _made_from(folder: Path, embedder: Embedder) -> str | None:
    """What the store in the folder is (or was to be) made from, None when there is none that opens."""
    if not (folder / "chroma.sqlite3").is_file():
        return None
    try:
        with Memory(folder, embedder) as memory:
            return memory.made_from
    except DataError:
        return None


def _throw_away(folder: Path) -> None:
    """Delete the store, the marker first. The user's words stay."""
    with writing(folder):
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        if not folder.exists():
            return
        (folder / "indexed.json").unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.name.startswith("words-"):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _write_map(path: Path, memory: Memory, seeds: Sequence[Seed]) -> None:
    """seeds/map.json: seeds and an even sample of pages on the plane of their vectors."""
    plane = Plane(memory, [seed.id for seed in seeds])
    points = [MapPoint(seed=seed.id, kind="seed", x=x, y=y, label=seed.title)
              for seed, (x, y) in zip(seeds, plane.seed_points.round(5).tolist(), strict=True)]
    points += [MapPoint(seed=key.rpartition(":")[0], kind="page", x=x, y=y, label=" ".join(text.split())[:60])
               for key, text, (x, y) in zip(plane.pages, plane.texts, plane.page_points.round(5).tolist(), strict=True)]
    write_atomic(path, SeedMap(points=tuple(points)).line() + "\n")
