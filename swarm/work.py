"""Jobs in training on one device: `Work`, which the worker process and the Ray actor both drive.

    work = Work(desk, frozen, settings, plan, say)
    work.take(Take(name="s-d69b", made_from=…))
    while work.busy:
        work.step()

It reads pages and checkpoints from a `Desk`, delivers what it makes there, and says what happens in messages. A job that
cannot be trained is told as such, and the others go on. Whatever it does not understand goes through, and so does a lack
of memory: then the process dies, and the schedule finds out whose fault it was, or how much less to try.
"""

from __future__ import annotations

import dataclasses
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from rostok.config import Settings
from rostok.errors import DataError, RostokError, StorageError
from rostok.generator.records import Page
from rostok.machine import available_memory
from rostok.records import stable_seed
from rostok.swarm import admission, school
from rostok.swarm.base import FrozenBase
from rostok.swarm.checkpoint import Parcel, checkpoint, finished, finished_folder
from rostok.swarm.fused import FusedTrainer
from rostok.swarm.messages import Ended, Kept, Message, Note, Pace, Plan, Planned, Progress, Returned, Take, Taken
from rostok.swarm.schedule import steps_of
from rostok.swarm.stack import Stack
from rostok.swarm.teacher import contexts
from rostok.swarm.train import open_stack
from rostok.swarm.training import Ended as Finish
from rostok.swarm.training import Job, Start, State

_TELL_EVERY = 0.5       # seconds between two messages about progress
_FIRST_CHECKPOINT = 1.0  # seconds after the first job is taken; then twice as long every time, up to swarm.checkpoint_seconds
_CHECKPOINT_SHARE = 50   # at least so many times longer than the last checkpoint took, so that they cost 2%


class Desk(Protocol):
    """Where a worker finds what it needs, and leaves what it made."""

    def pages(self, name: str) -> Sequence[Page]:
        """The pages to train on. Raises a `RostokError` when they are not there, or not what the corpus was finished with."""

    def card(self, name: str) -> str:
        """The card of its seed, for the teacher; asked for when the objective has one. Raises like `pages`."""

    def start(self, name: str) -> Start | None:
        """What it begins from, None for nothing. Raises like `pages`."""

    def state(self, name: str, made_from: str, tell: Callable[[str], None]) -> State | None:
        """The newest whole checkpoint."""

    def deliver(self, name: str, parcel: Parcel) -> None:
        """Keep a checkpoint or a trained adapter. Raises `StorageError` when the disk refuses."""


@dataclasses.dataclass
class _Task:
    command: Take
    job: Job
    step: int
    steps: int
    total: int
    seconds: float = 0.0
    begun: bool = False

    @property
    def pace(self) -> Pace:
        return Pace(step=self.step, tokens=round(self.total * self.step / self.steps), seconds=round(self.seconds, 2))


class Work:
    """What is in training on one device.

    Args:
        desk: of the run.
        plan: adapters and rows at once, if the memory holds them.
        say: called with every message to the schedule.
        asked: called between steps of the reference; True when it should stop.
    """

    def __init__(self, desk: Desk, frozen: FrozenBase, settings: Settings, plan: Plan, say: Callable[[Message], None],
                 asked: Callable[[], bool] = lambda: False) -> None:
        self.desk, self.frozen, self.settings, self.plan, self.say, self._asked = desk, frozen, settings, plan, say, asked
        self.stack = open_stack(frozen, settings.training, lambda text: say(Note(text=text)))
        self._tasks: dict[str, _Task] = {}
        self._trainer = self._fresh() if self.stack is not None else None
        self._probed = False
        self._told = time.monotonic()
        self._steps = self._tokens = 0
        self._interval, self._last, self._since = _FIRST_CHECKPOINT, time.monotonic(), 0

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._tasks)

    def take(self, command: Take) -> None:
        """Begin a job, or go on with it from its checkpoint."""
        try:
            training = (school.settings_of(self.settings) if command.name == school.NAME else self.settings).training
            pages = self.desk.pages(command.name)
            taught = contexts(self.frozen, pages, {command.name: self.desk.card(command.name)}) if training.distils else ()
            job = Job(command.name, self.frozen.page_tokens(pages, training.max_tokens), training,
                      stable_seed(self.settings.random_seed, command.name), taught, self.desk.start(command.name))
            if self.stack is not None and not self._probed:
                self._probe(self.stack, job, command.measure_rate)
            self._enter(command, job)
        except RostokError as error:
            self.say(Ended(name=command.name, done=False, reason=str(error)))

    def step(self) -> None:
        """One optimizer step of every job; with the reference one job, whole."""
        if self._trainer is None:
            self._by_reference(next(iter(self._tasks.values())))
            return
        started = time.monotonic()
        step = self._trainer.step()
        seconds = time.monotonic() - started
        self._steps, self._tokens, self._since = self._steps + step.jobs, self._tokens + step.tokens, self._since + 1
        for task in self._tasks.values():
            task.step, task.seconds, task.begun = task.step + 1, task.seconds + seconds / max(1, step.jobs), True
        for ended in step.ended:
            self._end(ended)
        self._tell_progress(bool(step.ended))
        if self._due():
            self.keep()

    def keep(self) -> None:
        """Checkpoints of all jobs in training. A disk that refuses one is told, and training goes on."""
        started = time.monotonic()
        for name, task in self._tasks.items():
            if self._trainer is None or not task.begun:
                continue
            try:
                state = self._trainer.state(name)
                self.desk.deliver(name, checkpoint(task.command.made_from, state))
                self.say(Kept(name=name, step=int(state.values["step"])))
            except StorageError as error:
                self.say(Note(text=f"{name} goes on without a checkpoint: {error}"))
        self._last, self._since = time.monotonic(), 0
        cost = _CHECKPOINT_SHARE * (self._last - started)
        self._interval = min(2 * max(self._interval, cost), self.settings.swarm.checkpoint_seconds)

    def stop(self, reason: str = "stopped") -> None:
        """Write checkpoints and give everything back."""
        self._tell_progress(True)
        self.keep()
        for name in list(self._tasks):
            self._return(name, reason)

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _fresh(self) -> FusedTrainer:
        assert self.stack is not None
        return FusedTrainer(self.stack, together=self.plan.together, pass_tokens=self.plan.pass_tokens)

    def _enter(self, command: Take, job: Job) -> None:
        steps = steps_of(len(job.pages), job.settings)
        total = sum(map(len, job.pages)) * job.settings.pages_per_step * steps // max(1, len(job.pages))
        step, seconds = 0, 0.0
        if self._trainer is not None:
            state = self.desk.state(command.name, command.made_from, lambda text: self.say(Note(text=text)))
            try:
                if state is not None:
                    self._trainer.restore(job, state)
                    step, seconds = int(state.values["step"]), float(state.values["seconds"])
            except DataError as error:
                self.say(Note(text=f"{command.name} begins again from the start: {error}"))
                state = None
            if state is None:
                self._trainer.add(job)
        if not self._tasks:
            self._interval, self._last = _FIRST_CHECKPOINT, time.monotonic()
            self._told = self._last
        self._tasks[command.name] = _Task(command, job, step, steps, total, seconds)
        self.say(Taken(name=command.name, step=step, steps=steps, total=total))

    def _end(self, ended: Finish) -> None:
        task = self._tasks.pop(ended.job.name)
        if ended.how == "not finite":
            self.say(Ended(name=ended.job.name, done=False, reason=ended.reason))
            return
        parcel = finished(task.command.made_from, ended.adapter, str(self.frozen.folder), reason=ended.reason,
                          pages=len(ended.job.pages), steps=ended.steps, tokens=ended.tokens, seconds=ended.seconds,
                          curve=ended.curve)
        self._deliver_finished(ended.job.name, parcel, ended.reason, Pace(step=ended.steps, tokens=ended.tokens,
                                                                          seconds=round(ended.seconds, 2)))

    def _deliver_finished(self, name: str, parcel: Parcel, reason: str, pace: Pace) -> None:
        try:
            self.desk.deliver(name, parcel)
        except StorageError as error:
            self.say(Ended(name=name, done=False, reason=str(error)))
            return
        self.say(Ended(name=name, done=True, reason=reason, pace=pace))

    def _return(self, name: str, reason: str) -> None:
        del self._tasks[name]
        self.say(Returned(name=name, reason=reason))

    def _probe(self, stack: Stack, job: Job, measure_rate: int) -> None:
        """Settle how much fits, with one step of a copy of the first job; then, if asked, how fast that is."""
        from rostok.swarm.fused import check_pages

        check_pages(job.pages, job.settings)
        stack.check(job.settings.rank, job.settings.last_layers)
        rows = sum(sorted(map(len, job.pages))[-job.settings.pages_per_step:])
        available = available_memory()
        try:
            model = admission.calibrate(stack, job)
            self.plan = admission.admit(model, self.plan, rows=rows, page=max(map(len, job.pages)), available=available)
            note = f"{model.adapter >> 20} MiB an adapter, {model.row >> 10} KiB a row"
        except (MemoryError, RuntimeError) as error:
            if not admission.out_of_memory(error):
                raise
            self.plan = Plan(together=1, pass_tokens=max(admission.LEAST_PASS, rows // 2))
            note = "the probe step did not fit"
        gc.collect()
        self._trainer = self._fresh()
        self._probed = True
        rate = self._rate(job, min(measure_rate, self.plan.together)) if measure_rate else 0.0
        self.say(Planned(plan=self.plan, rate=rate, note=f"{self.plan.together} at once, passes of {self.plan.pass_tokens} "
                         f"tokens; {note}, {available >> 20} MiB at hand"))

    def _rate(self, job: Job, count: int) -> float:
        """Tokens a second with so many adapters, over the second and third step of copies of a job; 0 where they do not fit."""
        trainer = self._fresh()
        for number in range(count):
            trainer.add(dataclasses.replace(job, name=f"{job.name} {number}"))
        try:
            trainer.step()
            started, tokens = time.monotonic(), 0
            for _ in range(2):
                if trainer.names:
                    tokens += trainer.step().tokens
        except (MemoryError, RuntimeError) as error:
            if not admission.out_of_memory(error):
                raise
            return 0.0
        return tokens / max(1e-6, time.monotonic() - started)

    def _tell_progress(self, now: bool) -> None:
        moment = time.monotonic()
        if self._steps and (now or moment - self._told >= _TELL_EVERY):
            self.say(Progress(steps=self._steps, tokens=self._tokens, seconds=round(moment - self._told, 4),
                              jobs={name: task.pace for name, task in self._tasks.items()}))
            self._steps, self._tokens, self._told = 0, 0, moment

    def _due(self) -> bool:
        every = self.settings.swarm.checkpoint_steps
        return (0 < every <= self._since) or time.monotonic() - self._last >= self._interval

    def _by_reference(self, task: _Task) -> None:
        """The reference trains one job from start to end, without checkpoints; a stop gives it back."""
        from rostok.swarm.reference import train_reference

        def on_step(steps: int, tokens: int) -> None:
            task.step += steps
            self._steps, self._tokens = self._steps + steps, self._tokens + tokens
            self._tell_progress(False)
            if self._asked():
                raise _Interrupted

        name = task.command.name
        with tempfile.TemporaryDirectory() as scratch:
            try:
                done = train_reference(self.frozen, task.job, Path(scratch), on_step=on_step)
                parcel = finished_folder(Path(scratch), task.command.made_from, "trl", reason=f"all {done.steps} steps are done",
                                         pages=len(task.job.pages), steps=done.steps, tokens=done.tokens, seconds=done.seconds,
                                         curve=done.curve)
            except _Interrupted:
                return  # whoever asked calls `stop` next; the base wears a half-trained adapter, and the process ends
            except RostokError as error:
                del self._tasks[name]
                self.say(Ended(name=name, done=False, reason=str(error)))
                return
        del self._tasks[name]
        self._tell_progress(True)
        self._deliver_finished(name, parcel, f"all {done.steps} steps are done",
                               Pace(step=done.steps, tokens=done.tokens, seconds=round(done.seconds, 2)))


class _Interrupted(BaseException):
    """The reference was asked to stop."""
