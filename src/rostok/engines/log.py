"""llama.cpp's log, kept in memory: silent on the terminal, and the reason at hand when something fails."""

from __future__ import annotations

import ctypes
from collections import deque

import llama_cpp as ll

_WARNING = 3
_lines: deque[str] = deque(maxlen=20)


@ll.llama_log_callback  # type: ignore[untyped-decorator]
def _keep(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level >= _WARNING:
        _lines.append(text.decode(errors="replace").strip())


def keep_log() -> None:
    """Send llama.cpp's log here instead of to stderr, and forget what was said before."""
    ll.llama_log_set(_keep, ctypes.c_void_p(0))
    _lines.clear()


def last_log() -> str:
    """What llama.cpp warned of since `keep_log`, at most 300 characters."""
    return " ".join(_lines)[-300:] or "llama.cpp gave no reason"
