"""Train many adapters in the same optimizer step over one frozen base: `FusedTrainer`.

    trainer = FusedTrainer(Stack(model), together=8)
    for job in jobs:
        trainer.add(job)
    while trainer.names:
        for ended in trainer.step().ended:
            ended.adapter.save(folder / ended.job.name, base)

Up to `together` adapters take part in a step, each with its own pages, loss, clip, rate and AdamW; one that has ended leaves,
and the next of the queue takes its place. Each is trained as if it were alone: nothing that belongs to one of them is
computed from another's rows. In bf16 the result is the same bit for bit, since a row of a bf16 product does not depend on
how many rows there are (measured on oneDNN; tests compare); in fp32 to rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rostok.config import TrainingSettings
from rostok.errors import DataError
from rostok.records import digest
from rostok.swarm.heap import Heap
from rostok.swarm.lora import Adapter
from rostok.swarm.loss import distillation_loss, next_token_loss
from rostok.swarm.records import LossPoint
from rostok.swarm.schedule import learning_rate, page_order, passes, steps_of
from rostok.swarm.stack import Block, Rows, Stack
from rostok.swarm.teacher import Lessons, teach
from rostok.swarm.training import Ended, How, Job, State, Step

if TYPE_CHECKING:
    from torch import Tensor

PASS_TOKENS = 1280  # rows computed at once: 0.6 GB kept for the backward pass of 135M parameters; 2,560 are 3% faster
_STOP_WINDOW = 8    # steps whose mean loss decides on an early stop


class FusedTrainer:
    """Trains queued jobs, `together` of them at a time.

    Args:
        stack: the frozen base.
        together: adapters in one step.
        pass_tokens: rows computed at once. A step with more of them is cut into passes: less memory, the same gradients.
    """

    def __init__(self, stack: Stack, *, together: int = 8, pass_tokens: int = PASS_TOKENS) -> None:
        self.stack, self.together, self.pass_tokens = stack, together, pass_tokens
        self._queue: dict[str, tuple[Job, State | None]] = {}
        self._slots: dict[str, _Slot] = {}
        self._heap = Heap()
        self._spare: list[Tensor] = []  # gradients, 20 MB each at rank 16; only adapters of the current pass need one

    @property
    def names(self) -> list[str]:
        """Jobs that have not ended, those in training first."""
        return [*self._slots, *self._queue]

    def add(self, job: Job) -> None:
        """Queue a job; it joins as soon as a place is free.

        Raises:
            DataError: the name is taken, the corpus is too small for a step, a page has fewer than two tokens, or the
                objective has a teacher and there is not a context for every page.
            ModelError: the adapter does not fit the base, or the one that it begins from is of another shape.
        """
        if job.name in self._slots or job.name in self._queue:
            raise DataError(f"there is a job named {job.name} already. Give every job a name of its own.")
        check_pages(job.pages, job.settings)
        if job.settings.distils and len(job.contexts) != len(job.pages):
            raise DataError(f"{job.name} has {len(job.pages)} pages and {len(job.contexts)} contexts for the teacher; "
                            f"objective {job.settings.objective} needs one for each. Give Job.contexts, or use next-token.")
        self.stack.check(job.settings.rank, job.settings.last_layers)
        if job.start is not None:
            self.stack.adapter(job.settings.rank, job.settings.alpha, job.settings.last_layers).fit(job.start.tensors)
        self._queue[job.name] = (job, None)

    def restore(self, job: Job, state: State) -> None:
        """Queue a job that goes on from `state`, bit for bit as if it had never been away.

        Raises:
            DataError: like `add`, and when the state is that of another corpus, other settings or another base.
        """
        made_from = state.values.get("made_from")
        if made_from != self._made_from(job):
            raise DataError(f"the checkpoint of {job.name} was made from another corpus, base or settings than asked for now. "
                            "Delete it to train the expert from the start.")
        self.add(job)
        self._queue[job.name] = (job, state)

    def step(self) -> Step:
        """One optimizer step of every adapter in training."""
        while self._queue and len(self._slots) < self.together:
            name = next(iter(self._queue))
            self._slots[name] = _Slot(self.stack, *self._queue.pop(name))
        started = time.monotonic()
        for slot in self._slots.values():
            slot.turn()
        teach([untaught for slot in self._slots.values() for untaught in slot.untaught()], self.pass_tokens)
        parts = [part for slot in self._slots.values() for part in slot.next_parts(self.pass_tokens)]
        for rows in passes(parts, lambda part: part.tokens, self.pass_tokens):
            self._run(rows)
        self._heap.tend()
        tokens = sum(part.tokens for part in parts)
        seconds = time.monotonic() - started
        for slot in self._slots.values():
            slot.seconds += seconds * slot.read / max(1, tokens)
        ended = tuple(slot.end(*slot.outcome) for slot in self._slots.values() if slot.outcome is not None)
        jobs = len(self._slots)
        for one in ended:
            del self._slots[one.job.name]
        return Step(jobs, tokens, ended)

    def stop(self, name: str) -> Ended | None:
        """Take a job out before its end. Returns it as far as it is trained, None when it had not begun.

        Raises:
            DataError: there is no such job.
        """
        if self._queue.pop(name, None) is not None:
            return None
        slot = self._slot(name)
        del self._slots[name]
        return slot.end("stopped", f"it was stopped after {slot.step} of {slot.steps} steps")

    def state(self, name: str) -> State:
        """Everything of a job in training, for `restore`; copies, so that further steps do not change it.

        Raises:
            DataError: there is no such job in training.
        """
        return self._slot(name).state(self._made_from(self._slot(name).job))

    def _slot(self, name: str) -> _Slot:
        if name not in self._slots:
            raise DataError(f"there is no job named {name} in training. In training: {', '.join(self._slots) or 'none'}.")
        return self._slots[name]

    def _made_from(self, job: Job) -> str:
        return digest(job.identity(), self.stack.fingerprint)

    def _run(self, parts: Sequence[_Part]) -> None:
        """Forward, loss and backward of some rows; adapters all of whose rows of this step are through are updated."""
        import torch

        tokens: list[int] = []
        pages: list[tuple[int, int]] = []
        blocks = []
        for part in parts:
            top = len(tokens)
            if part.first:
                part.slot.adapter.begin(self._gradient(part.slot.adapter))
            for page in part.pages:
                pages.append((len(tokens), len(tokens) + len(page)))
                tokens += page
            blocks.append(Block(part.slot.adapter, top, len(tokens)))
        rows = Rows(torch.tensor(tokens), pages, blocks)
        hidden, tape = self.stack.forward(rows)
        last = torch.tensor([end - 1 for _, end in pages])
        wanted = torch.ones(len(tokens), dtype=torch.bool)
        wanted[last] = False  # the last token of a page has none to predict
        gradient = torch.zeros_like(hidden)
        for part, block in zip(parts, blocks, strict=True):
            counts = wanted[block.rows]
            places = torch.arange(block.start, block.end)[counts]
            with torch.no_grad():
                loss, d = part.slot.judge(hidden[places], rows.tokens[places + 1],
                                          torch.cat(part.taught)[counts] if part.taught else None)
                # of the mean over all tokens of the adapter's step, of which these may be a part
                gradient[places] = d.mul_(part.share)
            part.slot.loss += float(loss) * part.share
        self.stack.backward(tape, gradient)
        for part in parts:
            if part.last:
                part.slot.update()
                self._spare.append(part.slot.adapter.release())

    def _gradient(self, adapter: Adapter) -> Tensor:
        """A vector for an adapter's gradient, one that lies about or a fresh one."""
        import torch

        size = len(adapter.parameters)
        found = next((number for number, spare in enumerate(self._spare) if len(spare) == size), None)
        if found is not None:
            return self._spare.pop(found)
        self._spare.clear()  # of ranks that are no longer in training
        return torch.empty(size)


@dataclass(frozen=True)
class _Part:
    """Pages of one adapter's step that are computed in one pass; `share` of its predicted tokens are theirs.

    `taught` is what the teacher says about each, if there is one.
    """

    slot: _Slot
    pages: list[list[int]]
    taught: list[Tensor]
    share: float
    first: bool
    last: bool

    @property
    def tokens(self) -> int:
        return sum(map(len, self.pages))


@dataclass
class _Slot:
    """A job in training."""

    stack: Stack
    job: Job
    restored: State | None = None
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    read: int = 0
    curve: list[LossPoint] = field(default_factory=list)
    reading: list[int] = field(default_factory=list)
    outcome: tuple[How, str] | None = None

    def __post_init__(self) -> None:
        import torch

        settings = self.job.settings
        self.adapter = self.stack.adapter(settings.rank, settings.alpha, settings.last_layers)
        self.steps = steps_of(len(self.job.pages), settings)
        self.lessons = Lessons(self.stack, self.job)
        self._orders: dict[int, list[int]] = {}
        # One vector, one optimizer, no decay: nothing of another adapter can reach it.
        self.optimizer = torch.optim.AdamW([self.adapter.parameters], weight_decay=0.0, fused=True)
        if self.restored is None and self.job.start is not None:
            self.adapter.load(self.job.start.tensors)
        elif self.restored is None:
            self.adapter.draw(torch.Generator().manual_seed(self.job.random_seed))
        else:
            self._load(self.restored)
            self.restored = None

    def turn(self) -> None:
        """Go to the pages of the next step: those that follow in an endless row of shuffled epochs, so that it is full."""
        size = self.job.settings.pages_per_step
        self.reading = [self._page(at) for at in range(self.step * size, (self.step + 1) * size)]

    def untaught(self) -> list[tuple[Lessons, int]]:
        """Pages of this step that the teacher has not read."""
        wanted = dict.fromkeys(self.reading) if self.job.settings.distils else {}
        return [(self.lessons, page) for page in wanted if page not in self.lessons]

    def next_parts(self, pass_tokens: int) -> Iterator[_Part]:
        """The pages of the step, cut where they are too many for a pass, the same whoever else takes part."""
        pages = [list(self.job.pages[index]) for index in self.reading]
        self.loss, self.read = 0.0, sum(map(len, pages))
        predicted = self.read - len(pages)
        groups = list(passes(range(len(pages)), lambda place: len(pages[place]), pass_tokens))
        for number, group in enumerate(groups, start=1):
            mine = [pages[place] for place in group]
            taught = [self.lessons.of(self.reading[place]) for place in group] if self.job.settings.distils else []
            yield _Part(self, mine, taught, (sum(map(len, mine)) - len(mine)) / predicted, first=number == 1,
                        last=number == len(groups))

    def judge(self, hidden: Tensor, targets: Tensor, taught: Tensor | None) -> tuple[Tensor, Tensor]:
        """Loss of these rows by the job's objective, and its gradient."""
        if taught is None:
            return next_token_loss(hidden, targets, self.stack.head)
        return distillation_loss(hidden, taught, targets, self.stack.head, self.job.settings.teacher_share)

    def _page(self, at: int) -> int:
        """Which page is read as number `at` of all readings."""
        count = len(self.job.pages)
        return self._order(at // count)[at % count]

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self._orders:
            self._orders = {**{key: order for key, order in self._orders.items() if key >= epoch - 1},
                            epoch: page_order(len(self.job.pages), epoch, self.job.random_seed)}
        return self._orders[epoch]

    def _forget(self) -> None:
        """Let go of what the teacher said about pages that are not read again."""
        count, size = len(self.job.pages), self.job.settings.pages_per_step
        for at, page in enumerate(self.reading, start=(self.step - 1) * size):
            following = at // count + 1
            if following * count + self._order(following).index(page) >= self.steps * size:
                self.lessons.forget(page)

    def update(self) -> None:
        """Clip, step, and decide whether the job goes on. What is not finite never reaches the adapter."""
        import torch

        settings, parameters = self.job.settings, self.adapter.parameters
        assert parameters.grad is not None
        norm = float(torch.linalg.vector_norm(parameters.grad))
        for what, value in (("loss", self.loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                self.outcome = ("not finite", f"its {what} became {value} at step {self.step + 1} of {self.steps}; lower "
                                              "training.learning_rate or training.clip")
                return
        if norm > settings.clip:
            parameters.grad.mul_(settings.clip / (norm + 1e-6))  # as torch clips, without a pass over what is small enough
        rate = learning_rate(self.step, self.steps, settings)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.adapter.refresh()
        self.step += 1
        self.tokens += self.read
        if self.job.settings.distils:
            self._forget()
        self.curve.append(LossPoint(step=self.step, loss=self.loss, learning_rate=rate))
        recent = [point.loss for point in self.curve[-_STOP_WINDOW:]]
        if self.step >= self.steps:
            self.outcome = ("done", f"all {self.steps} steps are done")
        elif len(recent) == _STOP_WINDOW and sum(recent) / _STOP_WINDOW < settings.stop_loss:
            self.outcome = ("early stop", f"its loss fell below {settings.stop_loss:g} at step {self.step} of {self.steps}")

    def end(self, how: How, reason: str) -> Ended:
        return Ended(self.job, how, reason, self.adapter, self.step, self.tokens, self.seconds, tuple(self.curve))

    def state(self, made_from: str) -> State:
        moments = self.optimizer.state.get(self.adapter.parameters, {})
        tensors = {"parameters": self.adapter.parameters.detach().clone(),
                   **{name: value.detach().clone() for name, value in moments.items()}}
        values = {"made_from": made_from, "step": self.step, "tokens": self.tokens, "seconds": self.seconds,
                  "curve": [point.model_dump() for point in self.curve]}
        return State(tensors, values)

    def _load(self, state: State) -> None:
        import torch

        with torch.no_grad():
            self.adapter.parameters.copy_(state.tensors["parameters"])
        self.adapter.refresh()
        moments = {name: value.clone() for name, value in state.tensors.items() if name != "parameters"}
        if moments:
            self.optimizer.state[self.adapter.parameters] = moments
        self.step, self.tokens, self.seconds = (state.values[key] for key in ("step", "tokens", "seconds"))
        self.curve = [LossPoint.model_validate(point) for point in state.values["curve"]]


def check_pages(pages: Sequence[Sequence[int]], settings: TrainingSettings) -> None:
    """Raises `DataError` when these pages cannot be trained on."""
    if len(pages) < settings.pages_per_step:
        raise DataError(f"a corpus of {len(pages)} training pages is too small for steps of {settings.pages_per_step}. "
                        "Raise corpus.pages or lower training.pages_per_step.")
    short = next((number for number, page in enumerate(pages, start=1) if len(page) < 2), None)
    if short is not None:
        raise DataError(f"training page {short} has fewer than two tokens, so that nothing in it can be predicted. "
                        "Remove it from the corpus.")
