"""Jobs trained to their ends, and whether two came out the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rostok.swarm.fused import FusedTrainer
from rostok.swarm.stack import Stack
from rostok.swarm.training import Ended, Job


def grow(stack: Stack, jobs: Sequence[Job], **options: Any) -> dict[str, Ended]:
    """All jobs to their ends."""
    trainer = FusedTrainer(stack, **options)
    for job in jobs:
        trainer.add(job)
    found: dict[str, Ended] = {}
    while trainer.names:
        found.update({ended.job.name: ended for ended in trainer.step().ended})
    return found
