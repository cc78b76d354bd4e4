"""The reference: one adapter at a time with peft and trl's SFTTrainer, against which the fused step is held.

It is also the way for bases on which the fused step has not been verified.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rostok.errors import ModelError
from rostok.swarm.base import FrozenBase
from rostok.swarm.fused import check_pages
from rostok.swarm.records import LossPoint
from rostok.swarm.schedule import fall_of, steps_of, warmup_of
from rostok.swarm.training import Job, Trained


def train_reference(base: FrozenBase, job: Job, folder: Path, *,
                    on_step: Callable[[int, int], None] = lambda steps, tokens: None) -> Trained:
    """Train an adapter and save it to `folder` as an ordinary PEFT folder. The base is then as it was before.

    A job without a start begins with matrices that PEFT draws.

    Args:
        on_step: called after every optimizer step with (1, mean tokens of a step).

    Raises:
        DataError: the corpus is too small for a step.
        ModelError: the objective needs a teacher.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from peft.utils import set_peft_model_state_dict
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    settings, pages = job.settings, job.pages
    if settings.distils:
        raise ModelError(f"trl's SFTTrainer has no teacher, so it cannot train {job.name} with training.objective="
                         f"{settings.objective}. Use --trainer fused, or training.objective=next-token.")
    check_pages(pages, settings)
    began = time.monotonic()
    steps = steps_of(len(pages), settings)
    mean = sum(map(len, pages)) * settings.pages_per_step // len(pages)
    recent: list[float] = []

    class Report(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            on_step(1, mean)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                recent.append(float(logs["loss"]))
                control.should_training_stop |= len(recent) >= 8 and sum(recent[-8:]) / 8 < settings.stop_loss

    with tempfile.TemporaryDirectory() as scratch:
        arguments = SFTConfig(
            output_dir=scratch, max_steps=steps, per_device_train_batch_size=settings.pages_per_step,
            learning_rate=settings.learning_rate, lr_scheduler_type="warmup_stable_decay",
            lr_scheduler_kwargs={"num_decay_steps": fall_of(steps, settings), "decay_type": "linear", "min_lr_ratio": 0.0},
            warmup_steps=warmup_of(steps, settings), weight_decay=0.0, max_grad_norm=settings.clip,
            bf16=True, use_cpu=not torch.cuda.is_available(), gradient_checkpointing=False, packing=False,
            max_length=settings.max_tokens, logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
            seed=job.random_seed, data_seed=job.random_seed, dataloader_pin_memory=False, optim="adamw_torch")
        trainer = SFTTrainer(
            model=base.model, args=arguments, processing_class=base.tokenizer, callbacks=[Report()],
            peft_config=LoraConfig(r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0, bias="none",
                                   task_type="CAUSAL_LM", **_places(base.model, settings.last_layers)),
            train_dataset=Dataset.from_dict({"input_ids": [list(page) for page in pages]}))
        if job.start is not None:
            set_peft_model_state_dict(trainer.model, dict(job.start.tensors))
        trainer.remove_callback(_printer())
        trainer.train()
    curve = tuple(
        LossPoint(step=int(entry["step"]), loss=float(entry["loss"]), learning_rate=float(entry["learning_rate"]))
        for entry in trainer.state.log_history if "loss" in entry and math.isfinite(float(entry["loss"])))
    trainer.model.eval()
    trainer.model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # peft's template card says nothing true about this expert
    base.take_off(trainer.model)
    done = int(trainer.state.global_step)
    return Trained(job, folder, done, done * mean, round(time.monotonic() - began, 2), curve, "trl")


def _places(model: Any, last: int | None) -> dict[str, Any]:
    """Which linear layers carry the adapter, as PEFT wants it told."""
    if last is None:
        return {"target_modules": "all-linear"}
    import torch

    names = {name.rpartition(".")[2] for name, part in model.get_decoder().layers.named_modules()
             if isinstance(part, torch.nn.Linear)}
    layers = int(model.config.num_hidden_layers)
    return {"target_modules": sorted(names), "layers_to_transform": list(range(layers - last, layers))}


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
