"""The author's graph with the embedded model: killed, resumed, and what comes out of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rostok.agents.graph import author, mermaid
from rostok.agents.team import FIELDS, Team
from rostok.config import AuthorSettings
from rostok.embedder import Embedder
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.models import find_embedder
from rostok.seeds.library import Library

_CHILD = """
import sys
from pathlib import Path
from rostok.environment import prepare
prepare()
from rostok.agents.graph import author
from rostok.agents.team import Team
from rostok.config import AuthorSettings
from rostok.embedder import Embedder
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.models import find_embedder
settings = AuthorSettings(count=2, nodes=8, candidates=2, attempts=6)
with LlamaCppEngine(Path(sys.argv[2]), sequences=16, context=1024, threads=2) as engine:
    author(Path(sys.argv[1]), Team(engine, Embedder(find_embedder("embedded")), settings, "a harbour town", 7, "0" * 64), 2)
"""


class CountingTeam(Team):
    """A team that remembers which drafts were begun here."""

    begun: list[tuple[int, int]] = []

    def propose(self, place: int, attempt: int) -> dict[str, object]:
        self.begun.append((place, attempt))
        return super().propose(place, attempt)


def test_a_killed_author_goes_on_where_it_was(base_gguf: Path, tmp_path: Path) -> None:
    """Prevents: drafts begun again after a kill, and a library with a seed twice or one too few."""
    import sqlite3

    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path), str(base_gguf)], env=dict(os.environ))
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
    CountingTeam.begun = []
    settings = AuthorSettings(count=2, nodes=8, candidates=2, attempts=6)
    with LlamaCppEngine(base_gguf, sequences=16, context=1024, threads=2) as engine:
        team = CountingTeam(engine, Embedder(find_embedder("embedded")), settings, "a harbour town", 7, "0" * 64)
        author(tmp_path, team, 2)
        seeds = Library(tmp_path).seeds()
        assert [seed.id for seed in seeds][: len(before)] == before
        assert sorted(seed.lineage.place for seed in seeds) == [0, 1]
        assert (0, 0) not in CountingTeam.begun and (1, 0) not in CountingTeam.begun
        assert author(tmp_path, team, 2) == 0
    for seed in seeds:
        assert len(seed.nodes) == 8
        assert seed.lineage.theme == "a harbour town"
        assert [step.source for step in seed.cycle()] != sorted(step.source for step in seed.cycle())
        assert all(step.sentence.startswith(f"The {seed.name(step.source)} {step.operation}") for step in seed.transitions)


def test_the_diagram_names_the_roles() -> None:
    """Prevents: a picture of the graph that no longer is the graph."""
    nobody: object = None
    team = Team(nobody, nobody, AuthorSettings(), "", 0, "")  # type: ignore[arg-type]
    drawn = mermaid(team, Path("seeds"))
    assert "dispatch" in drawn
    assert "draft" in drawn
    assert "admit" in drawn
    assert len(FIELDS) == 8
