"""Before anything is trained: the table of jobs against what lies on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rostok.runs import Run
from rostok.swarm.checkpoint import checkpoint, store
from rostok.swarm.execute import reconcile
from rostok.swarm.jobs import JobTable, Order
from rostok.swarm.training import State


@pytest.mark.parametrize("grown", [True, False])
def test_checkpoints_that_a_kill_left_beside_an_expert_are_swept(tmp_path: Path, grown: bool) -> None:
    """Prevents: 60 MB beside every expert whose worker died between marker and sweep; one in training that lost its own."""
    run = Run(tmp_path / "run")
    part = run.part("s-1")
    store(part, checkpoint("origin", State({"step": torch.tensor(1.0)}, {"step": 10, "tokens": 1, "seconds": 0.1, "curve": []})))
    with JobTable(run.jobs) as table:
        table.enter([Order(name="s-1", title="one", steps=20, total=20, made_from="origin")])
        reconcile(run, table, {"s-1"} if grown else ())
        assert [row.state for row in table.rows()] == ["done" if grown else "queued"]
    assert bool(list(part.glob("checkpoint-*"))) != grown
