"""The worker process: holds the base once and trains what it is handed, on one device.

    python -m rostok.swarm.worker RUN --device cpu --together 8 --pass-tokens 1280

It reads commands from its standard input and writes messages to its standard output, a JSON line each. When the input
ends, whoever started it is gone, and so is it, at once: what it had in memory is in its last checkpoint.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rostok.errors import RostokError, RunError, writing
from rostok.runs import Run
from rostok.swarm.admission import out_of_memory
from rostok.swarm.messages import COMMANDS, Command, Message, Plan, Ready, Refused, Stop, Stopped

if TYPE_CHECKING:
    from rostok.generator.records import Page
    from rostok.swarm.checkpoint import Parcel
    from rostok.swarm.training import Start, State

_WAIT = 60.0  # seconds for the worker of a schedule that was killed to be gone: it ends with its next step


def main(argv: Sequence[str] | None = None) -> int:
    """Work until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--together", type=int, required=True)
    parser.add_argument("--pass-tokens", type=int, required=True)
    options = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the schedule, which asks for a clean stop
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the log, not between the messages

    def say(message: Message) -> None:
        out.write(message.line() + "\n")

    plan = Plan(together=options.together, pass_tokens=options.pass_tokens)
    run = Run(options.run)
    try:
        commands = _listen(sys.stdin)
        with only_one(run.folder / "workers" / f"{options.device.replace(':', '-')}.lock"):
            _work(run, plan, say, commands)
    except RostokError as error:
        say(Refused(reason=str(error)))
        return 2
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        # A fresh process goes on with less. In this one glibc holds on to what was freed, and oneDNN may make nothing any more.
        print(str(error) or type(error).__name__, file=sys.stderr)
        return errno.ENOMEM
    say(Stopped())
    return 0


def _work(run: Run, plan: Plan, say: Callable[[Message], None], commands: queue.SimpleQueue[Command]) -> None:
    settings = run.read().settings
    from rostok.environment import prepare
    from rostok.models import find_base, names_a_hub_model

    prepare(allow_network=names_a_hub_model(settings.models.base))
    base = find_base(settings.models.base)
    run.check_model("base", base.name, base.sha256)
    from rostok.swarm.base import FrozenBase
    from rostok.swarm.work import Work

    waiting: list[Command] = []

    def asked() -> bool:
        while not commands.empty():
            waiting.append(commands.get())
        return any(isinstance(command, Stop) for command in waiting)

    work = Work(RunDesk(run), FrozenBase(base), settings, plan, say, asked)
    say(Ready(one_by_one=work.stack is None))
    while True:
        if not asked() and not waiting and not work.busy:
            waiting.append(commands.get())
        for command in waiting:
            if isinstance(command, Stop):
                work.stop()
                return
            work.take(command)
        waiting.clear()
        if work.busy:
            work.step()


class RunDesk:
    """The run folder as a worker on the same machine sees it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._start: Start | None = None

    def pages(self, name: str) -> Sequence[Page]:
        from rostok.generator.folder import training_pages
        from rostok.swarm import school

        if name == school.NAME:
            return school.pages(self._run, self._run.read().settings)
        return training_pages(self._run.corpora / name)[0]

    def card(self, name: str) -> str:
        from rostok.seeds.library import Library

        return Library(self._run.seeds).find(name).card()

    def start(self, name: str) -> Start | None:
        from rostok.swarm import school

        if name == school.NAME:
            return None
        if self._start is None:  # the same for all experts: read once
            self._start = school.start(self._run, self._run.read().settings)
        return self._start

    def state(self, name: str, made_from: str, tell: Callable[[str], None]) -> State | None:
        from rostok.swarm.checkpoint import latest, sweep

        sweep(self._run.part(name))
        return latest(self._run.part(name), made_from, tell)

    def deliver(self, name: str, parcel: Parcel) -> None:
        from rostok.swarm.checkpoint import store

        store(self._run.part(name), parcel)


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a device of a run. A worker whose schedule was killed may still be in its last step: wait for it.

    Raises:
        RunError: it is still there after a minute.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        deadline = time.monotonic() + _WAIT
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunError(f"another worker still holds {path}. End that process, and run the command again.") from None
                time.sleep(0.05)
        yield


def _listen(stream: TextIO) -> queue.SimpleQueue[Command]:
    """Commands as they come; the process ends when no more can come."""
    found: queue.SimpleQueue[Command] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            found.put(COMMANDS.validate_json(line))
        os._exit(3)

    threading.Thread(target=read, daemon=True).start()
    return found


if __name__ == "__main__":
    sys.exit(main())
