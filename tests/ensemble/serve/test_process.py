"""`rostok serve` as a process: its beginning, its end, and who else wants the run."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest

from rostok.ensemble.history.answer import Answer
from rostok.ensemble.history.threads import open_conversations
from rostok.ensemble.remote import RemoteEnsemble, connect
from rostok.ensemble.serving import Serving, serving_file
from rostok.ensemble.talker import server_of
from rostok.records import read_record
from rostok.runs import Run
from rostok.seeds.record import Seed

ROSTOK = [sys.executable, "-m", "rostok.cli"]


@contextmanager
def rostok_serve(run: Run, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the first line it prints, killed at the end if it is still there."""
    process = subprocess.Popen([*ROSTOK, "serve", str(run.folder), "--port", "0", *options], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, line
    finally:
        process.kill()
        process.communicate()


def _rostok(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ROSTOK, *arguments], capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_from_the_first_line_to_ctrl_c_in_mid_stream(ready: Run, seeds: list[Seed]) -> None:
    """Prevents: a token that others can read, a second owner of the run, an answer in the making that is lost at the end."""
    with rostok_serve(ready) as (process, line):
        address, token = re.search(r"(http://127\.0\.0\.1:\d+)/#token=(\S+)", line).groups()  # type: ignore[union-attr]
        serving = read_record(serving_file(ready), Serving)
        assert (serving.address, serving.token, serving.pid) == (address, token, process.pid)
        assert stat.S_IMODE(serving_file(ready).stat().st_mode) == 0o600
        command = Path(f"/proc/{process.pid}/cmdline").read_text(encoding="utf-8")
        assert token not in command and token not in (ready.folder / "run.lock").read_text(encoding="utf-8")

        for second in (("serve", str(ready.folder)), ("night", str(ready.folder))):
            done = _rostok(*second)
            assert done.returncode == 2 and done.stderr.count("\n") == 1 and "rostok serve" in done.stderr, done.stderr

        with connect(ready) as remote:
            assert isinstance(remote, RemoteEnsemble)
            assert remote.route("What does the escapement do?").seed == seeds[1].id

        asked = _rostok("chat", str(ready.folder), "What does the escapement do?")
        assert asked.returncode == 0 and asked.stdout.strip(), asked.stderr
        assert seeds[1].title in asked.stderr

        with httpx2.Client(base_url=address, trust_env=False, headers={"authorization": f"Bearer {token}"}, timeout=30) as client:
            question = {"question": "Tell me a long story of everything there is.", "pin": "base"}
            with client.stream("POST", "/api/conversations/last/ask", json=question) as stream:
                lines = stream.iter_lines()
                while "event: text" not in next(lines):
                    pass
                begun = time.monotonic()
                process.send_signal(signal.SIGINT)
                rest = list(lines)
        assert process.wait(20) == 130 and time.monotonic() - begun < 15
        assert process.stderr is not None and "stopped" in process.stderr.read()
        told = Answer.model_validate(json.loads(rest[-2].removeprefix("data: "))["answer"])
        assert told.finish in ("stopped", "stop", "length") and told.text
    assert not serving_file(ready).exists()
    with open_conversations(ready.conversations) as kept:
        assert [turn.text for turn in kept.turns("last")] == [told.text]
    with connect(ready) as nobody:
        assert nobody is None


def test_a_key_from_the_environment_and_the_end_by_sigterm(ready: Run) -> None:
    """Prevents: a key that lies in the lock or in serve.json; a service manager's stop that leaves serve.json behind."""
    key = "a-key-nobody-can-guess"
    with rostok_serve(ready, "--name", "rostok.example", ROSTOK_KEY=key) as (process, line):
        address = line.split()[-1].split("/#")[0]
        with httpx2.Client(base_url=address, trust_env=False, headers={"host": "rostok.example"}) as client:
            assert client.get("/v1/models").status_code == 401
            assert client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
        for file in ("run.lock", "serve.json", "run.json"):
            assert key not in (ready.folder / file).read_text(encoding="utf-8")
        process.terminate()
        assert process.wait(20) == 0
    assert not serving_file(ready).exists()


def test_what_cannot_be_served_is_told_in_a_sentence(ready: Run, tmp_path: Path) -> None:
    """Prevents: a traceback for a port that is taken, an address without a key, or a folder that is no run."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, says in ((("--port", port), port), (("--host", "0.0.0.0"), "key"),
                                (("--host", "0.0.0.0", "--key", "short"), "16"),
                                (("--host", "no.such.host.invalid", "--key", "x" * 20), "no.such.host.invalid")):
            done = _rostok("serve", str(ready.folder), *arguments)
            assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert _rostok("serve", str(tmp_path / "nothing")).returncode == 2
    assert not serving_file(ready).exists()


def test_a_file_of_a_server_that_is_gone(ready: Run) -> None:
    """Prevents: commands that wait for a server which was killed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serving_file(ready).write_text(Serving(address=f"http://127.0.0.1:{port}", token="t", pid=1).line(), encoding="utf-8")
    with connect(ready) as nobody:
        assert nobody is None
    serving_file(ready).write_text("{", encoding="utf-8")
    with connect(ready) as nobody:
        assert nobody is None


def test_a_stranger_at_the_port_of_a_server_that_is_gone(ready: Run) -> None:
    """Prevents: questions and notes that go to whoever listens where a killed server did."""
    heard = list[str]()

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Stranger) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        left = Serving(address=f"http://127.0.0.1:{listening.server_port}", token="t", pid=os.getpid() + 1)
        serving_file(ready).write_text(left.line(), encoding="utf-8")
        try:
            with server_of(ready) as nobody:
                assert nobody is None
            with ready.held("rostok night"), server_of(ready) as nobody:
                assert nobody is None
        finally:
            listening.shutdown()
            thread.join()
    assert heard == []


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own key has nothing to do here."""
    monkeypatch.delenv("ROSTOK_KEY", raising=False)
