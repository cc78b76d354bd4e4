"""Train one expert: QLoRA on one corpus with peft and trl's SFTTrainer over the shared frozen base."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rostok.config import TrainingSettings
from rostok.errors import DataError
from rostok.swarm.base import FrozenBase
from rostok.swarm.records import LossPoint


@dataclass(frozen=True)
class Trained:
    """A trained adapter, still in `model`; call `release` to give the base back."""

    model: Any
    steps: int
    tokens: int
    curve: tuple[LossPoint, ...]


def train(base: FrozenBase, pages: Sequence[Sequence[int]], settings: TrainingSettings, random_seed: int,
          on_step: Callable[[int, int], None] = lambda steps, tokens: None) -> Trained:
    """Train a fresh adapter on tokenised pages.

    Args:
        pages: token ids, one list a page; a page is one row, never packed with another.
        on_step: called after every optimizer step with (1, tokens of the step).

    Raises:
        DataError: fewer pages than one step takes.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    if len(pages) < settings.pages_per_step:
        raise DataError(f"a corpus of {len(pages)} training pages is too small for steps of {settings.pages_per_step}. "
                        "Raise corpus.pages or lower training.pages_per_step.")
    steps = steps_of(len(pages), settings)
    mean = sum(map(len, pages)) * settings.pages_per_step // len(pages)

    class Report(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            on_step(1, mean)

    torch.manual_seed(random_seed)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SFTConfig(
            output_dir=scratch, max_steps=steps, per_device_train_batch_size=settings.pages_per_step,
            learning_rate=settings.learning_rate, lr_scheduler_type="warmup_stable_decay",
            # A short cosine starves the learning: the rate stays high and falls only over the last part.
            lr_scheduler_kwargs={"num_decay_steps": max(1, round(steps * settings.decay_share)), "decay_type": "linear",
                                 "min_lr_ratio": 0.0},
            warmup_steps=min(settings.warmup_steps, steps // 3), weight_decay=0.0, max_grad_norm=settings.clip,
            bf16=True, use_cpu=not torch.cuda.is_available(), gradient_checkpointing=False, packing=False,
            max_length=settings.max_tokens, logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
            seed=random_seed, data_seed=random_seed, dataloader_pin_memory=False, optim="adamw_torch")
        lora = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0, bias="none",
                          target_modules="all-linear", task_type="CAUSAL_LM")
        trainer = SFTTrainer(
            model=base.model, args=arguments, processing_class=base.tokenizer, peft_config=lora, callbacks=[Report()],
            train_dataset=Dataset.from_dict({"input_ids": [list(page) for page in pages]}))
        trainer.remove_callback(_printer())
        trainer.train()
    curve = tuple(
        LossPoint(step=int(entry["step"]), loss=float(entry["loss"]), learning_rate=float(entry["learning_rate"]))
        for entry in trainer.state.log_history if "loss" in entry and math.isfinite(float(entry["loss"])))
    trainer.model.eval()
    return Trained(trainer.model, steps, steps * mean, curve)


def steps_of(pages: int, settings: TrainingSettings) -> int:
    """Optimizer steps for so many training pages."""
    return max(2, round(pages * settings.epochs / settings.pages_per_step))


def release(base: FrozenBase, trained: Trained) -> None:
    """Take the adapter out of the base, which is then as it was before `train`."""
    base.model = trained.model.unload()
    if hasattr(base.model, "peft_config"):
        del base.model.peft_config


def save(trained: Trained, folder: Path) -> None:
    """The adapter as an ordinary PEFT folder, safetensors only."""
    trained.model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # peft's template card says nothing true about this expert


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
