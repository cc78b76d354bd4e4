"""The guard: who is let in, on every path, and what a browser may do with what it is given."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from starlette.routing import Route

from rostok.ensemble.conversation import Ensemble
from rostok.ensemble.serve.guard import HEADERS, Door, Guard
from rostok.ensemble.serve.limits import Limits, Rate
from rostok.ensemble.serve.refusal import Refusal
from rostok.ensemble.serve.server import Address
from rostok.errors import ConfigError
from tests.ensemble.serve.at_work import TOKEN, Served, serving

KEY = "a-key-that-is-long-enough"
ASK = {"model": "auto", "max_tokens": 2, "messages": [{"role": "user", "content": "Hello there."}]}


@pytest.fixture(scope="module")
def keyed(ensemble: Ensemble) -> Iterator[Served]:
    """A server with a key, which is also called `rostok.example`."""
    with serving(ensemble, key=KEY, names=frozenset({"127.0.0.1", "rostok.example"})) as served:
        yield served


def _paths(served: Served) -> list[tuple[str, str]]:
    """(method, path) of everything there is."""
    guard = served.server.config.app
    assert isinstance(guard, Guard)
    found = []
    for route in guard.app.app.routes:  # type: ignore[attr-defined]
        assert isinstance(route, Route)
        path = route.path
        for name in ("thread", "seed", "ticket", "name", "model:path"):
            path = path.replace("{" + name + "}", "x")
        found += [(method, path) for method in sorted(route.methods or ()) if method != "HEAD"]
    return found


PUBLIC = {("GET", "/"), ("GET", "/health"), ("GET", "/page/x"), ("GET", "/report/x")}


def test_every_path_wants_the_key(keyed: Served) -> None:
    """Prevents: a key that is asked for on one path and forgotten on another (streams, files, metrics)."""
    paths = _paths(keyed)
    assert len(paths) > 30
    for token in (None, "wrong", KEY[:-1], KEY + "x", TOKEN[:-1]):
        client = keyed.client(token)
        for method, path in paths if token is None else [("GET", "/metrics"), ("GET", "/v1/models"), ("GET", "/api/run")]:
            status = client.request(method, path, json={} if method == "POST" else None).status_code
            assert (status == 401) == ((method, path) not in PUBLIC), (method, path, token)
    for token in (KEY, TOKEN):
        client = keyed.client(token)
        assert client.get("/metrics").status_code == client.get("/v1/models").status_code == 200
        assert client.get("/api/run").status_code == client.post("/v1/chat/completions", json=ASK).status_code == 200


def test_without_a_key_the_page_still_wants_its_token(served: Served) -> None:
    """Prevents: conversations that every user of the machine can read."""
    for token in (None, TOKEN + "x"):
        client = served.client(token)
        for method, path in _paths(served):
            refused = client.request(method, path, json={} if method == "POST" else None).status_code == 401
            assert refused == path.startswith("/api"), (method, path)
    assert served.client().get("/api/run").status_code == 200


@pytest.mark.parametrize("header", ["Basic dG9rZW4=", "Bearer", "bearer " + TOKEN + " " + TOKEN, "Bearer\t" + TOKEN, TOKEN,
                                    "Bearer tökën", "Bearer " + "x" * 20_000])
def test_other_ways_of_writing_the_token(served: Served, header: str) -> None:
    """Prevents: a header that is half understood, or one whose comparison raises."""
    answer = served.client(token=None).get("/api/run", headers={"authorization": header.encode("utf-8")})
    assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"


def test_two_authorizations_are_none(served: Served) -> None:
    """Prevents: a proxy that checks the first of two headers, and a server that takes the second."""
    answer = served.raw(f"GET /api/run HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
                        "Authorization: Bearer x\r\n\r\n".encode())
    assert b" 401 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "localhost.evil.example",
                                  "0.0.0.0", "10.0.0.1", "localhost@evil.example", "localhost.", "[::2]", "",
                                  "127.0.0.1:80:80", "127.1"])
def test_a_rebound_name_is_refused(served: Served, host: str) -> None:
    """Prevents: a stranger's page whose name was pointed at 127.0.0.1 (DNS rebinding), on whatever path it asks."""
    for method, path in _paths(served) if host == "evil.example" else [("GET", "/"), ("GET", "/api/run")]:
        answer = served.client().request(method, path, headers={"host": host}, json={} if method == "POST" else None)
        assert answer.status_code in (400, 403), (method, path)
    assert served.client().get("/health", headers={"host": "LOCALHOST:1"}).status_code == 200
    assert served.client().get("/health", headers={"host": "[::1]:8321"}).status_code == 200


def test_a_name_that_was_allowed(keyed: Served) -> None:
    """Prevents: a proxy's name that is refused, or one name that lets all in."""
    assert keyed.client(KEY).get("/v1/models", headers={"host": "rostok.example"}).status_code == 200
    assert keyed.client(KEY).get("/v1/models", headers={"host": "rostok.example:443"}).status_code == 200
    assert keyed.client(KEY).get("/v1/models", headers={"host": "other.example"}).status_code == 403


@pytest.mark.parametrize("headers", [
    {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://localhost:1"}, {"origin": ""},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}])
def test_other_sites_are_refused(served: Served, headers: dict[str, str]) -> None:
    """Prevents: a page of another site, or of another port of this machine, that asks with the user's browser."""
    everywhere = headers.get("origin") == "https://evil.example" or headers.get("sec-fetch-site") == "same-site"
    for method, path in _paths(served) if everywhere else [("GET", "/"), ("POST", "/v1/embeddings"), ("GET", "/page/app.js")]:
        assert served.client().request(method, path, headers=headers, json={} if method == "POST" else None).status_code == 403


def test_the_own_page_and_a_link_to_it_are_not(served: Served) -> None:
    """Prevents: a guard that locks out the page, or the link that somebody clicks in a terminal in the browser."""
    own = {"origin": served.address, "sec-fetch-site": "same-origin"}
    assert served.client().post("/api/route", json={"question": "Hello."}, headers=own).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert served.client(None).get("/", headers=link).status_code == 200
    assert served.client(None).get("/", headers={**link, "sec-fetch-dest": "iframe"}).status_code == 403
    assert served.client(None).get("/v1/models", headers=link).status_code == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "",
                                  "application/json; charset=utf-16", "application/jsonx"])
def test_posts_are_json_only(served: Served, kind: str) -> None:
    """Prevents: a form on another site, which sends these types without asking first."""
    for method, path in _paths(served):
        if method == "POST" and (kind == "text/plain" or path.startswith("/v1")):
            answer = served.client().post(path, content=b'{"a": 1}', headers={"content-type": kind})
            assert answer.status_code == 415, path
    zipped = {"content-type": "application/json", "content-encoding": "gzip"}
    assert served.client().post("/v1/chat/completions", content=b"x", headers=zipped).status_code == 415


def test_a_preflight_is_not_answered(served: Served) -> None:
    """Prevents: CORS headers by which another site could read answers."""
    answer = served.client(None).options("/v1/chat/completions", headers={
        "origin": "https://evil.example", "access-control-request-method": "POST"})
    assert answer.status_code == 403 and not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_is_armed(served: Served) -> None:
    """Prevents: an answer, of an error too, that a browser may frame, sniff, cache or run."""
    for method, path in [*_paths(served), ("GET", "/nothing"), ("PUT", "/health"), ("GET", "/page/app.js")]:
        for token in (TOKEN, None):
            told = served.client(token).request(method, path, json={} if method == "POST" else None).headers
            for name in HEADERS:
                assert name.decode() in told, (method, path, name)
            policy = told["content-security-policy"]
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy and "http:" not in policy and "*" not in policy
            assert "server" not in told


def test_sizes(served: Served) -> None:
    """Prevents: a body of any length, said or not, that is kept in memory."""
    huge = b'{"x": "' + b"y" * (2 << 20) + b'"}'
    for path in ("/v1/chat/completions", "/api/notes", "/api/conversations/x/ask", "/v1/embeddings"):
        assert served.client().post(path, content=huge, headers={"content-type": "application/json"}).status_code == 413
        parts = served.client().post(path, content=iter([huge]), headers={"content-type": "application/json"})
        assert parts.status_code == 413  # chunked: nobody says how long it will be
    answer = served.raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                        b"Content-Length: 99999999999999\r\n\r\n{")
    assert b" 413 " in answer.split(b"\r\n")[0]


def test_a_slow_body_is_given_up(ensemble: Ensemble) -> None:
    """Prevents: connections that are held open by a byte now and then."""
    with serving(ensemble, limits=Limits(seconds=0.3)) as served:
        answer = served.raw(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                            b"Content-Length: 50\r\n\r\n{")
        assert b" 408 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize(("request_", "status"), [
    (b"GET / HTTP/1.1\r\nContent-Length: 50", b"400"), (b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked", b"400"),
    (b"POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 50", b"400"),
    (b"DELETE /api/conversations/x HTTP/1.1\r\nContent-Length: 50", b"401"),
    (b"POST /api/notes HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 50", b"401")])
def test_nobody_without_credentials_is_waited_for(ensemble: Ensemble, request_: bytes, status: bytes) -> None:
    """Prevents: a stranger who holds a request for as long as a body may take, by announcing one and sending nothing."""
    with serving(ensemble, limits=Limits(seconds=0.3)) as served:
        answer = served.raw(request_ + b"\r\nHost: localhost\r\n\r\n")
        assert answer.split(b" ")[1] == status, answer[:200]


def test_a_flood_is_told_to_wait(ensemble: Ensemble) -> None:
    """Prevents: one address that takes everything, by requests that are refused too."""
    with serving(ensemble, limits=Limits(rate=0.5, burst=5)) as served:
        answers = [served.client(None).get("/api/run") for _ in range(8)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
        assert answers[-1].json()["error"]["type"] == "rate_limit_error" and int(answers[-1].headers["retry-after"]) >= 1


def test_a_crowd_is_told_to_wait(ensemble: Ensemble) -> None:
    """Prevents: requests without bound that are in work at once, such as bodies that come a byte at a time."""
    with serving(ensemble, limits=Limits(requests=2)) as served:
        slow = (b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 50\r\n\r\n{")
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(socket.create_connection(("127.0.0.1", served.port))).sendall(slow)
            deadline = time.monotonic() + 10
            while (answer := served.client().get("/health")).status_code == 200 and time.monotonic() < deadline:
                pass
            assert answer.status_code == 503 and answer.json()["error"]["code"] == "overloaded"


def test_a_bucket_fills_again() -> None:
    """Prevents: an address that stays locked out, and a table of addresses that grows without end."""
    now = [0.0]
    rate = Rate(2.0, 3, clock=lambda: now[0], addresses=2)
    for _ in range(3):
        rate.take("a")
    with pytest.raises(Refusal):
        rate.take("a")
    now[0] += 0.5
    rate.take("a")
    with pytest.raises(Refusal):
        rate.take("a")
    rate.take("b"), rate.take("c")
    assert len(rate._buckets) == 2


@pytest.mark.parametrize("request_", [
    b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
    b"\x00\x01\x02\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\nhello",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_header_tricks(served: Served, request_: bytes) -> None:
    """Prevents: requests that two readers understand differently; a server that falls over them."""
    line = served.raw(request_).split(b"\r\n")[0]
    assert line.split(b" ")[1] in (b"400", b"401", b"403", b"405", b"413", b"415", b"431"), line
    assert served.client(None).get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/page/../guard.py", "/page/%2e%2e/guard.py", "/page//etc/passwd", "/page/..%2f..%2frun.json",
                                  "/page/%00", "/report/../run.json", "/page/app.js%00.css", "//etc/passwd", "/page/",
                                  "/api/seeds/..%2f..%2frun.json", "/api/conversations/..%2fx", "/v1/models/..%2f..%2frun.json"])
def test_no_path_reaches_the_disk(served: Served, path: str) -> None:
    """Prevents: a file of the run, or of the machine, by a path in the address."""
    answer = served.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    assert answer.split(b" ")[1] in (b"400", b"404"), answer[:200]


def test_secrets_are_compared_whole() -> None:
    """Prevents: a key of the wrong case, with something before or after it, or an empty one that fits no key at all."""
    door = Door("token", "key-ä", names=frozenset())
    assert door.admits("Bearer token") and door.admits("bearer key-ä")
    for wrong in ("Bearer ", "Bearer tok", "Bearer Token", "token", "", "Bearer token x", "Bearer \udcff"):
        assert not door.admits(wrong)
    assert not Door("t", None).admits("Bearer None") and not Door("t", None).admits("Bearer ")
    assert "token" not in repr(door) and "key-ä" not in repr(door)


def test_another_address_needs_a_key() -> None:
    """Prevents: a server that is open to the whole network without anybody having said so."""
    for wrong in ({"host": "0.0.0.0"}, {"host": "::"}, {"host": "192.168.1.5"}, {"host": "machine.lan"},
                  {"names": ("rostok.example",)}):
        with pytest.raises(ConfigError, match="key"):
            Address(**wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="16"):
            Address(**wrong, key="short")  # type: ignore[arg-type]
    everywhere = Address(host="0.0.0.0", key=KEY).door("t")
    assert everywhere.knows("192.168.1.5:8321") and everywhere.knows("[fe80::1]") and everywhere.knows("localhost")
    assert not everywhere.knows("evil.example")
    assert Address(host="127.0.0.1").local and Address(host="localhost").local and Address(host="::1").local
