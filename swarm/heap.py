"""Give memory that was freed back to the system.

Pages have many lengths, so a pass seldom frees blocks of the size that the next one asks for. glibc keeps what it cannot fit and
takes more: eight experts of the embedded base began with 2.9 GiB and stood at 5.5 after 26 steps.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

_GROWTH = 768 << 20  # bytes: what is given back is taken again within a pass, which costs about as much as zeroing it


class Heap:
    """Watches the memory of this process from step to step."""

    def __init__(self) -> None:
        self._least: int | None = None

    def tend(self) -> bool:
        """Call where little is alive; returns whether memory was given back. Only glibc is known to need it."""
        trim = _malloc_trim()
        if trim is None:
            return False
        import psutil

        process = psutil.Process()
        now = int(process.memory_info().rss)
        if self._least is not None and now < self._least + _GROWTH:
            return False
        trim(0)
        self._least = int(process.memory_info().rss)
        return True


@lru_cache(maxsize=1)
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None).malloc_trim
    except AttributeError:  # another C library
        return None
    function.argtypes, function.restype = [ctypes.c_size_t], ctypes.c_int
    return function
