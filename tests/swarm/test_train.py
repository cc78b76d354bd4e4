"""Training many corpora, fused and by the reference, up to the folders that PEFT and llama.cpp read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import pytest
import torch
from peft import PeftModel

from rostok.config import TrainingSettings
from rostok.generator.records import Page
from rostok.swarm.adapter_gguf import export_adapter
from rostok.swarm.base import FrozenBase
from rostok.swarm.fused import FusedTrainer
from rostok.swarm.measure import bits_per_byte
from rostok.swarm.reference import train_reference
from rostok.swarm.stack import Block, Rows, Stack
from rostok.swarm.train import train
from rostok.swarm.training import Failed, Job, Start, Trained

TEXT = "The iron gate leads to the wet rope, and the wet rope leads to the salt jar."


@pytest.mark.parametrize("trainer", ["fused", "trl"])
def test_training_after_measuring_still_learns_and_gives_the_base_back(frozen: FrozenBase, trainer: str, tmp_path: Path) -> None:
    """Prevents: bitsandbytes' repacked inference weights, which have no gradient, in training (the loss then rises), and an
    adapter that stays in the base of the next expert."""
    before = bits_per_byte(frozen.model, frozen, [TEXT], 320)
    pages = frozen.page_tokens([Page(spec=i, kind="composed", author="code", text=TEXT) for i in range(16)], 64)
    settings = TrainingSettings.model_validate({"epochs": 2, "rank": 8, "warmup_steps": 2, "trainer": trainer})
    steps: list[int] = []
    (fitted,) = train(frozen, [Job("one", pages, settings, 7)], settings, lambda job: tmp_path / job.name,
                      on_step=lambda step, tokens: steps.append(step))
    assert isinstance(fitted, Trained)
    assert sum(steps) == fitted.steps == 8
    assert fitted.tokens == sum(map(len, pages)) * 2
    assert fitted.curve[-1].loss < 0.5 * fitted.curve[0].loss
    model = frozen.wear(fitted.folder)
    assert bits_per_byte(model, frozen, [TEXT], 320) < 0.5 * before
    frozen.take_off(model)
    assert bits_per_byte(frozen.model, frozen, [TEXT], 320) == before


def test_the_fused_step_learns_what_the_reference_learns(frozen: FrozenBase, tmp_path: Path) -> None:
    """Prevents: a loss, gradient, clip, schedule or order of pages that differs from the reference's on the 4-bit base."""
    dice, words = torch.Generator().manual_seed(3), frozen.tokens(TEXT * 3)
    # From readable to random: each step's loss is another, so that another order would show.
    pages = [words[: 8 * i] + torch.randint(20_000, (64 - 8 * i,), generator=dice).tolist() for i in range(8)]
    settings = TrainingSettings(epochs=1.5, rank=8, warmup_steps=2, learning_rate=1e-3, pages_per_step=2)
    job = Job("one", pages, settings, 7)
    stack = Stack(frozen.model)
    adapter = stack.adapter(settings.rank, settings.alpha)
    adapter.draw(torch.Generator().manual_seed(7))
    reference = train_reference(frozen, replace(job, start=Start(adapter.tensors(), "drawn")), tmp_path / "trl")
    (fused,) = train(frozen, [job], settings, lambda job: tmp_path / "fused")
    assert isinstance(fused, Trained)
    assert len(reference.curve) == len(fused.curve) == 6
    assert max(point.loss for point in fused.curve) > 1.2 * min(point.loss for point in fused.curve)
    for one, other in zip(reference.curve, fused.curve, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=0.02)


def test_a_job_that_cannot_be_trained_leaves_the_others_alone(frozen: FrozenBase, tmp_path: Path) -> None:
    """Prevents: one bad corpus, or one that diverges, that ends the night of all."""
    page = frozen.tokens(TEXT)
    settings = TrainingSettings(epochs=1, pages_per_step=2, rank=2, warmup_steps=0)
    wild = settings.model_copy(update={"learning_rate": 1e30, "clip": 1e30})
    jobs = [Job("small", [page], settings, 1), Job("wild", [page] * 6, wild, 1), Job("good", [page] * 6, settings, 1)]
    ended = {one.job.name: one for one in train(frozen, iter(jobs), settings, lambda job: tmp_path / job.name)}
    assert isinstance(ended["good"], Trained)
    failed = {name: one.reason for name, one in ended.items() if isinstance(one, Failed)}
    assert failed["small"].startswith("a corpus of 1 training pages is too small")
    assert "at step" in failed["wild"]
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_a_base_on_which_the_step_is_not_verified_goes_to_the_reference(frozen: FrozenBase, monkeypatch: pytest.MonkeyPatch,
                                                                       tmp_path: Path) -> None:
    """Prevents: a night that ends because of its base's family, or a silent change of trainer."""
    monkeypatch.setattr(frozen.model.config, "hidden_act", "gelu")
    told: list[str] = []
    settings = TrainingSettings(epochs=1, pages_per_step=1, rank=2)
    ended = list(train(frozen, [Job("one", [frozen.tokens(TEXT)] * 2, settings, 1)], settings, lambda job: tmp_path / job.name,
                       tell=told.append))
    assert isinstance(ended[0], Trained)
    assert ended[0].trainer == "trl"
    assert told == ["the fused trainer is not verified on this base (its activation is gelu, not silu); "
                    "trl's SFTTrainer trains one expert after the other"]


def test_the_weights_are_those_of_bitsandbytes(frozen: FrozenBase) -> None:
    """Prevents: another rounding of the 4-bit base than the one that serves and measures."""
    stack = Stack(frozen.model, keep=False)
    assert stack.disagreement() < 0.015
    rows = torch.randn(5, stack.width).bfloat16()
    module = frozen.model.model.layers[3].self_attn.q_proj
    with torch.inference_mode():
        assert torch.equal(module(rows), stack._read(3).qkv.forward(rows)[:, : module.out_features])


@pytest.mark.parametrize("layers", ["all", 1])
def test_the_folder_loads_merges_and_converts(tiny_base: Callable[[str], Any], make_job: Callable[..., Job], tmp_path: Path,
                                              layers: int | str) -> None:
    """Prevents: an adapter that only its own trainer can read."""
    model = tiny_base("Llama")
    stack, job = Stack(model, dtype=torch.float32), make_job("a", 1, layers=layers)
    trainer = FusedTrainer(stack)
    trainer.add(job)
    while trainer.names:
        ended = trainer.step().ended
    ended[0].adapter.save(tmp_path, "base")
    tokens = torch.tensor(job.pages[0])
    hidden, _ = stack.forward(Rows(tokens, [(0, len(tokens))], [Block(ended[0].adapter, 0, len(tokens))]))
    with torch.no_grad():
        plain = model(input_ids=tokens[None]).logits[0]
        merged = PeftModel.from_pretrained(model, tmp_path).merge_and_unload()(input_ids=tokens[None]).logits[0]
        wanted = stack.head.forward(hidden)
    assert torch.allclose(merged, wanted, atol=1e-3)
    assert not torch.allclose(plain, wanted, atol=1e-1)
    export_adapter(tmp_path, tmp_path / "adapter.gguf", model.config.to_dict())
    assert len(gguf.GGUFReader(tmp_path / "adapter.gguf").tensors) == 14 * (3 if layers == "all" else 1)
    assert not list(tmp_path.glob("*.bin"))


def test_peft_reads_an_adapter_of_the_reference_with_fewer_layers(frozen: FrozenBase, tmp_path: Path) -> None:
    """Prevents: a reference that trains other layers than it was asked to."""
    settings = TrainingSettings(epochs=1, pages_per_step=1, rank=2, layers=2, trainer="trl")
    train_reference(frozen, Job("one", [frozen.tokens(TEXT)] * 2, settings, 1), tmp_path)
    from safetensors.torch import load_file

    found = {name.split(".layers.")[1].split(".")[0] for name in load_file(tmp_path / "adapter_model.safetensors")}
    assert found == {"28", "29"}


def test_company_is_no_part_of_the_recipe() -> None:
    """Prevents: experts trained again, or refused, because more or fewer of them fit in memory today."""
    assert TrainingSettings(together=2).recipe() == TrainingSettings(together=8).recipe()
    assert TrainingSettings(trainer="trl").recipe() != TrainingSettings().recipe()
    assert SimpleNamespace(**TrainingSettings(layers=3).recipe()).layers == 3
