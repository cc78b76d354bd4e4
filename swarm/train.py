"""Train some adapters here and now: `train(frozen, jobs, settings, …)`, fused or by the reference, one folder each.

For measurements. The experts of a run are trained by workers, with checkpoints: `rostok.swarm.execute`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rostok.config import TrainingSettings
from rostok.errors import DataError, ModelError
from rostok.swarm.base import FrozenBase
from rostok.swarm.fused import FusedTrainer
from rostok.swarm.stack import Stack, unsupported
from rostok.swarm.training import Failed, Job, Trained

_TOLERANCE = 0.03  # of the losses of random tokens; on the embedded base it is 0.007


def train(frozen: FrozenBase, jobs: Iterable[Job], settings: TrainingSettings, folder_of: Callable[[Job], Path], *,
          tell: Callable[[str], None] = lambda text: None,
          on_step: Callable[[int, int], None] = lambda steps, tokens: None) -> Iterator[Trained | Failed]:
    """Train the jobs, `settings.together` of them at a time, and yield each as soon as it has ended.

    A job that cannot be trained is yielded as `Failed`; the others go on.

    Args:
        jobs: taken one by one as places become free, so that the texts of a hundred experts need not lie in memory.
        folder_of: where the adapter of a job is saved.
        tell: called with a sentence when another trainer is taken than was asked for.
        on_step: called with (optimizer steps of adapters, tokens).
    """
    stack = open_stack(frozen, settings, tell)
    if stack is None:
        from rostok.swarm.reference import train_reference

        for job in jobs:
            try:
                yield train_reference(frozen, job, folder_of(job), on_step=on_step)
            except (DataError, ModelError) as error:
                yield Failed(job, str(error))
        return
    trainer = FusedTrainer(stack, together=settings.together)
    waiting = iter(jobs)
    while True:
        while len(trainer.names) < settings.together and (following := next(waiting, None)) is not None:
            try:
                trainer.add(following)
            except (DataError, ModelError) as error:
                yield Failed(following, str(error))
        if not trainer.names:
            return
        step = trainer.step()
        on_step(step.jobs, step.tokens)
        for ended in step.ended:
            if ended.how == "not finite":
                yield Failed(ended.job, ended.reason)
                continue
            ended.adapter.save(folder_of(ended.job), str(frozen.folder))
            yield Trained(ended.job, folder_of(ended.job), ended.steps, ended.tokens, round(ended.seconds, 2), ended.curve,
                          "fused")


def open_stack(frozen: FrozenBase, settings: TrainingSettings, tell: Callable[[str], None]) -> Stack | None:
    """The base for the fused step, or None where the reference is asked for, or the step is not verified on this base.

    Raises:
        ModelError: it is not verified, and the objective needs a teacher, which the reference does not have.
    """
    if settings.trainer == "trl":
        return None
    reason = unsupported(frozen.model)
    if reason is None:
        stack = Stack(frozen.model, base=frozen.sha256)
        off = stack.disagreement()
        if off <= _TOLERANCE:
            return stack
        reason = f"its loss of random tokens is {off:.1%} away from the model's own"
    if settings.distils:
        raise ModelError(f"training.objective={settings.objective} needs the fused trainer, which is not verified on this base "
                         f"({reason}). Set training.objective=next-token, which trl's SFTTrainer trains.")
    tell(f"the fused trainer is not verified on this base ({reason}); trl's SFTTrainer trains one expert after the other")
    return None
