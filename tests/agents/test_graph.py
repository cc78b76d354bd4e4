"""The author's graph with the embedded model: killed, resumed, and what comes out of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rostok.agents import proposer
from rostok.agents.draft import Desk, Draft
from rostok.agents.graph import ROLES, author, fields, mermaid, open_desk
from rostok.agents.language import language
from rostok.config import resolve
from rostok.embedder import Embedder
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.models import find_embedder
from rostok.seeds.library import Library

_CHILD = """
import sys
from pathlib import Path
from rostok.environment import prepare
prepare()
from rostok.agents.graph import author, open_desk
from rostok.agents.language import language
from rostok.config import resolve
from rostok.embedder import Embedder
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.models import find_embedder
from rostok.seeds.library import Library
settings = resolve(options=eval(sys.argv[3]))
with LlamaCppEngine(Path(sys.argv[2]), sequences=16, context=1024) as engine:
    library, embedder = Library(Path(sys.argv[1])), Embedder(find_embedder("embedded"))
    author(open_desk(library, engine, embedder, settings, "0" * 64, language("en")), 2)
"""
_OPTIONS = {"theme": "a harbour town", "author": {"count": 2, "nodes": 8, "candidates": 2, "attempts": 6, "deepen": 1}}


def test_a_killed_author_goes_on_where_it_was(base_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: drafts begun again after a kill, and a library with a seed twice or one too few."""
    import sqlite3

    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path), str(base_gguf), repr(_OPTIONS)], env=dict(os.environ))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with sqlite3.connect(f"file:{tmp_path / 'checkpoints.sqlite'}?mode=ro", uri=True) as connection:
                if connection.execute("select count(*) from checkpoints").fetchone()[0] >= 12:
                    break
        except sqlite3.OperationalError:
            pass
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = [seed.id for seed in Library(tmp_path).seeds()]
    begun: list[tuple[int, int]] = []
    propose = proposer.propose

    def counted(desk: Desk, place: int, attempt: int) -> Draft:
        begun.append((place, attempt))
        return propose(desk, place, attempt)

    monkeypatch.setattr(proposer, "propose", counted)
    with LlamaCppEngine(base_gguf, sequences=16, context=1024) as engine:
        desk = open_desk(Library(tmp_path), engine, Embedder(find_embedder("embedded")), resolve(options=_OPTIONS), "0" * 64,
                         language("en"))
        author(desk, 2)
        seeds = Library(tmp_path).seeds()
        assert [seed.id for seed in seeds][: len(before)] == before
        assert sorted(seed.lineage.place for seed in seeds) == [0, 1]
        assert (0, 0) not in begun and (1, 0) not in begun
        assert author(desk, 2) == 0
    for seed in seeds:
        assert len(seed.nodes) == 8
        assert seed.lineage.theme == "a harbour town"
        assert seed.lineage.attributes["question 1"].endswith("?")
    assert {draft.place for draft in Library(tmp_path).drafts() if draft.admitted} == {0, 1}
    for seed in seeds:
        assert [step.source for step in seed.cycle()] != sorted(step.source for step in seed.cycle())
        assert all(step.sentence.startswith(f"The {seed.name(step.source)} {step.operation}") for step in seed.transitions)


def test_the_diagram_names_the_roles() -> None:
    """Prevents: a picture of the graph that no longer is the graph."""
    drawn = mermaid()
    for role in (*ROLES, "critic", "librarian", "dispatch"):
        assert role in drawn
    assert {field.role for field in fields(deepen=2)} == set(ROLES)
