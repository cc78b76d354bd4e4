"""Which adapters lie in memory: the one used longest ago makes room, and nothing that is at work is freed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.engines.shelf import HOT, Adapter, Shelf, stamp_of
from rostok.errors import AdapterError


class Memory:
    """What llama.cpp would hold: a handle is freed once, and never computed with afterwards."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.working: list[int] = []
        self._next = 0

    def load_adapter(self, path: Path) -> int:
        self._next += 1
        self.held.add(self._next)
        return self._next

    def free_adapter(self, handle: int) -> None:
        assert handle not in self.working, "freed at work"
        self.held.remove(handle)

    def use_adapters(self, adapters: Sequence[tuple[int, float]]) -> None:
        self.working = [handle for handle, _ in adapters]
        assert set(self.working) <= self.held, "computed with what was freed"


def known(shelf: Shelf, folder: Path, *names: str) -> list[Adapter]:
    found = []
    for name in names:
        path = folder / f"{name}.gguf"
        path.write_text(name)
        found.append(Adapter(name, path, stamp_of(path)))
        shelf.put(found[-1])
    return found


def shelf_of(memory: Memory) -> Shelf:
    return Shelf(memory)  # type: ignore[arg-type]


def test_the_one_used_longest_ago_makes_room(tmp_path: Path) -> None:
    """Prevents: memory that grows with every expert, and an expert read again that was used just now."""
    memory = Memory()
    shelf = shelf_of(memory)
    shelf.hold(2)
    a, b, c = known(shelf, tmp_path, "a", "b", "c")
    for one in (a, b, a, c):
        shelf.use(((one, 1.0),))
    assert b.handle is None and a.handle is not None and c.handle is not None and len(memory.held) == 2


def test_those_at_work_together_stay_whatever_is_held(tmp_path: Path) -> None:
    """Prevents: an answer of two experts in which the second one puts out the first."""
    memory = Memory()
    shelf = shelf_of(memory)
    shelf.hold(1)
    a, b = known(shelf, tmp_path, "a", "b")
    shelf.use(((a, 0.5), (b, 0.5)))
    assert memory.working == [a.handle, b.handle]


def test_a_retired_adapter_stays_until_its_last_job_is_done(tmp_path: Path) -> None:
    """Prevents: an adapter freed under a job, and one that is never freed."""
    memory = Memory()
    shelf = shelf_of(memory)
    old, = known(shelf, tmp_path, "a")
    shelf.use(((old, 1.0),))
    old.users = 1
    new, = known(shelf, tmp_path, "a")
    assert shelf.find("a") is new and old.retired
    assert not shelf.sweep() and old.handle is not None
    old.users = 0
    assert list(shelf.sweep()) == [old] and old.handle is None and memory.working == [] and not shelf.sweep()
    assert shelf.retire("a") and not shelf.retire("a") and shelf.find("a") is None


def test_a_file_that_has_changed_is_not_read_again(tmp_path: Path) -> None:
    """Prevents: one expert's answers under another one's name."""
    shelf = shelf_of(Memory())
    a, = known(shelf, tmp_path, "a")
    os.utime(a.path, ns=(1, 1))
    with pytest.raises(AdapterError, match="'a' was changed or removed"):
        shelf.use(((a, 1.0),))
    assert shelf.at_work == ()


NAMES = st.sampled_from("abcd")


@given(st.lists(st.one_of(st.tuples(NAMES, NAMES), st.integers(1, 4), NAMES)))
def test_nothing_is_used_freed_or_doubled(tmp_path_factory: pytest.TempPathFactory,
                                          moves: list[tuple[str, str] | int | str]) -> None:
    """Prevents: any order of uses, budgets and removals that ends in a freed handle at work, or in one that nobody frees."""
    memory = Memory()
    shelf = shelf_of(memory)
    folder = tmp_path_factory.mktemp("shelf")
    everybody, budget = known(shelf, folder, *"abcd"), HOT
    for number, move in enumerate(moves):
        if isinstance(move, int):
            budget = move
            shelf.hold(move)
        elif isinstance(move, str):
            everybody[ord(move) - ord("a")].users = number % 2  # somebody still waits for every second one
            shelf.retire(move)
            shelf.sweep()
        else:
            line = [(one, 1.0) for name in dict.fromkeys(move) if (one := shelf.find(name)) is not None]
            shelf.use(tuple(line))
        assert len(memory.held) == len(shelf.hot) == len({one.handle for one in shelf.hot})
        kept = {*(one for one, _ in shelf.at_work), *(one for one in everybody if one.retired and one.users)}
        assert len(shelf.hot) <= max(budget, len(kept))
