"""The same jobs on a real Ray cluster of two nodes on this machine, one of which is killed; and addresses where none is.

`make test-ray` installs ray and runs this; without ray only the sentence that says so is tested.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rostok.errors import ClusterError
from rostok.runs import Run
from rostok.swarm import ray_cluster
from rostok.swarm.execute import execute
from rostok.swarm.jobs import JobTable
from tests.swarm.test_kills import adapters, start, unbroken
from tests.swarm.tiny_run import make_base, make_run, make_school, orders

LONG = 60  # epochs, so that the first worker is not done before the second has come; 5 were over in two seconds

with_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed; make test-ray installs it")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster of two nodes of one processor each."""
    import os

    os.environ.update(ray_cluster._ENVIRONMENT)
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def test_without_ray_one_sentence_says_how_to_get_it(base: Path, tmp_path: Path) -> None:
    """Prevents: an ImportError in the middle of a night for a package that nobody was told of."""
    if find_spec("ray") is not None:
        pytest.skip("ray is installed")
    run = make_run(tmp_path / "run", base, seeds=1, swarm={"executor": "ray"})
    with pytest.raises(ClusterError, match=r"pip install 'rostok\[ray\]'"):
        execute(run, orders(run), (), run.read().settings)


@with_ray
def test_the_jobs_of_a_lost_node_run_elsewhere_and_are_the_same(base: Path, tmp_path: Path, nodes: Any) -> None:
    """Prevents: jobs lost with their node, or begun anew by a worker that knows nothing of their checkpoints."""
    run = make_run(tmp_path / "run", base, seeds=4, training={"epochs": LONG, "together": 2}, school={"drills": 1},
                   swarm={"executor": "ray", "address": nodes.address, "cpus": 1, "checkpoint_steps": 5})
    make_school(run)
    told: list[str] = []
    over = threading.Event()

    def kill_a_node() -> None:
        while not over.is_set():
            if run.jobs.exists():
                with JobTable(run.jobs) as table:
                    rows = [row for row in table.rows() if row.state == "running" and row.kept]
                if len({row.worker for row in rows}) == 2:
                    break
            time.sleep(0.05)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)

    killer = threading.Thread(target=kill_a_node, daemon=True)
    killer.start()
    outcome = execute(run, orders(run), (), run.read().settings, tell=told.append)
    over.set()
    killer.join()
    assert {row.state for row in outcome.rows} == {"done"}, told
    with JobTable(run.jobs) as table:
        lost = [move.name for move in table.transitions() if (move.before, move.after) == ("running", "queued")]
        done = [move.name for move in table.transitions() if move.after == "done"]
    assert lost, told
    assert sorted(done) == sorted(order.name for order in orders(run))
    assert told[0] == "2 workers on 2 Ray nodes"
    whole = make_run(tmp_path / "unbroken", base, seeds=4, training={"epochs": LONG}, school={"drills": 1})
    make_school(whole)
    assert adapters(run) == unbroken(whole)


def untouched(run: Run) -> bool:
    """Nothing was begun: every job waits as it did."""
    with JobTable(run.jobs) as table:
        return all(row.state == "queued" and row.attempts == 0 for row in table.rows())


@with_ray
def test_an_address_that_does_not_answer_is_told_and_local_workers_go_on(base: Path, tmp_path: Path) -> None:
    """Prevents: minutes of silence in front of a cluster that is switched off, and jobs marked as running there."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    run = make_run(tmp_path / "run", base, seeds=2, swarm={"executor": "ray", "address": address})
    began = time.monotonic()
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at swarm.address={address}"):
        execute(run, orders(run), (), run.read().settings)
    assert time.monotonic() - began < 30
    assert untouched(run)
    local = run.read().settings.model_copy(update={"swarm": run.read().settings.swarm.model_copy(update={"executor": "local"})})
    assert {row.state for row in execute(run, orders(run), (), local).rows} == {"done"}


@with_ray
def test_something_else_that_listens_there_is_told_in_bounded_time(base: Path, tmp_path: Path) -> None:
    """Prevents: a wrong port that hangs for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        run = make_run(tmp_path / "run", base, seeds=1, swarm={"executor": "ray", "address": address})
        process = start(run)
        said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "is no Ray cluster that can be joined" in said
    assert untouched(run)
