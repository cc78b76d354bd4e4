"""Workers on this machine: one process per device, and how it is told why one died."""

from __future__ import annotations

import errno
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from rostok.errors import writing
from rostok.runs import Run
from rostok.swarm.messages import MESSAGES, Command, Message, Plan


@dataclass(frozen=True)
class Death:
    """How a worker ended that was not asked to.

    Attributes:
        reason: for people.
        memory: the kernel, or the device, ran out of it.
        outside: somebody sent SIGKILL; what it was working on is not to blame.
    """

    reason: str
    memory: bool = False
    outside: bool = False


class Hand(Protocol):
    """A worker as the schedule sees it, wherever it is."""

    name: str

    def send(self, command: Command) -> None:
        """Hand over a command; one that is dead takes it in silence, and its death is told by `death`."""

    def poll(self) -> list[Message]:
        """What it has said since the last call."""

    def death(self) -> Death | None:
        """None while it lives."""

    def patient(self) -> bool:
        """Whether its silence means nothing: it waits for a place on a machine."""

    def end(self) -> None:
        """Let it go: at once if it has not gone by itself."""


class LocalWorker:
    """`rostok.swarm.worker` in a process of its own.

    Args:
        device: `cpu`, or `cuda:N` (not run here).
        plan: at most so much at once.
    """

    def __init__(self, run: Run, device: str, plan: Plan) -> None:
        folder = run.folder / "workers"
        with writing(folder):
            folder.mkdir(exist_ok=True)
            self._log = folder / f"{device.replace(':', '-')}.log"
            log = self._log.open("ab")
            self._log_start = log.tell()
        environment = dict(os.environ)
        if device.startswith("cuda:"):  # not run here
            environment["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
        self._kills = oom_kills()
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rostok.swarm.worker", str(run.folder), "--device", device,
                 "--together", str(plan.together), "--pass-tokens", str(plan.pass_tokens)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8", bufsize=1,
                env=environment, process_group=0)  # Ctrl-C reaches the schedule alone, which asks for checkpoints first
        self.name = f"{device} {self._process.pid}"
        self._said: queue.SimpleQueue[Message] = queue.SimpleQueue()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def send(self, command: Command) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command.line() + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return

    def poll(self) -> list[Message]:
        found = []
        while not self._said.empty():
            found.append(self._said.get())
        return found

    def death(self) -> Death | None:
        code = self._process.poll()
        if code is None:
            return None
        self._reader.join(2.0)  # its last words come first
        if not self._said.empty():
            return None
        killed = code == -signal.SIGKILL
        memory = code == errno.ENOMEM or (killed and oom_kills() > self._kills)
        what = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if memory:
            what = "was ended by the kernel, because the memory was full" if killed else "ran out of memory"
        last = "" if killed else self._last_line()
        return Death(f"the worker on {self.name} {what}{f' ({last})' if last else ''}", memory, killed and not memory)

    def patient(self) -> bool:
        return False

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(2.0)
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:  # what was not read any more
            return

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            if line.endswith("\n"):  # a kill may cut the last one
                self._said.put(MESSAGES.validate_json(line))

    def _last_line(self) -> str:
        """Of its log, where a traceback ends with the error."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = [line for line in log.read().decode("utf-8", errors="replace").splitlines() if line.strip()]
        return " ".join(lines[-1].split())[:200] if lines else ""


def devices() -> Sequence[str]:
    """What workers can be had on this machine: each GPU (not run here), or the processor."""
    if not any(Path(sign).exists() for sign in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")):
        return ["cpu"]  # without asking torch, whose import takes seconds
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def oom_kills() -> int:
    """Processes that the kernel has ended for want of memory, on this machine and in this container, so far."""
    count = 0
    for path, name in ((Path("/proc/vmstat"), "oom_kill"), (Path("/sys/fs/cgroup/memory.events"), "oom_kill")):
        try:
            for line in path.read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == name:
                    count += int(value)
        except (OSError, ValueError):  # no such file in this kernel or container
            continue
    return count
