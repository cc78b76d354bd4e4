"""Many adapters in one step: each as if it were alone. The defects of other trainers are tests here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rostok.config import TrainingSettings
from rostok.errors import AdapterError, DataError
from rostok.swarm.fused import FusedTrainer
from rostok.swarm.schedule import fall_of, learning_rate, page_order, warmup_of
from rostok.swarm.stack import Stack
from rostok.swarm.training import Ended, Job, Start, State
from tests.swarm.grown import grow


@pytest.fixture(scope="module")
def stack(tiny_base: Callable[[str], Any]) -> Stack:
    return Stack(tiny_base("Llama"), dtype=torch.float32)


def same(a: Ended, b: Ended, tolerance: float = 1e-4) -> bool:
    """The same adapter to fp32 rounding over a whole training: losses, rates, and the norm of the difference.

    The norm, since AdamW makes whole steps of gradients that are nothing but rounding.
    """
    x, y = a.adapter.parameters.detach(), b.adapter.parameters.detach()
    losses = all(math.isclose(p.loss, q.loss, rel_tol=tolerance) and p.learning_rate == q.learning_rate
                 for p, q in zip(a.curve, b.curve, strict=True))
    near = float((x - y).norm()) <= tolerance * float(x.norm())
    return losses and near and (a.steps, a.tokens) == (b.steps, b.tokens)


def test_trained_together_or_alone_it_is_the_same_adapter(stack: Stack, make_job: Callable[..., Job]) -> None:
    """Prevents: anything of a neighbour (its rate, rank, pages, end, moments, decay) that reaches another adapter."""
    jobs = [make_job("a", 1), make_job("b", 2, learning_rate=3e-2, clip=0.1), make_job("c", 3, rank=7, alpha=3),
            make_job("d", 4, layers=1), make_job("e", 5, epochs=0.7, pages_per_step=2),
            make_job("f", 6, stop_loss=100.0, epochs=4)]
    together = grow(stack, jobs, together=4)  # e and f join when others have left
    assert [together[job.name].how for job in jobs] == ["done"] * 5 + ["early stop"]
    assert together["f"].steps == 8
    for job in jobs:
        alone = grow(stack, [job], together=1)[job.name]
        assert alone.how == together[job.name].how
        assert same(together[job.name], alone), job.name
        assert float(alone.adapter.parameters.detach().abs().max()) > 0.01
    assert not same(together["a"], grow(stack, [make_job("a", 1, clip=0.01)])["a"])  # the comparison can fail


def test_in_bf16_it_is_the_same_bit_for_bit(tiny_base: Callable[[str], Any], make_job: Callable[..., Job]) -> None:
    """Prevents: products whose rounding depends on the company, which no tolerance would then describe."""
    stack = Stack(tiny_base("Llama").bfloat16())
    jobs = [make_job("a", 1), make_job("b", 2, rank=8), make_job("c", 3, learning_rate=5e-2)]
    together = grow(stack, jobs)
    for job in jobs:
        alone = grow(stack, [job])[job.name]
        assert torch.equal(alone.adapter.parameters, together[job.name].adapter.parameters)
        assert alone.curve == together[job.name].curve


def test_adapters_begin_from_the_one_that_they_are_given(stack: Stack, make_job: Callable[..., Job]) -> None:
    """Prevents: a start that is drawn over, that one job trains for the others, or that belongs to another shape."""
    first = grow(stack, [make_job("first", 9)])["first"].adapter
    start = Start(first.tensors(), "of the first")
    before = {name: value.clone() for name, value in start.tensors.items()}
    jobs = [replace(make_job("a", 1), start=start), replace(make_job("b", 2), start=start), make_job("c", 3)]
    trainer = FusedTrainer(stack)
    for job in jobs:
        trainer.add(job)
    trainer.step()  # of warm-up: its rate is 0
    assert torch.equal(trainer.state("a").tensors["parameters"], first.parameters)
    assert not torch.equal(trainer.state("c").tensors["parameters"], first.parameters)
    together = grow(stack, jobs)
    for job in jobs:
        assert same(together[job.name], grow(stack, [job])[job.name]), job.name
    assert not same(together["a"], grow(stack, [make_job("a", 1)])["a"])
    assert all(torch.equal(value, before[name]) for name, value in start.tensors.items())
    with pytest.raises(AdapterError, match=r"Set training\.rank and training\.layers as it was trained"):
        FusedTrainer(stack).add(replace(make_job("d", 1, rank=7), start=start))
    with pytest.raises(DataError, match="the checkpoint of a was made from another corpus, base or settings"):
        FusedTrainer(stack).restore(make_job("a", 1), trainer.state("a"))


def test_a_loss_that_is_not_finite_takes_its_adapter_out_alone(stack: Stack, make_job: Callable[..., Job]) -> None:
    """Prevents: 0 · NaN through a mask, which takes the whole night with it; and an adapter saved with NaN in it."""
    good = make_job("good", 1)
    wild = make_job("wild", 2, learning_rate=1e30, clip=1e30)
    found = grow(stack, [good, wild, make_job("also good", 3)])
    assert found["wild"].how == "not finite"
    assert "at step" in found["wild"].reason
    assert "training.learning_rate" in found["wild"].reason
    assert [found[name].how for name in ("good", "also good")] == ["done", "done"]
    assert same(found["good"], grow(stack, [good])["good"])


def test_a_neighbour_that_is_nan_from_the_start_changes_nothing(stack: Stack, make_job: Callable[..., Job]) -> None:
    """Prevents: NaN rows that reach other rows of the same product, soft-max or norm."""
    trainer = FusedTrainer(stack)
    for job in (make_job("sick", 2), make_job("good", 1)):
        trainer.add(job)
    trainer.step()
    trainer._slots["sick"].adapter.parameters.data.fill_(torch.nan)
    trainer._slots["sick"].adapter.refresh()
    found = {ended.job.name: ended for ended in trainer.step().ended}
    assert found["sick"].reason.startswith("its loss became nan at step 2 of 7")
    assert trainer.names == ["good"]
    while trainer.names:
        found.update({ended.job.name: ended for ended in trainer.step().ended})
    assert same(found["good"], grow(stack, [make_job("good", 1)])["good"])


def test_a_step_cut_into_passes_has_the_same_gradient(stack: Stack, make_job: Callable[..., Job]) -> None:
    """Prevents: accumulation that weighs a short part like a long one, or is left out in the last epoch (mLoRA)."""
    job = make_job("a", 1, pages_per_step=5, epochs=1.3)
    whole, cut = grow(stack, [job])["a"], grow(stack, [job], pass_tokens=25)["a"]
    assert whole.steps == cut.steps == 3
    assert same(whole, cut)


def test_every_step_is_full_and_every_page_is_read_equally_often(stack: Stack, make_job: Callable[..., Job]) -> None:
    """Prevents: a short last step of an epoch, pages never read, and tokens counted by an average."""
    job = make_job("a", 1, count=10, pages_per_step=3, epochs=3)
    read = [index for epoch in range(3) for index in page_order(10, epoch, 1)]
    ended = grow(stack, [job])["a"]
    assert ended.steps == 10
    assert ended.tokens == sum(len(job.pages[index]) for index in read)
    assert page_order(10, 0, 1) != page_order(10, 1, 1)


def test_padding_of_a_neighbour_costs_nothing(stack: Stack, make_job: Callable[..., Job],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: all jobs padded to the longest (mLoRA): the rows computed are the tokens read."""
    computed = []
    forward = stack.forward
    monkeypatch.setattr(stack, "forward", lambda rows: computed.append(len(rows.tokens)) or forward(rows))
    trainer = FusedTrainer(stack)
    trainer.add(make_job("short", 1))
    trainer.add(Job("long", [[5] * 90] * 3, make_job("x").settings, 1))
    step = trainer.step()
    assert sum(computed) == step.tokens
    assert step.jobs == 2


@pytest.mark.parametrize("at", [1, 4])
def test_a_job_goes_on_from_its_checkpoint_bit_for_bit(stack: Stack, make_job: Callable[..., Job], tmp_path: Path,
                                                       at: int) -> None:
    """Prevents: moments, step, schedule or order of pages that are lost or rounded on the way through files."""
    jobs = [make_job("a", 1), make_job("b", 2, rank=7)]
    unbroken = grow(stack, jobs)
    trainer = FusedTrainer(stack)
    for job in jobs:
        trainer.add(job)
    for _ in range(at):
        trainer.step()
    for job in jobs:
        state = trainer.state(job.name)
        save_file(state.tensors, tmp_path / f"{job.name}.safetensors")
        (tmp_path / f"{job.name}.json").write_text(json.dumps(state.values))
    trainer.step()  # the copies do not follow
    again = FusedTrainer(stack)
    for job in jobs:
        again.restore(job, State(load_file(tmp_path / f"{job.name}.safetensors"),
                                 json.loads((tmp_path / f"{job.name}.json").read_text())))
    found: dict[str, Ended] = {}
    while again.names:
        found.update({ended.job.name: ended for ended in again.step().ended})
    for job in jobs:
        assert torch.equal(found[job.name].adapter.parameters, unbroken[job.name].adapter.parameters)
        assert found[job.name].curve == unbroken[job.name].curve
        assert found[job.name].tokens == unbroken[job.name].tokens


def test_a_checkpoint_of_something_else_is_refused(stack: Stack, make_job: Callable[..., Job]) -> None:
    """Prevents: moments of one corpus under another's name."""
    trainer = FusedTrainer(stack)
    trainer.add(make_job("a", 1))
    trainer.step()
    state = trainer.state("a")
    for other in (make_job("a", 2), make_job("a", 1, learning_rate=1e-3)):
        with pytest.raises(DataError, match="the checkpoint of a was made from another corpus, base or settings"):
            FusedTrainer(stack).restore(other, state)
    FusedTrainer(stack).restore(make_job("a", 1, together=3), state)  # company is nothing that a job depends on


def test_a_job_can_be_stopped_and_its_place_is_taken(stack: Stack, make_job: Callable[..., Job]) -> None:
    """Prevents: an early stop from outside that loses the adapter, or a place that stays empty."""
    trainer = FusedTrainer(stack, together=1)
    for job in (make_job("a", 1), make_job("b", 2), make_job("c", 3)):
        trainer.add(job)
    trainer.step()
    ended = trainer.stop("a")
    assert ended is not None
    assert (ended.how, ended.steps) == ("stopped", 1)
    assert trainer.stop("c") is None
    assert trainer.names == ["b"]
    trainer.step()
    assert trainer.state("b").values["step"] == 1
    with pytest.raises(DataError, match="no job named c in training. In training: b"):
        trainer.state("c")


def test_jobs_that_cannot_be_trained_are_refused_by_name(stack: Stack, make_job: Callable[..., Job]) -> None:
    """Prevents: a traceback in the middle of a night for a corpus that was too small from the start."""
    trainer = FusedTrainer(stack)
    with pytest.raises(DataError, match="corpus of 2 training pages is too small for steps of 3"):
        trainer.add(make_job("a", count=2))
    with pytest.raises(DataError, match="corpus of 0 training pages"):
        trainer.add(make_job("a", count=0))
    with pytest.raises(DataError, match="training page 2 has fewer than two tokens"):
        trainer.add(Job("a", [[1, 2], [3], [4, 5]], TrainingSettings(pages_per_step=1, rank=4), 1))
    trainer.add(make_job("a"))
    with pytest.raises(DataError, match="a job named a already"):
        trainer.add(make_job("a"))


def test_an_adapter_takes_only_matrices_of_its_shape(stack: Stack) -> None:
    """Prevents: matrices of another rank that are broadcast into place."""
    adapter, other = stack.adapter(4, 8), stack.adapter(4, 8)
    adapter.draw(torch.Generator().manual_seed(1))
    other.load(adapter.tensors())
    assert torch.equal(other.parameters, adapter.parameters)
    with pytest.raises(AdapterError, match=r"lora_A.weight of shape \(5, 64\), asked for is \(4, 64\)|lora_A"):
        other.load(stack.adapter(5, 8).tensors())


@pytest.mark.parametrize(("steps", "warm", "share"), [(46, 8, 0.15), (7, 8, 0.5), (2, 0, 1.0), (30, 0, 0.0), (10, 3, 0.9)])
def test_the_rate_is_that_of_the_reference(steps: int, warm: int, share: float) -> None:
    """Prevents: another schedule than the reference's, under the same settings."""
    from transformers.optimization import get_wsd_schedule

    settings = TrainingSettings(warmup_steps=warm, decay_share=share, learning_rate=0.5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    fall, up = fall_of(steps, settings), warmup_of(steps, settings)
    schedule = get_wsd_schedule(optimizer, num_warmup_steps=up, num_decay_steps=fall, num_training_steps=steps,
                                decay_type="linear", min_lr_ratio=0.0)
    for step in range(steps):
        assert learning_rate(step, steps, settings) == pytest.approx(schedule.get_last_lr()[0]), step
        optimizer.step()
        schedule.step()
    assert learning_rate(steps - 1, steps, settings) > 0
