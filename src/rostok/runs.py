"""A run: one folder with everything of one night. run.json (settings, versions, models), the lock, the journal."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

import psutil

from rostok import __version__
from rostok.config import SchoolSettings, Settings
from rostok.errors import DataError, RunError, writing
from rostok.records import Record, append_jsonl, read_jsonl, read_record, recover_jsonl, write_atomic

FORMAT = 1
_SCHOOLED = ("rank", "alpha", "layers", "pages_per_step", "max_tokens", "warmup_steps", "decay_share", "clip", "trainer")
_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "llama-cpp-python", "langgraph", "chromadb",
             "sentence-transformers", "pydantic")


class ModelInfo(Record):
    """A model that a run used: what it is called and the hash of its file."""

    name: str
    sha256: str


class RunFile(Record):
    """run.json."""

    format: int
    rostok: str
    created: str
    settings: Settings
    versions: dict[str, str]
    models: dict[str, ModelInfo]


class Event(Record):
    """One line of journal.jsonl. `stage` lines of kind `end` carry what the stage cost."""

    time: str
    kind: str
    stage: str = ""
    seconds: float = 0.0
    peak_mib: int = 0
    tokens: int = 0
    note: str = ""


class Run:
    """Paths and state of one run folder. Opening it changes nothing; `start` does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "run.json"
        self.seeds = folder / "seeds"
        self.corpora = folder / "corpora"
        self.school = folder / "school"
        self.experts = folder / "experts"
        self.registry = folder / "experts.jsonl"
        self.measurements = folder / "matrix.json"
        self.jobs = folder / "jobs.sqlite"
        self.memory = folder / "memory"
        self.conversations = folder / "conversations.sqlite"
        self.report = folder / "report.html"
        self.journal_path = folder / "journal.jsonl"

    def exists(self) -> bool:
        """Whether this folder holds a run."""
        return self.file.is_file()

    def read(self) -> RunFile:
        """run.json.

        Raises:
            RunError: there is none, or it was made by another format of Rostok.
        """
        if not self.file.is_file():
            raise RunError(f"{self.folder} holds no run. Start one with: rostok night {self.folder} --profile demo")
        try:
            raw = json.loads(self.file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise DataError(f"{self.file} is not valid JSON. Restore it, or start a new run folder.") from None
        found = raw.get("format") if isinstance(raw, dict) else None
        if found != FORMAT:
            raise RunError(
                f"{self.folder} has run format {found}, this Rostok ({__version__}) reads format {FORMAT}. "
                f"Use the version that made it ({raw.get('rostok', 'unknown') if isinstance(raw, dict) else 'unknown'}), "
                "or a new run folder.")
        file = read_record(self.file, RunFile)
        if "school" in raw["settings"]:
            return file
        # From before there was a school: its experts begin from nothing.
        return file.model_copy(update={"settings": file.settings.model_copy(update={"school": SchoolSettings(drills=0)})})

    def start(self, settings: Settings) -> None:
        """Create the run, or bring the settings of an existing one up to date. Call with the lock held."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        old = self.read() if self.exists() else None
        if old is not None:
            if old.settings == settings:
                return
            self._refuse_changes(old.settings, settings)
        new = RunFile(
            format=FORMAT, rostok=__version__, created=old.created if old else now, settings=settings,
            versions=installed_versions(), models=old.models if old else {})
        write_atomic(self.file, new.model_dump_json(indent=1) + "\n")

    def _refuse_changes(self, old: Settings, new: Settings) -> None:
        """Settings that finished work depends on stay as they were; raises `RunError` naming setting, old and new value."""
        fixed = {
            self.seeds / "library.jsonl": ("theme", "language", "random_seed", "author.nodes", "author.candidates"),
            self.corpora: ("corpus", "random_seed"),
            self.school: ("school", "random_seed"),
            self.school / "adapter": tuple(f"training.{name}" for name in _SCHOOLED),
            self.registry: ("school", "training", "random_seed"),
        }
        before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
        for values in (before, after):
            del values["training"]["together"]  # an expert is the same in any company
        for made, names in fixed.items():
            if not made.exists():
                continue
            for name in names:
                section, _, key = name.partition(".")
                a, b = (values[section][key] if key else values[section] for values in (before, after))
                if a != b and isinstance(a, dict):
                    key = next(part for part in a if a[part] != b[part])
                    a, b, name = a[key], b[key], f"{section}.{key}"
                if a != b:
                    raise RunError(f"setting '{name}' is {b!r} now, but what lies in {made} was made with {a!r}. "
                                   f"Leave the setting as it was, use a new run folder, or delete {made} to make it again.")

    def part(self, seed: str) -> Path:
        """Where an expert is built before it is moved to its place whole."""
        return self.experts / f"{seed}.part"

    def check_model(self, role: str, name: str, sha256: str) -> None:
        """Raises `RunError` when this run was made with another model in that role."""
        known = self.read().models.get(role)
        if known is not None and known.sha256 != sha256:
            raise RunError(
                f"{self.folder} was made with the {role} {known.name} (sha256 {known.sha256[:12]}), now it would be {name} "
                f"({sha256[:12]}). Use a new run folder for another {role}.")

    def note_model(self, role: str, name: str, sha256: str) -> None:
        """Write a model's hash into run.json. Raises like `check_model`."""
        self.check_model(role, name, sha256)
        file = self.read()
        if role not in file.models:
            models = {**file.models, role: ModelInfo(name=name, sha256=sha256)}
            write_atomic(self.file, file.model_copy(update={"models": models}).model_dump_json(indent=1) + "\n")

    @contextmanager
    def held(self, command: str) -> Iterator[None]:
        """Hold the run against every other process; the operating system lets go of it even after `kill -9`.

        Raises:
            RunError: another process holds it; the message says which.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "run.lock").open("a+", encoding="utf-8")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{self.folder} is held by {_holder(lock)}. Wait for it to end, or stop it.") from None
            lock.truncate(0)
            lock.write(json.dumps({"pid": os.getpid(), "command": command, "host": platform.node(),
                                   "since": time.strftime("%Y-%m-%d %H:%M:%S")}))
            lock.flush()
            recover_jsonl(self.journal_path)
            yield

    def holder(self) -> str | None:
        """Whoever is at work on the run, as a sentence's subject; None when nobody on this machine is."""
        found = self._holding()
        return f"'{found['command']}' (process {found['pid']}, since {found['since']})" if found else None

    def holder_pid(self) -> int | None:
        """The process of whoever is at work on the run; None when nobody on this machine is."""
        found = self._holding()
        return int(found["pid"]) if found else None

    def interrupt(self) -> None:
        """Send Ctrl-C to whoever is at work on the run."""
        found = self._holding()
        if found:
            os.kill(int(found["pid"]), signal.SIGINT)

    def _holding(self) -> dict[str, Any] | None:
        path = self.folder / "run.lock"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            opened = {file.path for file in psutil.Process(int(found["pid"])).open_files()}
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):  # nobody, or it has just gone
            return None
        return found if found.get("host") == platform.node() and str(path.resolve()) in opened else None

    def journal(self, event: Event) -> None:
        """Append one event to journal.jsonl."""
        append_jsonl(self.journal_path, [event])

    def events(self) -> list[Event]:
        """The journal so far."""
        return read_jsonl(self.journal_path, Event)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageCost]:
        """Journal a stage: its start, and at the end seconds, tokens and the process's peak memory meanwhile."""
        started = time.monotonic()
        self.journal(Event(time=_now(), kind="start", stage=name))
        with PeakMemory() as peak:
            cost = StageCost()
            yield cost
        if cost.did_something:
            self.journal(Event(time=_now(), kind="end", stage=name, seconds=round(time.monotonic() - started, 2),
                               peak_mib=peak.mib, tokens=cost.tokens, note=cost.note))


class StageCost:
    """What a stage reports of itself. `did_something` stays False when all was finished before."""

    def __init__(self) -> None:
        self.tokens = 0
        self.note = ""
        self.did_something = False

    def add(self, tokens: int = 0) -> None:
        """Count one piece of work and its tokens."""
        self.tokens += tokens
        self.did_something = True


class PeakMemory:
    """Highest resident memory of this process and its children while it is entered, sampled four times a second."""

    def __enter__(self) -> PeakMemory:
        self.mib = 0
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            total = 0
            for process in (self._process, *self._process.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.mib = max(self.mib, total >> 20)
            if self._done.wait(0.25):
                return


def installed_versions() -> dict[str, str]:
    """Versions of Python, Rostok and the libraries that decide what a run makes."""
    versions = {"python": platform.python_version(), "rostok": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    try:
        holder: dict[str, Any] = json.loads(lock.read())
        return f"'{holder['command']}' (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (json.JSONDecodeError, KeyError):
        return "another rostok process"
