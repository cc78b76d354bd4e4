"""What lies in a run, and what is free beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rostok.estimate import found
from rostok.runs import Run


def test_bytes_are_told_by_stage(tmp_path: Path) -> None:
    """Prevents: an expert or a school that is needed twice, or a log that makes room for one."""
    run = Run(tmp_path / "run")
    assert set(found.lying(run).values()) == {0.0}
    for path, size in ((run.seeds / "library.jsonl", 1), (run.corpora / "s-1" / "pages.jsonl", 20), (run.school / "a" / "b", 300),
                       (run.experts / "s-1" / "adapter.gguf", 4_000), (run.memory / "chroma.sqlite3", 50_000),
                       (run.report, 600_000), (run.folder / "crash.log", 7_000_000)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    assert found.lying(run) == {"author": 1, "corpus": 20, "swarm": 4_300, "memory": 50_000, "report": 600_000}


def test_the_disk_is_that_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a run on a full disk that is told to fit, because the shell stands on another one."""
    asked: list[Path] = []
    little = shutil.disk_usage(tmp_path)._replace(free=3)

    def usage(path: Path) -> object:
        asked.append(path)
        return little

    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(found.shutil, "disk_usage", usage)
    monkeypatch.chdir(tmp_path)
    assert found.free_bytes(tmp_path / "disk" / "run" / "deep") == found.free_bytes(Path("disk/run")) == 3
    assert asked == [tmp_path / "disk"] * 2
