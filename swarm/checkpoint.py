"""Checkpoints of a job in training, and the marker of a trained one, in `experts/<seed>.part/`.

    parcel = checkpoint(made_from, trainer.state(name))
    store(folder, parcel)
    state = latest(folder, made_from, tell)

A checkpoint is two files, `checkpoint-<step>.safetensors` (adapter and moments) and `checkpoint-<step>.json` (step, order
of pages, curve), the second written last, with the hashes of both. The one before is kept, for the case that the last
does not open. Everything that is written goes through a `Parcel`, so that a worker on another machine can send it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from rostok.errors import writing
from rostok.records import Record, digest, file_digest, write_atomic
from rostok.swarm.records import LossPoint

if TYPE_CHECKING:
    from rostok.swarm.lora import Adapter
    from rostok.swarm.training import State

FINISHED = "trained.json"
_KEPT = 2  # checkpoints of a job


@dataclass(frozen=True)
class Parcel:
    """Files of one job, ready to be written: `files` in any order, the `marker` after them."""

    files: dict[str, bytes]
    marker: tuple[str, bytes]


class Mark(Record):
    """`checkpoint-<step>.json`. `values` is what `State.values` holds."""

    made_from: str
    step: int
    tensors_sha256: str
    values_sha256: str
    values: dict[str, Any]


class Finished(Record):
    """`trained.json`, the marker of an adapter that is trained and not yet measured.

    `adapter_sha256` of adapter_model.safetensors; `seconds` its share of the time of the steps that it took part in.
    """

    made_from: str
    adapter_sha256: str
    trainer: Literal["fused", "trl"]
    reason: str
    pages: int
    steps: int
    tokens: int
    seconds: float
    curve: tuple[LossPoint, ...]


def checkpoint(made_from: str, state: State) -> Parcel:
    """A job in training as files."""
    from safetensors.torch import save

    tensors, step = save(state.tensors), int(state.values["step"])
    mark = Mark(made_from=made_from, step=step, tensors_sha256=hashlib.sha256(tensors).hexdigest(),
                values_sha256=digest(state.values), values=state.values)
    name = f"checkpoint-{step:07}"
    return Parcel({f"{name}.safetensors": tensors}, (f"{name}.json", (mark.line() + "\n").encode()))


def finished(made_from: str, adapter: Adapter, base: str, *, reason: str, pages: int, steps: int, tokens: int, seconds: float,
             curve: tuple[LossPoint, ...]) -> Parcel:
    """A trained adapter as files: an ordinary PEFT folder and its marker."""
    with tempfile.TemporaryDirectory() as scratch:
        adapter.save(Path(scratch), base)
        return finished_folder(Path(scratch), made_from, "fused", reason=reason, pages=pages, steps=steps, tokens=tokens,
                               seconds=seconds, curve=curve)


def finished_folder(folder: Path, made_from: str, trainer: Literal["fused", "trl"], *, reason: str, pages: int, steps: int,
                    tokens: int, seconds: float, curve: tuple[LossPoint, ...]) -> Parcel:
    """The same of an adapter that lies in a folder already."""
    mark = Finished(made_from=made_from, adapter_sha256=file_digest(folder / "adapter_model.safetensors"), trainer=trainer,
                    reason=reason, pages=pages, steps=steps, tokens=tokens, seconds=round(seconds, 2), curve=curve)
    files = {name: (folder / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")}
    return Parcel(files, (FINISHED, (mark.line() + "\n").encode()))


def store(folder: Path, parcel: Parcel) -> None:
    """Write a parcel; what it replaces goes last: older checkpoints, and all of them when the adapter is finished.

    Raises:
        StorageError: the disk refused; what lay there before is whole.
    """
    for name, content in parcel.files.items():
        write_atomic(folder / name, content)
    write_atomic(folder / parcel.marker[0], parcel.marker[1])
    _keep_only(folder, 0 if parcel.marker[0] == FINISHED else _KEPT)


def latest(folder: Path, made_from: str, tell: Callable[[str], None] = lambda text: None) -> State | None:
    """The newest checkpoint that is whole and made from the same, None when there is none. For whoever holds the job.

    Args:
        tell: called with a sentence for every checkpoint that is refused, which is then removed.
    """
    marks = _marks(folder)
    for place, mark in enumerate(marks):
        state, reason = _open(mark, made_from)
        if state is not None:
            return state
        tell(f"{mark} is refused: {reason}; training goes on from "
             f"{'the checkpoint before it' if place + 1 < len(marks) else 'the start'}")
        with writing(folder):  # or it would be taken for the newest again
            mark.unlink()
            mark.with_suffix(".safetensors").unlink(missing_ok=True)
    return None


def trained(folder: Path, made_from: str) -> Finished | None:
    """The marker of a trained adapter if its files are those that it was written for."""
    path, adapter = folder / FINISHED, folder / "adapter_model.safetensors"
    try:
        mark = Finished.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or torn: then the job is not finished
        return None
    if mark.made_from != made_from or not adapter.is_file() or file_digest(adapter) != mark.adapter_sha256:
        return None
    return mark if (folder / "adapter_config.json").is_file() else None


def sweep(folder: Path, *, done: bool = False) -> None:
    """Remove what a kill left of a write that was not finished, and beside an adapter that is done its checkpoints, which go
    after the marker is there. Only for whoever holds the job.
    """
    with writing(folder):
        for path in folder.glob(".*"):
            path.unlink(missing_ok=True)
    if done:
        _keep_only(folder, 0)


def discard(folder: Path) -> None:
    """Throw away what is half done."""
    if folder.is_dir() and not folder.is_symlink():
        with writing(folder):
            rubbish = folder.with_name(f".{folder.name}.{os.getpid()}")
            os.replace(folder, rubbish)
            shutil.rmtree(rubbish)


def _keep_only(folder: Path, count: int) -> None:
    """Remove all checkpoints but the newest so many."""
    marks = _marks(folder)
    with writing(folder):
        for mark in marks[count:]:
            mark.unlink(missing_ok=True)  # the marker first, so that no marker is left without its tensors
        known = {mark.stem for mark in marks[:count]}
        for tensors in folder.glob("checkpoint-*.safetensors"):
            if tensors.stem not in known:
                tensors.unlink(missing_ok=True)


def _marks(folder: Path) -> list[Path]:
    """Markers of checkpoints, the newest first."""
    return sorted(folder.glob("checkpoint-*.json"), reverse=True)


def _open(path: Path, made_from: str) -> tuple[State | None, str]:
    from safetensors.torch import load

    from rostok.swarm.training import State

    try:
        mark = Mark.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None, "it is cut short or damaged"
    if mark.made_from != made_from:
        return None, "it was made from another corpus, base or settings"
    if digest(mark.values) != mark.values_sha256:
        return None, "its values are not those that were written"
    tensors = path.with_suffix(".safetensors")
    try:
        content = tensors.read_bytes()
    except OSError as error:
        return None, f"{tensors.name} cannot be read ({error.strerror})"
    if hashlib.sha256(content).hexdigest() != mark.tensors_sha256:
        return None, f"{tensors.name} is cut short or damaged"
    return State(load(content), dict(mark.values)), ""

