"""The adapters of a llama.cpp engine: known by name, a few of them in memory, some at work. The engine's thread alone loads.

An adapter that is removed or replaced while it is in memory stays there until the last job that was asked of it is done.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rostok.errors import AdapterError

if TYPE_CHECKING:
    from rostok.engines.context import Context

HOT = 8  # adapters in memory unless told otherwise: each makes a change dearer by 0.2 ms; reading one takes 3.5 ms


@dataclass(eq=False)
class Adapter:
    """One version of a registered adapter.

    Attributes:
        stamp: of the file as it was registered; another one is another version.
        handle: llama.cpp's, or None while the adapter is not in memory.
    """

    name: str
    path: Path
    stamp: tuple[int, int]
    handle: Any = None
    users: int = 0        # jobs that wait or run with it
    retired: bool = False  # removed or replaced: freed when the last of them is done


Line = tuple[tuple[Adapter, float], ...]  # adapters at work with their scales; none is the base


class Shelf:
    """Adapters by name. `find`, `retire` and `put` are called under the engine's lock, all else by its thread.

    Attributes:
        at_work: the adapters that the context computes with.
    """

    def __init__(self, llama: Context) -> None:
        self._llama = llama
        self.at_work: Line = ()
        self.hot: OrderedDict[Adapter, None] = OrderedDict()  # those in memory, the one used longest ago first
        self._known: dict[str, Adapter] = {}
        self._retired: list[Adapter] = []
        self._held = HOT

    def find(self, name: str) -> Adapter | None:
        """The adapter of that name, or None."""
        return self._known.get(name)

    def put(self, fresh: Adapter) -> None:
        """Know an adapter by its name from now on, in the place of the one before."""
        self.retire(fresh.name)
        self._known[fresh.name] = fresh

    def retire(self, name: str) -> bool:
        """Forget an adapter; it is freed when the last job that uses it is done. False: there is none of that name."""
        old = self._known.pop(name, None)
        if old is not None:
            old.retired = True
            self._retired.append(old)
        return old is not None

    def hold(self, adapters: int) -> None:
        """Keep at most so many adapters in memory."""
        self._held = max(1, adapters)
        self._make_room()

    def use(self, line: Line) -> None:
        """Compute with these adapters from now on.

        Raises:
            AdapterError: the file of one was changed or removed.
        """
        for adapter, _ in line:
            if adapter.handle is None:
                self.load(adapter, line)
            self.hot.move_to_end(adapter)
        self._llama.use_adapters([(adapter.handle, scale) for adapter, scale in line])
        self.at_work = line
        self._make_room()  # those that were at work until now may go, too

    def load(self, adapter: Adapter, company: Line = ()) -> None:
        """Read an adapter into memory, in the place of the one used longest ago that is not of this company."""
        if stamp_of(adapter.path) != adapter.stamp:
            raise AdapterError(f"adapter '{adapter.name}' was changed or removed since it was registered ({adapter.path}). "
                               "Register it again.")
        adapter.handle = self._llama.load_adapter(adapter.path)
        self.hot[adapter] = None
        self._make_room(adapter, *(one for one, _ in company))

    def sweep(self) -> Sequence[Adapter]:
        """Free what was retired and nobody uses any more; returns it, for who has kept something of it."""
        freed = [adapter for adapter in self._retired if adapter.users == 0]
        for adapter in freed:
            if any(one is adapter for one, _ in self.at_work):
                self.use(())
            self._unload(adapter)
            self._retired.remove(adapter)
        return freed

    def _make_room(self, *stay: Adapter) -> None:
        """Unload those used longest ago until no more are in memory than may be.

        Those at work stay, and those that cannot be read again although somebody still waits for them.
        """
        kept = {*stay, *(adapter for adapter, _ in self.at_work), *(old for old in self._retired if old.users)}
        for old in [old for old in self.hot if old not in kept][: max(0, len(self.hot) - self._held)]:
            self._unload(old)

    def _unload(self, adapter: Adapter) -> None:
        if adapter.handle is not None:
            del self.hot[adapter]
            self._llama.free_adapter(adapter.handle)
            adapter.handle = None


def stamp_of(file: Path) -> tuple[int, int]:
    """What tells one version of a file from another without reading it; (0, 0) where there is none."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
