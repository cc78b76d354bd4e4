"""Train all queued jobs with supervised workers: `supervise(table, slots, raise_worker, …)`.

The schedule hands out jobs first come, first grown; starts a worker again when it has died; queues its jobs again, has one
that was there twice run alone, and puts one that was there three times into quarantine. It is the only writer of the job
table, and can be killed itself: what is finished is decided by the files in experts/, and the rest is queued again.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType

from rostok.errors import ModelError
from rostok.swarm.admission import smaller
from rostok.swarm.deadline import Deadline, TimeIsUp, fitting, seconds_per_expert
from rostok.swarm.jobs import JobRow, JobTable
from rostok.swarm.local import Death, Hand
from rostok.swarm.messages import (
    Ended,
    Kept,
    Message,
    Note,
    Plan,
    Planned,
    Progress,
    Ready,
    Refused,
    Returned,
    Stop,
    Stopped,
    Take,
    Taken,
)

_LOOK = 0.05        # seconds between two looks at the workers
_SILENCE = 900.0    # seconds without a word, after which a worker is taken for dead; a step takes one or two
_STOP_WAIT = 120.0  # seconds for checkpoints when stopping; the reference has to end its step first
_START_DEATHS = 5   # of one worker before it had begun a job, one after the other, by its own fault
_OUTSIDE = 2        # kills from outside without progress, after which half as many adapters are tried

RaiseWorker = Callable[[str, Plan], Hand]


@dataclass(frozen=True)
class Outcome:
    """How the jobs of a table stand when no worker is left.

    Attributes:
        left: names that are still queued, and why nobody went on with them, as a sentence.
        stopped: somebody asked for a stop, so that nothing else should be begun.
    """

    rows: tuple[JobRow, ...]
    left: tuple[str, ...]
    why: str
    stopped: bool


@dataclass
class _Slot:
    """A place for a worker."""

    name: str
    plan: Plan
    hand: Hand | None = None
    ready: bool = False
    planned: bool = False
    one_by_one: bool = False
    alone: bool = False
    running: set[str] = field(default_factory=set)
    rate: float = 0.0
    heard: float = 0.0
    start_deaths: int = 0
    outside: int = 0
    stopping: float = 0.0
    stopped: bool = False
    closed: bool = False


def supervise(table: JobTable, slots: Sequence[str], raise_worker: RaiseWorker, *, plan: Plan, tell: Callable[[str], None],
              on_step: Callable[[int, int], None] = lambda steps, tokens: None, until: Deadline | None = None,
              ahead: int = 0, since: float | None = None) -> Outcome:
    """Work until every job has ended, somebody asks for a stop, or the time is up.

    Args:
        slots: one device each.
        raise_worker: starts a worker on a device, for at most so much at once.
        plan: adapters and rows at once, before a worker's probe step.
        tell: called with a sentence for people.
        on_step: called with (optimizer steps of adapters, tokens) as they are done.
        until: when training has ended, cleanly; only what fits until then is begun.
        ahead: experts that are trained already, and take their seconds afterwards too.
        since: wishes to stop that are older, in `time.time()`, count no more; now, when left out.

    Raises:
        ModelError: no worker can work, and why.
        KeyboardInterrupt: Ctrl-C; checkpoints have been written.
    """
    since = time.time() if since is None else since
    return _Schedule(table, slots, raise_worker, plan, tell, on_step, until, ahead, since).run()


class _Schedule:
    def __init__(self, table: JobTable, slots: Sequence[str], raise_worker: RaiseWorker, plan: Plan, tell: Callable[[str], None],
                 on_step: Callable[[int, int], None], until: Deadline | None, ahead: int, since: float) -> None:
        self._table, self._raise, self._tell, self._on_step, self._until = table, raise_worker, tell, on_step, until
        self._slots = [_Slot(name, plan) for name in slots]
        self._since, self._trained = since, ahead
        self._looked = 0.0
        self._why = ""
        self._stopped = self._announced = self._told_to_end = False

    def run(self) -> Outcome:
        self._table.forget_workers()
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, self._terminated) if main else None
        try:
            while not self._finished():
                try:
                    self._look()
                    time.sleep(_LOOK)
                except (KeyboardInterrupt, TimeIsUp):
                    self._halt("it was broken off")
                    while any(slot.hand is not None for slot in self._slots):
                        self._look()
                        time.sleep(_LOOK)
                    raise
        finally:
            if main:
                signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
            for slot in self._slots:
                if slot.hand is not None:
                    slot.hand.end()
            self._table.forget_workers()
        if self._stopped:
            self._table.forget_wishes()
        rows = self._table.rows()
        left = tuple(row.name for row in rows if row.state == "queued")
        return Outcome(tuple(rows), left, self._why if left else "", self._stopped)

    # ── one look at everything ──────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> None:
        now = time.monotonic()
        self._check_wishes(now)
        for slot in self._slots:
            if slot.hand is None:
                if not slot.closed and not self._why:
                    self._start(slot)
                continue
            messages = slot.hand.poll()
            for message in messages:
                slot.heard = now
                self._hear(slot, message)
            death = None if messages else slot.hand.death()
            expected = bool(slot.running) or not slot.ready  # one without work has nothing to say
            if death is None and expected and now - slot.heard > _SILENCE and not slot.hand.patient():
                slot.hand.end()
                death = Death(f"the worker on {slot.hand.name} said nothing for {_SILENCE / 60:.0f} minutes")
            if death is None and slot.stopping and now - slot.stopping > _STOP_WAIT:
                slot.hand.end()
                death = Death(f"the worker on {slot.hand.name} did not stop within {_STOP_WAIT / 60:.0f} minutes", outside=True)
            if death is not None:
                self._bury(slot, death)
            elif not self._why:
                self._hand_out(slot)

    def _finished(self) -> bool:
        """Nothing is running, and nothing more will be."""
        if any(slot.running for slot in self._slots):
            return False
        open_ones = any(not slot.closed for slot in self._slots)
        queued = self._table.queued()
        if self._why or not queued or not open_ones:
            self._halt(self._why or ("" if not queued else "no worker is left"))
            return all(slot.hand is None for slot in self._slots)
        return False

    def _check_wishes(self, now: float) -> None:
        if now - self._looked < 0.25:
            return
        self._looked = now
        if self._until is not None and time.time() >= self._until.training(self._trained):
            self._halt("the time is up")
        elif not self._stopped and (self._told_to_end or self._table.stop_wanted(self._since)):
            self._stopped = True
            self._halt("a stop was asked for")

    def _halt(self, why: str) -> None:
        """Ask every worker to write checkpoints and end."""
        self._why = self._why or why
        for slot in self._slots:
            if slot.hand is None or slot.stopping:
                continue
            slot.stopping = time.monotonic()
            if slot.ready:
                slot.hand.send(Stop())
            else:  # it has nothing to lose
                slot.hand.end()

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self._told_to_end = True

    # ── workers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, slot: _Slot) -> None:
        slot.hand = self._raise(slot.name, slot.plan)
        slot.ready = slot.planned = slot.one_by_one = slot.alone = slot.stopped = False
        slot.stopping, slot.rate, slot.heard = 0.0, 0.0, time.monotonic()
        self._table.note_worker(slot.hand.name, slot.name)

    def _hear(self, slot: _Slot, message: Message) -> None:
        assert slot.hand is not None
        worker = slot.hand.name
        match message:
            case Ready():
                slot.ready, slot.one_by_one = True, message.one_by_one
                if slot.one_by_one:
                    slot.planned, slot.plan = True, Plan(together=1, pass_tokens=slot.plan.pass_tokens)
                self._table.note_worker(worker, slot.name, together=slot.plan.together, pass_tokens=slot.plan.pass_tokens)
            case Planned():
                slot.plan, slot.planned = message.plan, True
                slot.rate = message.rate or slot.rate
                self._table.note_worker(worker, slot.name, together=slot.plan.together, pass_tokens=slot.plan.pass_tokens,
                                        rate=slot.rate)
                self._tell(f"{slot.name}: {message.note}")
                self._announce()
            case Taken():
                slot.start_deaths = 0
                self._table.taken(message.name, worker, message.step, message.steps, message.total)
            case Progress():
                rate = message.tokens / max(1e-6, message.seconds)
                slot.rate = rate if not slot.rate else 0.8 * slot.rate + 0.2 * rate
                for name, pace in message.jobs.items():
                    self._table.progress(name, worker, pace.step, pace.tokens, pace.seconds)
                self._table.note_worker(worker, slot.name, rate=round(slot.rate, 1))
                self._on_step(message.steps, message.tokens)
            case Kept():
                slot.outside = 0
                self._table.keep(message.name, worker, message.step)
            case Ended():
                slot.outside = 0
                self._release(slot, message.name)
                if message.pace is not None:
                    self._table.progress(message.name, worker, message.pace.step, message.pace.tokens, message.pace.seconds)
                self._table.finish(message.name, worker, "done" if message.done else "failed", message.reason)
                self._trained += message.done
                if not message.done:
                    self._tell(f"{self._title(message.name)} is left out: {message.reason}")
            case Returned():
                self._release(slot, message.name)
                self._table.give_back(message.name, worker, message.reason)
            case Note():
                self._tell(message.text)
            case Refused():
                raise ModelError(message.reason)
            case Stopped():
                slot.stopped = True

    def _bury(self, slot: _Slot, death: Death) -> None:
        """A worker is gone: expected or not."""
        assert slot.hand is not None
        worker, hand = slot.hand.name, slot.hand
        hand.end()
        slot.hand = None
        self._table.forget_workers(worker)
        lost, slot.running = sorted(slot.running), set()
        if slot.stopped or (slot.stopping and not slot.ready):
            slot.closed = True
            return
        if slot.stopping:
            slot.closed = True
        if not slot.ready or not lost:
            self._tell(f"{death.reason} before it had begun")
            slot.start_deaths += 0 if death.outside else 1
            if slot.start_deaths >= _START_DEATHS:
                slot.closed = True
                if all(other.closed for other in self._slots):
                    raise ModelError(f"no worker can begin: {death.reason}. Its log is in the run's folder workers; "
                                     "rostok doctor says what this machine lacks.")
            return
        blamed = not death.memory and not death.outside
        if death.memory or (death.outside and self._too_often(slot)):
            blamed = not self._shrink(slot) and death.memory
        ends = []
        for name in lost:
            if blamed:
                ends.append((name, self._table.blame(name, worker, death.reason)))
            else:
                self._table.give_back(name, worker, death.reason)
        self._tell(f"{death.reason}; {len(lost)} expert{'s go' if len(lost) != 1 else ' goes'} on from the last checkpoint")
        for name, state in ends:
            if state == "quarantined":
                self._tell(f"{self._title(name)} is put into quarantine: its worker died three times at the same place; "
                           "the others go on")

    def _too_often(self, slot: _Slot) -> bool:
        """Some watchers of memory kill from outside: without progress in between, less is tried."""
        slot.outside += 1
        return slot.outside % _OUTSIDE == 0

    def _shrink(self, slot: _Slot) -> bool:
        """Try less at once. False when nothing is left to try."""
        plan = smaller(slot.plan, slot.plan.pass_tokens)
        if plan is None:
            return False
        slot.plan = plan
        self._tell(f"{slot.name}: {plan.together} at once from now on, in passes of {plan.pass_tokens} tokens")
        return True

    # ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hand_out(self, slot: _Slot) -> None:
        """Give a worker the next of the queue, as many as fit on it and into the time."""
        if slot.hand is None or not slot.ready or slot.alone:
            return
        limit = slot.plan.together if slot.planned else 1
        if len(slot.running) >= limit or not self._table.queued():
            return
        queued = [row for row in self._table.rows() if row.state == "queued"]
        in_company = [row for row in queued if not row.alone]
        while in_company and len(slot.running) < limit and self._fits(slot, in_company[0]):
            self._give(slot, in_company.pop(0), len(queued))
        if queued and not slot.running and not in_company and self._fits(slot, queued[0]):
            slot.alone = True
            self._tell(f"{queued[0].title} runs alone now")
            self._give(slot, queued[0], 1)
        if queued and not any(other.running for other in self._slots) and slot.rate and self._until is not None and not (
                self._fits(slot, queued[0])):
            self._halt("no further expert fits into the time")

    def _give(self, slot: _Slot, row: JobRow, queued: int) -> None:
        assert slot.hand is not None
        self._table.claim(row.name, slot.hand.name)
        slot.running.add(row.name)
        measure = min(queued, slot.plan.together) if self._until is not None and not slot.planned else 0
        slot.hand.send(Take(name=row.name, made_from=row.made_from, measure_rate=measure))

    def _release(self, slot: _Slot, name: str) -> None:
        slot.running.discard(name)
        slot.alone = slot.alone and bool(slot.running)

    def _fits(self, slot: _Slot, row: JobRow) -> bool:
        """Whether all that the worker has, and this one, is trained by the time. Unknown counts as yes."""
        if self._until is None or not slot.rate:
            return True
        open_tokens = sum(max(0, one.total - one.tokens) for one in self._table.rows() if one.name in slot.running)
        seconds = seconds_per_expert(open_tokens + max(0, row.total - row.tokens), slot.rate)
        trained = self._trained + sum(len(other.running) for other in self._slots) + 1
        return time.time() + seconds <= self._until.training(trained)

    def _announce(self) -> None:
        """Say what fits into the time, as soon as the devices' rates are known."""
        working = [slot for slot in self._slots if slot.running]
        rates = [slot.rate for slot in working if slot.rate]
        if self._until is None or self._announced or not rates or len(rates) < len(working):
            return
        self._announced = True
        rows = [row for row in self._table.rows() if row.state in ("queued", "running")]
        fit = fitting(rows, rates, self._until.training(self._trained) - time.time(), self._until.each)
        clock = time.strftime("%H:%M", time.localtime(self._until.end))
        rest = len(rows) - len(fit.names)
        each = sum(seconds_per_expert(row.total, sum(rates)) for row in rows) / len(rows)
        what = (f"{len(fit.names)} of {len(rows)} experts can" if len(rows) > 1
                else f"{rows[0].title} {'can' if fit.names else 'cannot'}")  # the school, most often
        self._tell(f"{what} be trained until {clock}, at {sum(rates):,.0f} tokens a second, "
                   f"{each:,.0f} s each" + (f"; {rest} stay{'s' if rest == 1 else ''} in the queue" if rest else ""))

    def _title(self, name: str) -> str:
        return self._table.row(name).title


def explain(outcome: Outcome) -> list[str]:
    """A sentence for every job that did not get to its end."""
    return [f"{row.name} ({row.title}) is {row.state}: {row.reason}" for row in outcome.rows
            if row.state in ("failed", "quarantined")]
