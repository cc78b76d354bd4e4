"""`kill -9` of the worker and of the schedule at random moments: every job ends done once, and as if nothing had happened.

Four kills in the ordinary suite; ROSTOK_KILLS=30 (`make test-kills`) for as many as wanted.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rostok.models import find_base
from rostok.records import file_digest
from rostok.runs import Run
from rostok.swarm.base import FrozenBase
from rostok.swarm.jobs import JobTable
from rostok.swarm.messages import Ended, Message, Plan, Take
from rostok.swarm.work import Work
from rostok.swarm.worker import RunDesk
from tests.swarm.tiny_run import make_base, make_run, orders

KILLS = int(os.environ.get("ROSTOK_KILLS", "4"))
slow = pytest.mark.skipif("ROSTOK_KILLS" not in os.environ, reason="make test-kills runs it")
PATIENCE = 120.0


def start(run: Run, *arguments: str) -> subprocess.Popen[str]:
    """A process that trains the experts of a run."""
    return subprocess.Popen([sys.executable, "-m", "tests.swarm.tiny_run", str(run.folder), *arguments], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    return said


def adapters(run: Run) -> dict[str, str]:
    """Hashes of the trained adapters."""
    found = run.experts.glob("*.part/adapter_model.safetensors")
    return {path.parent.name.removesuffix(".part"): file_digest(path) for path in found}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that must not outlive the test."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for process in found:
        if process.poll() is None:
            process.kill()
            process.wait()


def worker_of(schedule: subprocess.Popen[str]) -> psutil.Process | None:
    try:
        return next(iter(psutil.Process(schedule.pid).children()), None)
    except psutil.NoSuchProcess:
        return None


def wait_for(moment: Callable[[], bool], schedule: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not moment() and schedule.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def moment_of(dice: random.Random, run: Run) -> Callable[[], bool]:
    """Somewhere in a run: a time, which mostly falls into imports, or a step, or a handful of milliseconds after one."""
    if dice.random() < 0.3:
        at = time.monotonic() + dice.uniform(0.1, 6.0)
        return lambda: time.monotonic() > at
    with JobTable(run.jobs) as table:
        step = sum(row.step for row in table.rows()) + dice.randint(1, 60)
    reached: list[float] = []

    def moment() -> bool:
        if not reached:
            with JobTable(run.jobs) as table:
                rows = table.rows()
            if sum(row.step for row in rows) >= step or sum(row.state == "done" for row in rows) > 6:
                reached.append(time.monotonic() + dice.uniform(0, 0.3))
        return bool(reached) and time.monotonic() > reached[0]

    return moment


def test_killed_at_random_moments_every_job_is_done_once_and_bit_for_bit(base: Path, tmp_path: Path,
                                                                       running: list[subprocess.Popen[str]]) -> None:
    """Prevents: jobs lost, trained twice, or ended by a worker whose schedule is gone; adapters that a kill has changed."""
    wanted = unbroken(make_run(tmp_path / "unbroken", base))
    dice = random.Random(KILLS)
    killed: Counter[str] = Counter()
    while killed.total() < KILLS:
        run = make_run(tmp_path / f"killed-{killed.total()}", base, swarm={"checkpoint_steps": 5})
        schedule = start(run)
        running.append(schedule)
        wait_for(run.jobs.exists, schedule)
        while killed.total() < KILLS and schedule.poll() is None:
            wait_for(moment_of(dice, run), schedule)
            worker = worker_of(schedule)
            if schedule.poll() is not None:
                break
            if killed["worker"] <= killed["schedule"] and worker is not None:  # by turns: few kills must be of both kinds
                worker.send_signal(signal.SIGKILL)
                killed["worker"] += 1
            else:
                schedule.send_signal(signal.SIGKILL)
                schedule.wait()
                killed["schedule"] += 1
                schedule = start(run)
                running.append(schedule)
        said = finish(schedule)
        with JobTable(run.jobs) as table:
            assert {row.state for row in table.rows()} == {"done"}, said
            moves = table.transitions()
        for name in wanted:
            assert [move.after for move in moves if move.name == name].count("done") == 1
            assert not [move for move in moves if move.name == name and move.before == "done"]
        assert adapters(run) == wanted
        assert not [path for path in run.experts.glob("*.part/*") if path.name.startswith((".", "checkpoint"))]
    print(f"killed: {dict(killed)}")
    assert len(killed) == 2


def unbroken(run: Run) -> dict[str, str]:
    """Adapters that one process without any schedule has trained, one alone at a time."""
    settings = run.read().settings
    ended: list[Message] = []
    work = Work(RunDesk(run), FrozenBase(find_base(settings.models.base)), settings, Plan(together=1, pass_tokens=2048),
                ended.append)
    for order in orders(run):
        work.take(Take(name=order.name, made_from=order.made_from))
        while work.busy:
            work.step()
    assert sum(isinstance(message, Ended) and message.done for message in ended) == len(orders(run))
    return adapters(run)
