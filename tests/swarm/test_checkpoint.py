"""Checkpoints: whole or refused, and never the wrong one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rostok.errors import StorageError
from rostok.swarm.checkpoint import FINISHED, checkpoint, latest, store, sweep
from rostok.swarm.training import State


def state(step: int) -> State:
    dice = torch.Generator().manual_seed(step)
    return State({"parameters": torch.rand(100, generator=dice), "step": torch.tensor(float(step))},
                 {"step": step, "tokens": 10 * step, "seconds": 0.1 * step, "curve": [{"loss": 1.23456789012345678}]})


def same(a: State | None, b: State) -> bool:
    return a is not None and a.values == b.values and all(torch.equal(a.tensors[name], b.tensors[name]) for name in b.tensors)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    for step in (10, 20, 30):
        store(tmp_path, checkpoint("origin", state(step)))
    return tmp_path


def test_the_last_two_are_kept_and_the_last_is_read(part: Path) -> None:
    """Prevents: a folder that fills the disk with every checkpoint ever written, or one without a second to fall back to."""
    assert sorted(path.name for path in part.iterdir()) == [
        f"checkpoint-00000{step}.{kind}" for step in (20, 30) for kind in ("json", "safetensors")]
    assert same(latest(part, "origin"), state(30))


def _shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _other_step(path: Path) -> None:
    path.write_text(re.sub(r'"tokens":\d+', '"tokens":1', path.read_text()))


@pytest.mark.parametrize(("suffix", "harm", "reason"), [
    ("safetensors", _shorter, "is cut short or damaged"), ("safetensors", _flipped, "is cut short or damaged"),
    ("safetensors", Path.unlink, "cannot be read"), ("json", _shorter, "it is cut short or damaged"),
    ("json", _other_step, "its values are not those that were written")])
def test_a_torn_checkpoint_is_refused_and_the_one_before_is_taken(part: Path, suffix: str, harm: Callable[[Path], None],
                                                                  reason: str) -> None:
    """Prevents: training that goes on from half a file; and a file that is the newest by name for ever."""
    harm(part / f"checkpoint-0000030.{suffix}")
    told: list[str] = []
    assert same(latest(part, "origin", told.append), state(20))
    assert len(told) == 1
    assert reason in told[0]
    assert told[0].endswith("the checkpoint before it")
    store(part, checkpoint("origin", state(25)))
    assert same(latest(part, "origin", told.append), state(25))
    assert len(told) == 1


def test_without_any_whole_checkpoint_it_begins_at_the_start(part: Path) -> None:
    """Prevents: a job that can never be trained again because of a damaged file."""
    for path in part.glob("*.safetensors"):
        _shorter(path)
    told: list[str] = []
    assert latest(part, "origin", told.append) is None
    assert [text.rpartition(" from ")[2] for text in told] == ["the checkpoint before it", "the start"]
    assert not list(part.iterdir())


def test_a_checkpoint_of_other_settings_is_not_taken(part: Path) -> None:
    """Prevents: moments of another rank or corpus under this one's name."""
    told: list[str] = []
    assert latest(part, "another", told.append) is None
    assert "made from another corpus, base or settings" in told[0]


def test_leftovers_of_a_kill_are_swept(part: Path) -> None:
    """Prevents: 60 MB of half-written checkpoint for every kill, moved into the finished expert."""
    (part / ".checkpoint-0000040.safetensors.x1").write_bytes(b"half")
    sweep(part)
    assert len(list(part.iterdir())) == 4


def test_checkpoints_beside_a_finished_adapter_are_swept(part: Path) -> None:
    """Prevents: 60 MB of checkpoints in an expert's folder for ever, when the kill fell between its marker and their removal."""
    (part / FINISHED).write_text("{}")
    (part / "adapter_model.safetensors").write_bytes(b"adapter")
    sweep(part, done=True)
    assert sorted(path.name for path in part.iterdir()) == ["adapter_model.safetensors", FINISHED]


def test_a_disk_that_refuses_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    """Prevents: a full disk that costs the checkpoint that was there."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="cannot write .*blocked"):
        store(blocked, checkpoint("origin", state(1)))
