"""How long an expert is trained, at which rate, which pages each step reads, and how many rows are computed at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rostok.config import TrainingSettings

CHARACTERS_OF_A_TOKEN = 3.9  # 550 characters of a page are about 140 tokens; a worker counts them before it trains
_Item = TypeVar("_Item")


def steps_of(pages: int, settings: TrainingSettings) -> int:
    """Optimizer steps for so many training pages."""
    return max(2, round(pages * settings.epochs / settings.pages_per_step))


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """Rate of step number `step`, counted from 0, of `steps`: warm-up from 0, flat, linear fall over the last part.

    A short cosine starves the learning (docs/experiments.md), so the rate stays high for long. It is what transformers'
    `get_wsd_schedule` gives to the reference trainer.
    """
    warm, fall = warmup_of(steps, settings), fall_of(steps, settings)
    if step < warm:
        return settings.learning_rate * step / warm
    return settings.learning_rate * min(1.0, (steps - step) / fall)


def warmup_of(steps: int, settings: TrainingSettings) -> int:
    """Steps of warm-up."""
    return min(settings.warmup_steps, steps // 3)


def fall_of(steps: int, settings: TrainingSettings) -> int:
    """Last steps, in which the rate falls."""
    return max(1, round(steps * settings.decay_share))


def page_order(pages: int, epoch: int, random_seed: int) -> list[int]:
    """The order in which epoch number `epoch` reads the pages; accelerate's seeded sampler gives the reference the same."""
    import torch

    order: list[int] = torch.randperm(pages, generator=torch.Generator().manual_seed(random_seed + epoch)).tolist()
    return order


def passes(items: Sequence[_Item], tokens: Callable[[_Item], int], limit: int) -> Iterator[list[_Item]]:
    """Items in order, in groups of about equal size and at most `limit` tokens; one is never cut, and may be above it alone."""
    total = sum(map(tokens, items))
    fair = total / max(1, math.ceil(total / limit))
    group: list[_Item] = []
    rows = 0
    for item in items:
        size = tokens(item)
        if group and (rows + size > limit or rows + size / 2 > fair):
            yield group
            group, rows = [], 0
        group.append(item)
        rows += size
    if group:
        yield group
