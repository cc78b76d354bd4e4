"""The wheel: everything that is needed, once, under one name."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("agents", "seeds", "generator", "swarm", "ensemble")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built now."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=120,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(built: Path) -> list[str]:
    """Names of the files in it."""
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def tracked() -> set[str]:
    """What the wheel must hold, by its place in it: git's files under src/rostok and the stage folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "src/rostok", *STAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if listed.returncode != 0 or not listed.stdout:
        pytest.skip("not a git working copy")
    names = [name for name in listed.stdout.split("\0") if name and not (ROOT / name).is_symlink()]
    return {
        name.removeprefix("src/") if name.startswith("src/") else f"rostok/{name}"
        for name in names
        if (ROOT / name).exists()
    }


def test_every_module_is_in_the_wheel_once(wheel: list[str]) -> None:
    """Prevents: `pip install .` that lacks a new module or the report's template, or holds a stage twice."""
    assert tracked() - set(wheel) == set()
    assert [name for name, count in Counter(wheel).items() if count > 1] == []


def test_stages_have_no_name_of_their_own(wheel: list[str]) -> None:
    """Prevents: a top-level `agents` that hides another package of that name."""
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rostok"}
    for stage in STAGES:
        assert f"rostok/{stage}/__init__.py" in wheel


def test_the_wheel_holds_no_litter(wheel: list[str]) -> None:
    """Prevents: caches, tests or runs that are shipped to everybody."""
    assert [name for name in wheel if "__pycache__" in name or "/tests/" in name or name.endswith(".pyc")] == []


def test_a_stage_cannot_be_imported_by_its_bare_name() -> None:
    """Prevents: two copies of a stage in one process, whose records are of different classes."""
    for stage in STAGES:
        done = subprocess.run(
            [sys.executable, "-c", f"import {stage}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert f"import rostok.{stage}" in done.stderr


def test_the_page_is_found_in_the_wheel_and_beside_the_sources(built: Path, tmp_path: Path) -> None:
    """Prevents: `rostok serve` without its page in one of the two kinds of installation."""
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path)
    page = sorted(path.name for path in (ROOT / "ensemble/serve/page").iterdir())
    assert "index.html" in page and "app.js" in page
    for place in (tmp_path, ROOT / "src"):
        done = subprocess.run(
            [sys.executable, "-c", "from rostok.ensemble.serve.files import Files; print(*sorted(Files()._files))"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(place)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.split() == page
