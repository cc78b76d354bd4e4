"""The same jobs on a Ray cluster: `with cluster(run, settings, tell) as found: supervise(…, found.slots, found.raise_worker, …)`.

The schedule, the job table and the run folder stay on this machine. Pages and checkpoints travel to the workers, and
adapters and checkpoints back, so that the nodes need no shared disk: only Rostok, and the base under the name that
`models.base` gives it (checked by its hash). A node that is lost takes its workers with it; their jobs go on from their
last checkpoints on another.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rostok.config import Settings
from rostok.errors import ClusterError, RostokError, StorageError
from rostok.generator.records import Page
from rostok.runs import Run
from rostok.swarm import school
from rostok.swarm.admission import out_of_memory
from rostok.swarm.checkpoint import FINISHED, Parcel
from rostok.swarm.local import Death
from rostok.swarm.messages import Command, Ended, Message, Note, Plan, Ready, Refused, Stop, Stopped, Take
from rostok.swarm.worker import RunDesk

if TYPE_CHECKING:
    from rostok.swarm.training import Start, State

_CONNECT = 5.0   # seconds for somebody to answer at the address
_JOIN = 30.0     # and for it to turn out to be a Ray cluster of the same version
_CALL = 1.0      # seconds of steps between two answers of an actor
_PORT = 6379
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",       # nothing is told to anybody
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
}


@dataclass(frozen=True)
class Cluster:
    """A cluster that has answered: places for workers, and how to put one there."""

    slots: Sequence[str]
    raise_worker: Callable[[str, Plan], RayWorker]


@contextmanager
def cluster(run: Run, settings: Settings, tell: Callable[[str], None]) -> Iterator[Cluster]:
    """Join the cluster at `swarm.address`, or begin one on this machine, on loopback, and leave it in the end.

    Raises:
        ClusterError: ray is not installed, nobody answers, or no node is large enough for a worker.
    """
    os.environ.update({key: value for key, value in _ENVIRONMENT.items() if key not in os.environ})
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        import ray
    except ImportError:
        raise ClusterError("--executor ray needs the package ray. Install it with: pip install 'rostok[ray]'") from None
    address = settings.swarm.address
    if address:
        _knock(address)
    _join(ray, address)
    try:
        slots = _places(ray.nodes(), settings)
        tell(f"{len(slots)} worker{'s' * (len(slots) > 1)} on {len([n for n in ray.nodes() if n['Alive']])} Ray nodes")
        yield Cluster(slots, lambda slot, plan: RayWorker(ray, run, settings, slot, plan))
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Whether anybody listens: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        host, port = address, str(_PORT)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer"
        raise ClusterError(f"no Ray cluster answers at swarm.address={address} ({reason}). Start one there with "
                           "'ray start --head', or train on this machine with --executor local; nothing was begun.") from None


def _join(ray: Any, address: str) -> None:
    failure: list[BaseException] = []
    options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}

    def join() -> None:
        try:
            ray.init(**options, log_to_driver=False, configure_logging=False)
        except BaseException as error:  # noqa: BLE001  # carried to the thread that waits
            failure.append(error)

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(_JOIN)
    if thread.is_alive() or failure:
        reason = " ".join(str(failure[0]).split())[:200] if failure else f"no answer within {_JOIN:.0f} seconds"
        raise ClusterError(f"what listens at swarm.address={address or 'this machine'} is no Ray cluster that can be joined: "
                           f"{reason}. Give the address of a head node with the same version of Ray, or train with "
                           "--executor local; nothing was begun.")


def _places(nodes: Sequence[dict[str, Any]], settings: Settings) -> list[str]:
    """As many workers as the living nodes have processors and GPUs for."""
    count = 0
    for node in nodes:
        if node["Alive"]:
            has = node["Resources"]
            room = has.get("CPU", 0) // settings.swarm.cpus
            if settings.swarm.gpus:  # not run here
                room = min(room, has.get("GPU", 0) // settings.swarm.gpus)
            count += int(room)
    if not count:
        raise ClusterError(f"no node of the Ray cluster has {settings.swarm.cpus:g} processors and {settings.swarm.gpus:g} GPUs "
                           "for a worker. Lower swarm.cpus or swarm.gpus with --set.")
    return [f"ray {number}" for number in range(1, count + 1)]


class RayWorker:
    """A worker on some node of the cluster, as the schedule sees it."""

    def __init__(self, ray: Any, run: Run, settings: Settings, slot: str, plan: Plan) -> None:
        self._ray, self._desk = ray, RunDesk(run)
        self.name = f"{slot} {time.monotonic_ns() % 1_000_000}"
        base = run.read().models["base"]
        where = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), **_ENVIRONMENT}
        actor = ray.remote(_Actor).options(num_cpus=settings.swarm.cpus, num_gpus=settings.swarm.gpus, max_restarts=0,
                                           runtime_env={"env_vars": where})
        self._actor = actor.remote()
        values = settings.model_dump(mode="json")
        if Path(settings.models.base).exists():  # a path of this machine means the same one there
            values["models"]["base"] = str(Path(settings.models.base).resolve())
        self._call: Any = self._actor.begin.remote(values, base.sha256, plan.model_dump())
        self._distils = settings.training.distils
        self._commands: list[tuple[Command, _Load | None]] = []
        self._notes: deque[Message] = deque()
        self._unwritten: dict[str, str] = {}  # trained adapters that this machine's disk refused, and why
        self._ready = False
        self._death: Death | None = None

    def send(self, command: Command) -> None:
        if not isinstance(command, Take):
            self._commands.append((command, None))
            return
        try:
            load = _Load(
                self._desk.pages(command.name),
                self._desk.card(command.name) if self._distils and command.name != school.NAME else "",
                self._desk.start(command.name),
                self._desk.state(command.name, command.made_from, lambda text: self._notes.append(Note(text=text))))
        except RostokError as error:
            self._notes.append(Ended(name=command.name, done=False, reason=str(error)))
            return
        self._commands.append((command, load))

    def poll(self) -> list[Message]:
        found: list[Message] = list(self._notes)
        self._notes.clear()
        if self._death is not None:
            return found
        ready, _ = self._ray.wait([self._call], timeout=0)
        if not ready:
            return found
        try:
            for name, said in self._ray.get(self._call):
                found += self._receive(name, said)
            commands, self._commands = self._commands, []
            self._call = self._actor.work.remote(commands)
        except self._ray.exceptions.RayError as error:
            self._death = self._why(error)
        return found

    def death(self) -> Death | None:
        return self._death

    def patient(self) -> bool:
        return not self._ready

    def end(self) -> None:
        self._ray.kill(self._actor)

    def _receive(self, name: str, said: Message | Parcel) -> list[Message]:
        """A message as it is; a parcel goes to the disk of this machine."""
        if isinstance(said, Ready):
            self._ready = True
        if isinstance(said, Ended) and name in self._unwritten:
            return [Ended(name=name, done=False, reason=self._unwritten.pop(name))]
        if not isinstance(said, Parcel):
            return [said]
        try:
            self._desk.deliver(name, said)
        except StorageError as error:
            if said.marker[0] == FINISHED:
                self._unwritten[name] = str(error)
                return []
            return [Note(text=f"{name} goes on without a checkpoint: {error}")]
        return []

    def _why(self, error: Exception) -> Death:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        text = str(error)
        node = "node" in text and ("died" in text or "dead" in text or "terminated" in text)
        memory = isinstance(error, self._ray.exceptions.OutOfMemoryError) or out_of_memory(error)
        return Death(f"the worker {self.name} was lost: {reason[:200]}", memory=memory, outside=node and not memory)


class _Actor:
    """`Work` on a node; what it makes goes back as values."""

    def begin(self, settings: dict[str, Any], base_sha256: str, plan: dict[str, int]) -> list[tuple[str, Any]]:
        """Load the base. Returns the first messages."""
        from rostok.environment import prepare
        from rostok.models import find_base, names_a_hub_model
        from rostok.swarm.base import FrozenBase
        from rostok.swarm.work import Work

        resolved = Settings.model_validate(settings)
        prepare(allow_network=names_a_hub_model(resolved.models.base))
        self._said: list[tuple[str, Any]] = []
        try:
            base = find_base(resolved.models.base)
            if base.sha256 != base_sha256:
                raise ClusterError(f"the node {socket.gethostname()} has another base under models.base={resolved.models.base} "
                                   f"(sha256 {base.sha256[:12]} instead of {base_sha256[:12]}). Put the same model there.")
            self._desk = _WireDesk(self._said)
            self._work = Work(self._desk, FrozenBase(base), resolved, Plan.model_validate(plan), self._say)
        except RostokError as error:
            self._say(Refused(reason=str(error)))
            return self._said
        self._say(Ready(one_by_one=self._work.stack is None))
        return self._said

    def work(self, commands: Sequence[tuple[Command, _Load | None]]) -> list[tuple[str, Any]]:
        """Obey, then train for about a second. Returns what there is to say."""
        self._said.clear()
        for command, load in commands:
            if isinstance(command, Stop):
                self._work.stop()
                self._say(Stopped())
                return self._said
            assert load is not None
            self._desk.put(command.name, load)
            self._work.take(command)
            self._desk.drop(command.name)
        deadline = time.monotonic() + _CALL
        while self._work.busy and time.monotonic() < deadline:
            self._work.step()
        if not self._work.busy and not self._said:
            time.sleep(0.05)
        return self._said

    def _say(self, message: Message) -> None:
        self._said.append((getattr(message, "name", ""), message))


@dataclass(frozen=True)
class _Load:
    """What a job needs, on its way to a node."""

    pages: Sequence[Page]
    card: str
    start: Start | None
    state: State | None


class _WireDesk:
    """What came with the commands; what is made goes out between the messages."""

    def __init__(self, out: list[tuple[str, Any]]) -> None:
        self._out = out
        self._loads: dict[str, _Load] = {}

    def put(self, name: str, load: _Load) -> None:
        self._loads[name] = load

    def pages(self, name: str) -> Sequence[Page]:
        return self._loads[name].pages

    def card(self, name: str) -> str:
        return self._loads[name].card

    def start(self, name: str) -> Start | None:
        return self._loads[name].start

    def state(self, name: str, made_from: str, tell: Callable[[str], None]) -> State | None:
        return self._loads[name].state

    def drop(self, name: str) -> None:
        """Let go of what came with a job that has been taken."""
        del self._loads[name]

    def deliver(self, name: str, parcel: Parcel) -> None:
        self._out.append((name, parcel))
