"""Models on servers: the contract against a real llama-server, and what can go wrong between two processes."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from rostok.engines.llamacpp import LlamaCppEngine
from rostok.engines.protocol import Engine, Sampling
from rostok.engines.server import ServerEngine
from rostok.errors import AdapterError, GrammarError, ModelError, ServerError
from tests.engines.contract import LONG, SCHEMA, SECONDS, EngineContract, answer, answers, ask, raw
from tests.engines.llama_server_process import Process, free_port, running


@pytest.fixture(scope="session")
def llama_server(base_gguf: Path, gguf_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A llama-server with the embedded base, four slots and both adapters."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with running(base_gguf, log, "--lora", ",".join(map(str, gguf_adapters.values()))) as process:
        yield process


class TestServerEngine(EngineContract):
    """Slots are filled as requests come in and their rounding depends on who sits beside whom, so only a request alone gives
    the same text again."""

    promises = frozenset({"alone"})

    @pytest.fixture(scope="class")
    def engine(self, llama_server: Process) -> Iterator[Engine]:
        with ServerEngine(llama_server.url, context=384, queue=self.queue) as engine:
            yield engine

    @pytest.fixture(scope="class")
    def adapters(self, gguf_adapters: dict[str, Path]) -> dict[str, Path]:
        return gguf_adapters

    @pytest.fixture
    def another(self, llama_server: Process) -> Iterator[Engine]:
        with ServerEngine(llama_server.url, context=384) as engine:
            yield engine


# ── what llama-server in particular must be asked for ───────────────────────────────────────────────────────


def test_it_is_the_model_of_the_engine_in_process(llama_server: Process, engine: LlamaCppEngine) -> None:
    """Prevents: another template, other token ids or other probabilities over HTTP than in this process."""
    texts = [" Paris.", " carburettor.", " Первый снег", "<|im_end|>"]
    with ServerEngine(llama_server.url) as server:
        assert server.tokenize("<|im_start|>Перв 日") == engine.tokenize("<|im_start|>Перв 日")
        assert server.template == engine.template
        assert server.adds_bos == engine.adds_bos
        ours, theirs = (one.score("The capital of France is", texts) for one in (engine, server))
    assert [score.tokens for score in ours] == [score.tokens for score in theirs]
    assert [score.nats for score in ours] == pytest.approx([score.nats for score in theirs], rel=0.02)


def test_slots_are_idle_after_cancelling(llama_server: Process) -> None:
    """Prevents: a server that goes on writing for callers who have long gone."""
    with ServerEngine(llama_server.url) as engine:
        for on_text in (None, lambda text: None):
            futures = [engine.submit(ask("Tell a long story.", seed=seed, sampling=LONG), on_text) for seed in range(8)]
            _until(lambda: sum(slot["is_processing"] for slot in _get(llama_server, "/slots")) == 4)
            for future in futures:
                future.cancel()
            _until(lambda: not any(slot["is_processing"] for slot in _get(llama_server, "/slots")))


def test_no_more_is_sent_than_the_server_has_slots(llama_server: Process) -> None:
    """Prevents: 60 requests that wait in a server of 4 slots, where they hold its threads and cancelling takes a round trip."""
    with proxy(llama_server) as between, ServerEngine(between.url, parallel=64) as engine:
        assert len(answers(engine, [ask(seed=seed) for seed in range(12)])) == 12
    assert between.most == 4


def test_an_adapter_the_server_was_not_started_with_is_told(llama_server: Process, tmp_path: Path) -> None:
    """Prevents: the base's answers under an expert's name."""
    path = tmp_path / "other.gguf"
    path.write_bytes(b"GGUF")
    words = r"Start it again with `--lora .*other\.gguf`"
    with ServerEngine(llama_server.url) as engine, pytest.raises(AdapterError, match=words):
        engine.add_adapter("other", path)


# ── servers that die, load, or are none ─────────────────────────────────────────────────────────────────────


def test_a_dead_server_is_told_in_a_sentence() -> None:
    """Prevents: a traceback of the HTTP client, or a minute of silent tries."""
    begun = time.monotonic()
    words = r"no model server answers at http://127\.0\.0\.1:\d+ .*Is it running there\? Start one"
    with pytest.raises(ServerError, match=words):
        ServerEngine(f"http://127.0.0.1:{free_port()}/v1/")
    assert time.monotonic() - begun < 10


def test_a_server_that_dies_and_comes_back(base_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a stream that hangs for ever when its server is killed, a key in an error, a night lost to a restart."""
    process = Process(base_gguf, tmp_path / "log.txt", "--api-key", "correct-horse", slots=2)
    try:
        process.start(wait=False)
        _until(lambda: _listens(process.port))
        monkeypatch.setenv("ROSTOK_API_KEY", "correct-horse")
        with ServerEngine(process.url) as patient, ServerEngine(process.url, retries=0) as hasty:  # both wait while it loads
            with pytest.raises(ServerError, match="ROSTOK_API_KEY") as told:
                ServerEngine(process.url, key="wrong-donkey")
            assert "donkey" not in str(told.value)
            pieces: list[str] = []
            future = patient.submit(ask("Tell a long story.", sampling=LONG), pieces.append)
            _until(lambda: len(pieces) > 2)
            process.kill()
            with pytest.raises(ServerError, match=r"broke off.*Is it still running"):
                future.result(20)
            with pytest.raises(ServerError, match="Is it running there"):
                answer(hasty, ask())
            late = patient.submit(ask())
            time.sleep(0.3)
            process.start()
            assert late.result(SECONDS).tokens > 0
            assert answer(hasty, ask()).tokens > 0
    finally:
        process.kill()


def test_refusals_for_a_while_are_tried_again(llama_server: Process) -> None:
    """Prevents: a stage that ends because a server was busy for a second; a server that is stormed while it is busy."""
    with proxy(llama_server) as between, ServerEngine(between.url) as engine:
        between.refusals = [(503, {}), (429, {"Retry-After": "1.5"}), (0, {})]  # 0: hung up on
        begun = time.monotonic()
        assert answer(engine, ask()).tokens > 0
        assert between.asked("/completion") == 4
        assert time.monotonic() - begun > 0.5 * 0.75 + 1.5 + 2.0 * 0.75
        between.refusals = [(500, {}), (500, {})]
        with ServerEngine(between.url, retries=1) as hasty, pytest.raises(ServerError, match=r"status 500: no\. Look at its log"):
            answer(hasty, ask())
        between.refusals = [(400, {})]
        with pytest.raises(ServerError, match="status 400"):
            answer(engine, ask())
        assert between.asked("/completion") == 7  # what is wrong is not sent again


def test_nothing_is_told_of_this_machine(llama_server: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a key for OpenAI that is sent to whoever listens, telemetry headers, and loopback by way of a proxy."""
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-secret")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with proxy(llama_server) as between, ServerEngine(between.url) as engine:
        assert answer(engine, ask()).tokens > 0
        answer(engine, ask(), lambda text: None)
    told = {name.lower() for headers in between.headers for name in headers}
    assert told <= {"host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length",
                    "idempotency-key"}
    assert "sk-secret" not in str(between.headers)


@pytest.mark.parametrize(("url", "words"), [
    ("127.0.0.1:8080", "no address of a model server"),
    ("http://", "no address of a model server"),
    ("http://me:secret@192.0.2.1:8080", "holds a password"),
    ("http://192.0.2.1:8080/v1", "over plain http"),
])
def test_an_address_that_would_give_the_key_away_is_refused(url: str, words: str) -> None:
    """Prevents: an API key in the clear on the network, or in a log; a bare traceback for a mistyped address."""
    with pytest.raises(ServerError, match=words) as told:
        ServerEngine(url, key="sk-secret")
    assert "secret" not in str(told.value)


def test_an_address_of_something_else_is_told(llama_server: Process) -> None:
    """Prevents: "Expecting value: line 1 column 1" for the address of a web page; the wrong model in silence."""
    with proxy(llama_server) as between:
        with pytest.raises(ServerError, match="no /v1/models"):
            ServerEngine(f"{between.url}/somewhere")
        between.page = "<html>welcome</html>"
        with pytest.raises(ServerError, match="not as a model server does"):
            ServerEngine(between.url)
    with pytest.raises(ModelError, match=r"has no model 'gpt-9'\. It has: "):
        ServerEngine(llama_server.url, model="gpt-9")


# ── servers of which nothing is known ───────────────────────────────────────────────────────────────────────


def test_an_unknown_server_is_asked_in_conversation(llama_server: Process) -> None:
    """Prevents: options sent where they are ignored, and requests that such a server would quietly answer in another way."""
    with proxy(llama_server) as between:
        between.hidden = {"/props", "/tokenize", "/lora-adapters", "/completion", "/version", "/slots"}
        with ServerEngine(between.url, context=512) as engine:
            assert engine.kind == "OpenAI-compatible server"
            assert engine.leaves_out == ("min_p", "dry", "repetition_penalty")
            pieces: list[str] = []
            done = answer(engine, ask(), pieces.append)
            assert ("".join(pieces), done.finish, done.tokens, done.prompt_tokens > 10) == (done.text, "length", 12, True)
            assert answer(engine, ask()).text == done.text
            stop = done.text[4:9]
            cut = answer(engine, ask(sampling=Sampling(max_tokens=12, temperature=0, stop=(stop,))), pieces.append)
            assert (cut.text, cut.finish) == (done.text[: done.text.index(stop)], "stop")
            told = answer(engine, ask(logprobs=True))
            assert len(told.logprobs) == told.tokens == 12
            sampling = Sampling(max_tokens=60, temperature=1.0)
            for item in answers(engine, [ask("Describe a thing.", seed=seed, sampling=sampling, schema=SCHEMA)
                                         for seed in range(3)]):
                assert item.finish == "length" or json.loads(item.text)["kind"] in ("lamp", "rope")
            for request, error, words in ((raw("One"), ModelError, "raw prompt"), (ask(prefill="The"), ModelError, "raw prompt"),
                                          (ask(adapter="a"), AdapterError, "no adapter 'a'"),
                                          (ask(grammar='root ::= "a"'), GrammarError, "takes no GBNF"),
                                          (ask(schema={"type": "integer", "minimum": 1}), GrammarError, "minimum")):
                with pytest.raises(error, match=words):
                    answer(engine, request)
            for call in (lambda: engine.tokenize("a"), lambda: engine.score("a", ["b"]),
                         lambda: engine.add_adapter("a", Path("a.gguf")), lambda: engine.prompt(ask())):
                with pytest.raises(ModelError, match="Use llama-server|no family"):
                    call()


# ── a real server between the engine and llama-server ───────────────────────────────────────────────────────


class Between(ThreadingHTTPServer):
    """Passes everything on to llama-server, except for what a test wants refused or hidden."""

    daemon_threads = True

    def __init__(self, process: Process) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.target = process.url
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.refusals: list[tuple[int, dict[str, str]]] = []  # of the next completions: status and headers
        self.hidden: set[str] = set()
        self.page = ""
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.inside = self.most = 0  # completions that are being answered
        self.lock = threading.Lock()

    def count(self, change: int) -> None:
        with self.lock:
            self.inside += change
            self.most = max(self.most, self.inside)

    def asked(self, path: str) -> int:
        return self.paths.count(path)


class _Passing(BaseHTTPRequestHandler):
    server: Between

    def do_GET(self) -> None:
        counts = self.path == "/completion"
        self.server.count(counts)
        try:
            self._answer()
        finally:
            self.server.count(-counts)

    do_POST = do_GET

    def _answer(self) -> None:
        self.server.headers.append(dict(self.headers.items()))
        self.server.paths.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        if self.server.page:
            self._tell(200, {"Content-Type": "text/html"}, self.server.page.encode())
        elif self.path in self.server.hidden:
            self._tell(404, {"Content-Type": "application/json"}, b'{"error": {"message": "nothing here"}}')
        elif self.path == "/completion" and self.server.refusals:
            status, headers = self.server.refusals.pop(0)
            if status:
                self._tell(status, {"Content-Type": "application/json", **headers}, b'{"error": {"message": "no"}}')
        else:
            request = urllib.request.Request(self.server.target + self.path, body, {"Content-Type": "application/json"})
            try:
                reply = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=SECONDS)
            except HTTPError as error:
                reply = error
            with reply:
                self._tell(reply.status, {"Content-Type": reply.headers["Content-Type"]}, b"")
                while piece := reply.read1():
                    self.wfile.write(piece)
                    self.wfile.flush()

    def _tell(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def proxy(process: Process) -> Iterator[Between]:
    with Between(process) as between:
        thread = threading.Thread(target=between.serve_forever, daemon=True)
        thread.start()
        yield between
        between.shutdown()


def _get(process: Process, path: str) -> Any:
    with urllib.request.urlopen(process.url + path, timeout=10) as reply:
        return json.load(reply)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(true: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)
