"""What this process may use of the machine: cores and memory, inside a container as outside of one."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def total_memory() -> int:
    """Bytes of memory, or what a container allows of them."""
    total = int(psutil.virtual_memory().total)
    limit = _cgroup("memory.max", "memory/memory.limit_in_bytes")
    return total if limit is None else min(total, limit)


def available_memory() -> int:
    """Bytes that can be taken without swapping, or what a container still allows."""
    free = int(psutil.virtual_memory().available)
    limit, used = (_cgroup("memory.max", "memory/memory.limit_in_bytes"),
                   _cgroup("memory.current", "memory/memory.usage_in_bytes"))
    return free if limit is None else min(free, limit - (used or 0))


def processor() -> str:
    """The processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.machine()


def _cgroup(*names: str) -> int | None:
    for name in names:
        try:
            return int((Path("/sys/fs/cgroup") / name).read_text())
        except (OSError, ValueError):  # no such controller, or "max"
            continue
    return None
