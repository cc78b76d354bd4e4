"""How many adapters fit, and what is tried when they did not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rostok.errors import ModelError
from rostok.swarm.admission import LEAST_PASS, SHARE, MemoryModel, admit, calibrate, out_of_memory, smaller
from rostok.swarm.fused import FusedTrainer
from rostok.swarm.messages import Plan
from rostok.swarm.stack import Stack
from rostok.swarm.training import Job

sizes = st.integers(1, 10**9)


@given(sizes, st.integers(1, 10**6), st.integers(1, 64), st.integers(LEAST_PASS, 8192), st.integers(2, 4000),
       st.integers(2, 1000), st.integers(0, 10**11))
def test_the_first_plan_that_fits_is_admitted(adapter: int, row: int, together: int, pass_tokens: int, rows: int, page: int,
                                              available: int) -> None:
    """Prevents: a plan that runs out of memory by its own model, or one that leaves half of the memory empty."""
    model, wanted = MemoryModel(adapter=adapter, row=row), Plan(together=together, pass_tokens=pass_tokens)
    try:
        found: Plan | None = admit(model, wanted, rows=rows, page=page, available=available)
    except ModelError as error:
        found = None
        assert "MiB beside the base" in str(error)
    plan: Plan | None = wanted
    while plan != found:
        assert plan is not None
        assert model.bytes(plan, rows, page) > available * SHARE
        plan = smaller(plan, rows)
    assert plan is None or model.bytes(plan, rows, page) <= available * SHARE


@given(st.integers(1, 256), st.integers(LEAST_PASS, 8192), st.integers(1, 8192))
def test_less_is_tried_step_by_step_and_adapters_go_first(together: int, pass_tokens: int, rows: int) -> None:
    """Prevents: a loop that tries the same plan for ever; smaller passes, which round, before fewer adapters, which do not."""
    plan, tried = smaller(Plan(together=together, pass_tokens=pass_tokens), rows), 0
    while plan is not None:
        assert plan.together < together or plan.pass_tokens < pass_tokens
        assert plan.together == 1 or plan.pass_tokens == pass_tokens
        assert plan.pass_tokens >= LEAST_PASS or plan.pass_tokens == pass_tokens
        if plan.together == together == 1:
            assert plan.pass_tokens <= min(pass_tokens, rows) // 2
        together, pass_tokens, tried = plan.together, plan.pass_tokens, tried + 1
        plan = smaller(plan, rows)
    assert tried <= 8 + 7


@pytest.mark.parametrize(("error", "memory"), [
    (MemoryError(), True), (RuntimeError("could not create a primitive"), True),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"), True),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True), (RuntimeError("shape mismatch"), False),
    (ValueError("out of memory"), False)])
def test_errors_of_memory_are_told_from_others(error: Exception, memory: bool) -> None:
    """Prevents: a bug that is taken for a lack of memory, and tried again with less and less for ever."""
    assert out_of_memory(error) == memory


def test_the_probe_step_leaves_its_job_alone(tiny_base: Callable[[str], Any], make_job: Callable[..., Job]) -> None:
    """Prevents: a first job that has had one step more than the others."""
    stack, job = Stack(tiny_base("Llama"), dtype=torch.float32), make_job("a", 1)

    def grown() -> torch.Tensor:
        trainer = FusedTrainer(stack)
        trainer.add(job)
        ended = [one for _ in range(7) for one in trainer.step().ended]
        return ended[0].adapter.parameters.detach()

    before = grown()
    model = calibrate(stack, job)
    assert model.row >= 1
    assert model.adapter == before.numel() * 24
    assert torch.equal(grown(), before)
