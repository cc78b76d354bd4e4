"""The table of a run's training jobs, jobs.sqlite: what waits, what is at work, what ended and how.

    with JobTable(run.jobs) as table:
        table.enter(orders)
        table.claim("s-d69b", "cpu 4711")
        table.finish("s-d69b", "cpu 4711", "done", "all 230 steps are done")

Whoever schedules is the only writer; anybody may read, and may ask for a stop. A job at work belongs to one worker by
name, and whatever is reported by another is refused: a worker that was thought dead cannot end a job a second time.
The table is an index. What is finished is decided by the files in experts/ (`rostok.swarm.checkpoint`).
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from rostok.errors import DataError, StorageError
from rostok.records import Record

JobState = Literal["queued", "running", "done", "failed", "quarantined"]
STATES: tuple[JobState, ...] = ("queued", "running", "done", "failed", "quarantined")
ALONE_AFTER = 2       # deaths of its worker, without progress between them, after which a job runs by itself
QUARANTINE_AFTER = 3  # and after which it is not tried again

_FORMAT = 1
_SCHEMA = """
CREATE TABLE jobs (
  name TEXT PRIMARY KEY, title TEXT NOT NULL, made_from TEXT NOT NULL, place INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'quarantined')),
  reason TEXT NOT NULL DEFAULT '', worker TEXT NOT NULL DEFAULT '',
  attempts INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, failed_at INTEGER NOT NULL DEFAULT -1,
  step INTEGER NOT NULL DEFAULT 0, steps INTEGER NOT NULL, kept INTEGER NOT NULL DEFAULT 0,
  tokens INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL, seconds REAL NOT NULL DEFAULT 0,
  queued TEXT NOT NULL, started TEXT NOT NULL DEFAULT '', ended TEXT NOT NULL DEFAULT '');
CREATE TABLE transitions (
  number INTEGER PRIMARY KEY, time TEXT NOT NULL, name TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
  worker TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE workers (
  name TEXT PRIMARY KEY, device TEXT NOT NULL, since TEXT NOT NULL, rate REAL NOT NULL DEFAULT 0,
  together INTEGER NOT NULL DEFAULT 0, pass_tokens INTEGER NOT NULL DEFAULT 0);
CREATE TABLE wishes (what TEXT PRIMARY KEY, time REAL NOT NULL);
"""


class Order(Record):
    """What is asked for: one expert.

    Attributes:
        name: the seed's id.
        made_from: hash of everything that the expert depends on.
        steps, total: optimizer steps and, about, tokens of its whole training.
    """

    name: str
    title: str
    made_from: str
    steps: int
    total: int


class JobRow(Record):
    """One line of the table.

    Attributes:
        place: in the queue; the first come is the first grown.
        reason: how it came into its state, as a sentence.
        worker: at work on it, empty unless it is running.
        attempts: how often a worker took it.
        failures: deaths of its worker since it last got further.
        failed_at: step of its checkpoint at the last of them.
        kept: step of its last checkpoint.
        tokens, total: trained on so far, and to be trained on.
        seconds: its share of the time of its worker.
    """

    name: str
    title: str
    made_from: str
    place: int
    state: JobState
    reason: str
    worker: str
    attempts: int
    failures: int
    failed_at: int
    step: int
    steps: int
    kept: int
    tokens: int
    total: int
    seconds: float
    queued: str
    started: str
    ended: str

    @property
    def alone(self) -> bool:
        """Whether it may only run by itself."""
        return self.failures >= ALONE_AFTER


class WorkerRow(Record):
    """A worker at work: what it trains on, since when, tokens a second, adapters in a step, rows computed at once."""

    name: str
    device: str
    since: str
    rate: float
    together: int
    pass_tokens: int


class Transition(Record):
    """A job that went from one state to another."""

    number: int
    time: str
    name: str
    before: str
    after: str
    worker: str
    reason: str


class JobTable:
    """jobs.sqlite, opened. Every method is one transaction.

    Raises:
        DataError: the file is damaged, or of another format.
        StorageError: the disk refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=20, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # what a power cut takes of the table is found again in the files
            with self._transaction():
                found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
                if found == 0:
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version={_FORMAT}")
        if found not in (0, _FORMAT):
            raise DataError(f"{path} has format {found}, this Rostok reads {_FORMAT}. Delete it; it is made again from experts/.")

    def __enter__(self) -> JobTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────

    def rows(self) -> list[JobRow]:
        """All jobs, in the order of the queue."""
        return [JobRow(**dict(row)) for row in self._read("SELECT * FROM jobs ORDER BY place")]

    def row(self, name: str) -> JobRow:
        """One job."""
        return JobRow(**dict(self._read("SELECT * FROM jobs WHERE name = ?", name)[0]))

    def queued(self) -> int:
        """How many jobs wait."""
        return int(self._read("SELECT count(*) FROM jobs WHERE state = 'queued'")[0][0])

    def transitions(self) -> list[Transition]:
        """What happened, in order."""
        return [Transition(**dict(row)) for row in self._read("SELECT * FROM transitions ORDER BY number")]

    def workers(self) -> list[WorkerRow]:
        """Workers that were alive when the schedule last looked."""
        return [WorkerRow(**dict(row)) for row in self._read("SELECT * FROM workers ORDER BY name")]

    def stop_wanted(self, since: float) -> bool:
        """Whether somebody has asked for a stop since then (`time.time()`)."""
        return bool(self._read("SELECT 1 FROM wishes WHERE what = 'stop' AND time >= ?", since))

    # ── wishes: the one thing that others than the schedule may write ───────────────────────────────────────────

    def ask_to_stop(self) -> None:
        """Ask whoever trains to write checkpoints and end."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO wishes VALUES ('stop', ?)", (time.time(),))

    def forget_wishes(self) -> None:
        """Take a wish to stop back, before beginning anew or once it is fulfilled."""
        with self._transaction():
            self._db.execute("DELETE FROM wishes")

    # ── the way of a job ────────────────────────────────────────────────────────────────────────────────────────

    def enter(self, orders: Sequence[Order]) -> None:
        """Queue what is new, and what was made from something else before; a failed job is tried once more.

        A quarantined job stays where it is until `release`. Jobs of seeds that are gone leave the table.
        """
        known = {row.name: row for row in self.rows()}
        with self._transaction():
            for place, order in enumerate(orders):
                old = known.get(order.name)
                if old is None or old.made_from != order.made_from:
                    self._db.execute("DELETE FROM jobs WHERE name = ?", (order.name,))
                    self._db.execute(
                        "INSERT INTO jobs (name, title, made_from, place, state, steps, total, queued) "
                        "VALUES (?, ?, ?, ?, 'queued', ?, ?, ?)",
                        (order.name, order.title, order.made_from, place, order.steps, order.total, _now()))
                    self._log(order.name, "", "queued", "", "")
                    continue
                self._db.execute("UPDATE jobs SET place = ?, title = ? WHERE name = ?", (place, order.title, order.name))
                if old.state == "failed":
                    self._move(order.name, "failed", "queued", "", "tried once more")
            for name in set(known) - {order.name for order in orders}:
                self._db.execute("DELETE FROM jobs WHERE name = ?", (name,))

    def claim(self, name: str, worker: str) -> None:
        """A worker takes a queued job."""
        with self._transaction():
            self._move(name, "queued", "running", worker, "")
            self._db.execute("UPDATE jobs SET worker = ?, attempts = attempts + 1, started = ?, reason = '' WHERE name = ?",
                             (worker, _now(), name))

    def taken(self, name: str, worker: str, step: int, steps: int, total: int) -> None:
        """A worker has begun at `step` of `steps`, with `total` tokens in all."""
        self._change(name, worker, "step = ?, kept = ?, steps = ?, total = ?", step, step, steps, total)

    def progress(self, name: str, worker: str, step: int, tokens: int, seconds: float) -> None:
        """How far a running job is."""
        self._change(name, worker, "step = ?, tokens = ?, seconds = ?", step, tokens, round(seconds, 2))

    def keep(self, name: str, worker: str, step: int) -> None:
        """A checkpoint of a running job lies on disk."""
        self._change(name, worker, "kept = ?", step)

    def finish(self, name: str, worker: str, state: JobState, reason: str) -> None:
        """A running job has ended: `done` or `failed`."""
        with self._transaction():
            self._move(name, "running", state, worker, reason)
            self._db.execute("UPDATE jobs SET worker = '', ended = ?, reason = ?, failures = 0 WHERE name = ?",
                             (_now(), reason, name))

    def give_back(self, name: str, worker: str, reason: str) -> None:
        """A running job goes back to its place in the queue, through no fault of its own."""
        with self._transaction():
            self._move(name, "running", "queued", worker, reason)
            self._db.execute("UPDATE jobs SET worker = '', reason = ?, step = kept WHERE name = ?", (reason, name))

    def blame(self, name: str, worker: str, reason: str) -> JobState:
        """A running job was there when its worker died: back to the queue, or to quarantine. Returns where it is now.

        Failures count only as long as no checkpoint gets further: a machine that is switched off every hour is no fault of
        a job, one that dies three times at the same step is. Where a job is quarantined, those that waited to run alone
        because they were in its company are acquitted.
        """
        with self._transaction():
            row = JobRow(**dict(self._db.execute("SELECT * FROM jobs WHERE name = ?", (name,)).fetchone()))
            failures = 1 if row.kept > row.failed_at >= 0 else row.failures + 1
            after: JobState = "quarantined" if failures >= QUARANTINE_AFTER else "queued"
            self._move(name, "running", after, worker, reason)
            self._db.execute(
                "UPDATE jobs SET worker = '', reason = ?, failures = ?, failed_at = kept, step = kept, ended = ? WHERE name = ?",
                (reason, failures, _now() if after == "quarantined" else "", name))
            if after == "quarantined":
                self._db.execute("UPDATE jobs SET failures = 0, failed_at = -1 WHERE state = 'queued'")
        return after

    def found(self, name: str, finished: bool, reason: str) -> None:
        """What the files say of a job, where the table says something else: it is done, or it is to be done."""
        with self._transaction():
            before = self._db.execute("SELECT state FROM jobs WHERE name = ?", (name,)).fetchone()[0]
            after = "done" if finished else "queued"
            self._move(name, before, after, None, reason)
            self._db.execute("UPDATE jobs SET worker = '', reason = ?, ended = ?, failures = 0, "
                             "step = CASE ? WHEN 1 THEN steps ELSE kept END WHERE name = ?",
                             (reason, _now() if finished else "", finished, name))

    def release(self) -> list[str]:
        """Let quarantined jobs try again, three times. Returns their names."""
        names = [row.name for row in self.rows() if row.state == "quarantined"]
        with self._transaction():
            for name in names:
                self._move(name, "quarantined", "queued", "", "let out of quarantine")
                self._db.execute("UPDATE jobs SET failures = 0, failed_at = -1, ended = '' WHERE name = ?", (name,))
        return names

    # ── workers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def note_worker(self, worker: str, device: str, *, rate: float | None = None, together: int | None = None,
                    pass_tokens: int | None = None) -> None:
        """A worker is there; figures that are None stay as they were."""
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO workers (name, device, since) VALUES (?, ?, ?)", (worker, device, _now()))
            self._db.execute(
                "UPDATE workers SET rate = coalesce(?, rate), together = coalesce(?, together), "
                "pass_tokens = coalesce(?, pass_tokens) WHERE name = ?", (rate, together, pass_tokens, worker))

    def forget_workers(self, *names: str) -> None:
        """These workers are gone; all of them when none is named."""
        with self._transaction():
            if not names:
                self._db.execute("DELETE FROM workers")
            for name in names:
                self._db.execute("DELETE FROM workers WHERE name = ?", (name,))

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _move(self, name: str, before: str, after: str, worker: str | None, reason: str) -> None:
        """Change a state inside a transaction; whoever holds the job must be the one who reports."""
        held = worker is not None and before == "running"
        changed = self._db.execute(
            f"UPDATE jobs SET state = ? WHERE name = ? AND state = ? {'AND worker = ?' if held else ''}",
            (after, name, before, *([worker] if held else []))).rowcount
        if changed != 1:
            raise DataError(f"{self.path}: {name} cannot go from {before} to {after} for {worker or 'nobody'}, because it is in "
                            "another state or in other hands. Stop the other process that writes to this run.")
        self._log(name, before, after, worker or "", reason)

    def _log(self, name: str, before: str, after: str, worker: str, reason: str) -> None:
        self._db.execute("INSERT INTO transitions (time, name, before, after, worker, reason) VALUES (?, ?, ?, ?, ?, ?)",
                         (_now(), name, before, after, worker, reason))

    def _change(self, name: str, worker: str, what: str, *values: object) -> None:
        with self._transaction():
            self._db.execute(f"UPDATE jobs SET {what} WHERE name = ? AND worker = ? AND state = 'running'",
                             (*values, name, worker))

    def _read(self, query: str, *values: object) -> list[sqlite3.Row]:
        with _told(self.path):
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # a full disk has rolled back by itself
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as sentences."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error) or "disk I/O" in str(error):
            raise StorageError(f"cannot write {path}: {error or os.strerror(errno.ENOSPC)}. Free some space and run the same "
                               "command again; everything that was finished is kept.") from error
        raise StorageError(f"cannot use {path}: {error}. Check the folder and its rights.") from error
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path} is damaged ({error}). Delete it; it is made again from experts/.") from error


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")
