"""What the schedule and its workers say to each other: one JSON line each, or the same records through Ray."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from rostok.records import Record


class Plan(Record):
    """How much a worker trains at once: adapters in a step, and rows (tokens) computed in one pass."""

    together: int = Field(ge=1)
    pass_tokens: int = Field(ge=1)


# ── to a worker ─────────────────────────────────────────────────────────────────────────────────────────────────


class Take(Record):
    """Train this expert. `measure_rate`: find out first how fast the device is with this and so many others."""

    say: Literal["take"] = "take"
    name: str
    made_from: str
    measure_rate: int = 0


class Stop(Record):
    """Write checkpoints and end."""

    say: Literal["stop"] = "stop"


# ── from a worker ───────────────────────────────────────────────────────────────────────────────────────────────


class Ready(Record):
    """The base is in memory. `one_by_one`: the reference trains, since the fused step is not verified on this base."""

    say: Literal["ready"] = "ready"
    one_by_one: bool = False


class Planned(Record):
    """How much fits, by the probe step; tokens a second, 0 when that was not asked for."""

    say: Literal["planned"] = "planned"
    plan: Plan
    rate: float = 0.0
    note: str


class Taken(Record):
    """A job has begun, or goes on from a checkpoint at `step`."""

    say: Literal["taken"] = "taken"
    name: str
    step: int
    steps: int
    total: int


class Pace(Record):
    """How far one job is."""

    step: int
    tokens: int
    seconds: float


class Progress(Record):
    """Optimizer steps of adapters, tokens and seconds since the last such message, and where each job is."""

    say: Literal["progress"] = "progress"
    steps: int
    tokens: int
    seconds: float
    jobs: dict[str, Pace]


class Kept(Record):
    """A checkpoint lies on disk."""

    say: Literal["kept"] = "kept"
    name: str
    step: int


class Ended(Record):
    """A job is done, its files on disk, and this is what it took; or it cannot be trained, and why."""

    say: Literal["ended"] = "ended"
    name: str
    done: bool
    reason: str
    pace: Pace | None = None


class Returned(Record):
    """A job goes back to the queue, as far as its last checkpoint."""

    say: Literal["returned"] = "returned"
    name: str
    reason: str


class Note(Record):
    """A sentence for people."""

    say: Literal["note"] = "note"
    text: str


class Refused(Record):
    """The worker cannot work at all, and none in its place could."""

    say: Literal["refused"] = "refused"
    reason: str


class Stopped(Record):
    """The last word of a worker that was asked to stop."""

    say: Literal["stopped"] = "stopped"


Command = Take | Stop
Message = Ready | Planned | Taken | Progress | Kept | Ended | Returned | Note | Refused | Stopped
COMMANDS: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="say")])
MESSAGES: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="say")])
