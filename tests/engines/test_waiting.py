"""The lines before the engine: who shares an adapter is served together, and nobody starves."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from rostok.engines.waiting import Waiting


@dataclass(frozen=True)
class Job:
    """A request with an adapter, the how manieth it is."""

    line: str
    number: int


def serve(jobs: list[Job], *, turn: int, sequences: int) -> list[Job]:
    """Serve in rounds as the engine does: fill the sequences, then all of them finish."""
    waiting: Waiting[Job] = Waiting(turn)
    for job in jobs:
        waiting.put(job)
    at_work, served = "", []
    while len(waiting):
        running: list[Job] = []
        while len(running) < sequences and (job := waiting.take(at_work, idle=not running)) is not None:
            assert not running or job.line == at_work
            at_work = job.line
            running.append(job)
        assert running
        served += running
    return served


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 8), st.integers(1, 4))
def test_everybody_is_served_once_and_batches_are_of_one_adapter(lines: list[str], turn: int, sequences: int) -> None:
    """Prevents: a request that is lost between two lines, or a batch computed with the wrong adapter."""
    jobs = [Job(line, number) for number, line in enumerate(lines)]
    served = serve(jobs, turn=turn, sequences=sequences)
    assert sorted(served, key=lambda job: job.number) == jobs
    for line in "abc":
        numbers = [job.number for job in served if job.line == line]
        assert numbers == sorted(numbers)


def test_requests_of_one_adapter_share_a_batch_though_others_stand_between_them() -> None:
    """Prevents: A, B, A, B served one by one, with a change of adapter and an almost empty batch each time."""
    jobs = [Job("ab"[number % 2], number) for number in range(8)]
    assert [job.line for job in serve(jobs, turn=8, sequences=4)] == list("aaaabbbb")


def test_a_busy_adapter_lets_others_in_after_its_turn() -> None:
    """Prevents: one question that waits behind ten thousand pages of another expert."""
    jobs = [*(Job("a", number) for number in range(20)), Job("b", 20)]
    assert [job.line for job in serve(jobs, turn=8, sequences=4)].index("b") == 8
