"""How many adapters a device can train at once: a memory model of three numbers, calibrated with one step.

    model = calibrate(stack, job)
    plan = admit(model, Plan(together=8, pass_tokens=2048), rows=560, page=320, available=available_memory())

Memory beyond the loaded base is `adapter · adapters + row · rows in a pass`. When the model was wrong, and a step did run
out of memory, `smaller` says what to try: fewer adapters first, since that changes nothing in any of them, then fewer rows
in a pass, which accumulates the same gradient in more parts.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rostok.errors import ModelError
from rostok.records import Record
from rostok.swarm.messages import Plan

if TYPE_CHECKING:
    from rostok.swarm.stack import Stack
    from rostok.swarm.training import Job

SHARE = 0.85       # of the memory at hand that training may take; the rest is for what the model does not know
LEAST_PASS = 128   # rows; below it a pass costs more time than it saves memory
_SIGNS = ("out of memory", "allocate memory", "not enough memory", "bad_alloc",
          "could not create a primitive", "could not create a memory", "could not execute a primitive")  # oneDNN's words for it
_SAMPLES = 0.002   # seconds between two looks at the memory during the probe step


class MemoryModel(Record):
    """Bytes beyond the loaded base: of one adapter with its optimizer, and of one row (token) of a pass."""

    adapter: int
    row: int

    def bytes(self, plan: Plan, rows: int, page: int) -> int:
        """What a plan takes, with so many rows in an adapter's step and so many tokens in the longest page."""
        return self.adapter * plan.together + self.row * max(page, min(plan.pass_tokens, plan.together * rows))


def calibrate(stack: Stack, job: Job) -> MemoryModel:
    """One step of a copy of the job, watched; the job itself is not touched.

    Raises:
        MemoryError, RuntimeError: not even this step fits; see `out_of_memory`.
    """
    import dataclasses

    from rostok.swarm.fused import FusedTrainer

    count = job.settings.pages_per_step
    longest = sorted(range(len(job.pages)), key=lambda page: len(job.pages[page]))[-count:]  # the most there will be
    first = dataclasses.replace(job, pages=[job.pages[page] for page in longest],
                                contexts=[job.contexts[page] for page in longest] if job.contexts else ())
    trainer = FusedTrainer(stack, together=1, pass_tokens=sum(map(len, first.pages)))
    trainer.add(first)
    with _Peak() as peak:
        trainer.step()
    parameters = stack.adapter(job.settings.rank, job.settings.alpha, job.settings.last_layers)
    adapter = parameters.parameters.numel() * _BYTES_OF_A_PARAMETER + _kept_of_the_teacher(stack, job)
    rows = sum(map(len, first.pages))
    return MemoryModel(adapter=adapter, row=max(1, (peak.bytes - adapter) // rows))


def _kept_of_the_teacher(stack: Stack, job: Job) -> int:
    """Bytes of final hidden states that a job keeps for its later epochs, beyond those of the probe step."""
    if not job.settings.distils or job.settings.epochs <= 1:
        return 0
    return sum(map(len, job.pages)) * stack.width * int(stack.dtype.itemsize)


# Value, gradient, two moments in fp32, and a copy in the dtype of the products, whose B matrices lie on the diagonals of
# larger ones: at most three of 2 bytes for every one.
_BYTES_OF_A_PARAMETER = 4 * 4 + 4 * 2


def admit(model: MemoryModel, wanted: Plan, *, rows: int, page: int, available: int) -> Plan:
    """The largest plan up to `wanted` that the memory holds.

    Args:
        rows: tokens of one adapter's step.
        page: tokens of the longest page.
        available: bytes that can be taken, with the base loaded.

    Raises:
        ModelError: not even one adapter fits, row by row.
    """
    plan: Plan | None = wanted
    while plan is not None and model.bytes(plan, rows, page) > available * SHARE:
        plan = smaller(plan, rows)
    if plan is None:
        least = model.bytes(Plan(together=1, pass_tokens=LEAST_PASS), rows, page)
        raise ModelError(f"training one expert takes {least >> 20} MiB beside the base, but {available >> 20} MiB can be had. "
                         "Close other programs, or lower training.rank, training.max_tokens or training.pages_per_step.")
    return plan


def smaller(plan: Plan, rows: int) -> Plan | None:
    """The next plan to try after one that did not fit, None when there is none.

    Half as many adapters, down to one; then half as many rows in a pass, which raises the number of passes of a step by
    the same factor. Passes larger than all rows of a step are no plan of their own.
    """
    if plan.together > 1:
        return Plan(together=plan.together // 2, pass_tokens=plan.pass_tokens)
    half = min(plan.pass_tokens, rows) // 2
    return Plan(together=1, pass_tokens=half) if half >= LEAST_PASS else None


def out_of_memory(error: BaseException) -> bool:
    """Whether this is how Python, torch, or the device says that there is no memory left."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS))


class _Peak:
    """Highest memory of this process above where it was, while it is entered. On a GPU the device's own count (not run here)."""

    def __enter__(self) -> _Peak:
        import psutil
        import torch

        self.bytes = 0
        self._gpu = torch.cuda.is_available()
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()
            self._before = int(torch.cuda.memory_allocated())
            return self
        self._process = psutil.Process()
        self._before = int(self._process.memory_info().rss)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._gpu:
            import torch

            self.bytes = int(torch.cuda.max_memory_allocated()) - self._before
            return
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLES):
            self.bytes = max(self.bytes, int(self._process.memory_info().rss) - self._before)
