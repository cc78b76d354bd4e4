"""The guard in front of every path: host, origin, rate, credentials, size; and the headers of every answer.

What each check is for:
    Host      a stranger's page whose name was rebound to 127.0.0.1 (as happened to Ollama) comes with its own name
    Origin    a stranger's page that asks the server directly; Sec-Fetch-Site says it where there is no Origin
    JSON      a form on a stranger's page cannot send this type without a preflight, which nobody answers here
    token     made anew at every start. It travels in the fragment of the printed address, which no server and no Referer
              ever sees, and in a header of each request, so there is no cookie that other ports of this machine could get
    size      the body is read here, whole and bounded, before anybody parses it, and only where one is taken

`PUBLIC` is all that needs no credentials; a path that is not named there and not below /v1 needs the token or the key.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rostok.ensemble.serve.limits import Limits, Rate
from rostok.ensemble.serve.refusal import Refusal, bad

PUBLIC = frozenset({"/", "/health"})     # and the page's own files, which hold nothing of the run
PUBLIC_BELOW = ("/page/", "/report/")    # a report's address is a ticket by itself, see page_api.py
OPEN_ON_LOOPBACK = ("/v1/", "/metrics")  # for programs of this machine, as long as no key is set
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})

CONTENT_SECURITY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                    "require-trusted-types-for 'script'; trusted-types rostok")
HEADERS = {
    b"content-security-policy": CONTENT_SECURITY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
    b"cache-control": b"no-store",
}
_WITH_BODY = ("POST", "PUT", "PATCH")
_DRAINED = 16 << 20  # bytes of a body that is too large which are read all the same: a client that is cut off sees no 413
_HEADERS = 32 << 10  # bytes of all headers together
_SEND = 30.0         # seconds in which a client must take a piece of an answer


@dataclass(frozen=True)
class Door:
    """Who may come in.

    Attributes:
        token: of the page, made at the start.
        key: what the user demands of everybody, or None.
        names: host names and addresses under which the server may be asked for, lower case, IPv6 in brackets.
        literals: whether every IP address is one of them (a server on all addresses); names are what rebinding needs.
    """

    token: str = field(repr=False)
    key: str | None = field(default=None, repr=False)
    names: frozenset[str] = LOOPBACK
    literals: bool = False

    def knows(self, host: str) -> bool:
        """Whether a Host header, with or without port, names this server."""
        name, _, port = host.lower().rpartition(":")
        if not name or not port.isdecimal():
            name = host.lower()
        return name in self.names or (self.literals and _is_address(name))

    def admits(self, authorization: str) -> bool:
        """Whether an Authorization header holds the token or the key. Takes as long for a wrong one as for a right one."""
        scheme, _, given = authorization.partition(" ")
        known = [self._same(given.strip(), secret) for secret in (self.token, self.key) if secret]
        return scheme.lower() == "bearer" and any(known)

    @staticmethod
    def _same(given: str, secret: str) -> bool:
        one, other = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, secret))
        return hmac.compare_digest(one, other)


class Guard:
    """ASGI middleware; the outermost, so that nothing is answered around it."""

    def __init__(self, app: ASGIApp, door: Door, limits: Limits, on_refused: Callable[[int], None] = lambda status: None) -> None:
        self.app, self.door, self.limits, self.on_refused = app, door, limits, on_refused
        self.rate = Rate(limits.rate, limits.burst)
        self._busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, read the body, answer."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # websockets: nobody speaks them here
            return
        self._busy += 1
        try:
            await self._answer(scope, receive, _armed(send))
        finally:
            self._busy -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._busy > self.limits.requests:
                raise Refusal(503, f"{self.limits.requests} requests are in work, which is the most at once. Ask again in a "
                                   "moment.", "overloaded", headers={"retry-after": "2"})
            self._check(scope)
            body = await self._body(scope, receive) if _takes_body(scope) else b""
        except Refusal as refusal:
            self.on_refused(refusal.status)
            await refusal.response()(scope, receive, send)
            return
        except _Left:
            return
        await self.app(scope, _replay(body, receive), send)

    # ── the checks ──────────────────────────────────────────────────────────────────────────────────────────

    def _check(self, scope: Scope) -> None:
        headers = _headers(scope)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADERS:
            raise Refusal(431, "the headers are too large.", "headers_too_large", headers={"connection": "close"})
        self._check_host(headers)
        self._check_origin(scope, headers)
        client = scope.get("client")
        self.rate.take(client[0] if client else "unknown")
        self._check_credentials(scope, headers)
        if scope["method"] in _WITH_BODY:
            _check_type(headers)
        if not _takes_body(scope) and (headers.get("content-length", ["0"]) != ["0"] or "transfer-encoding" in headers):
            raise Refusal(400, "this address takes no body.", headers={"connection": "close"})

    def _check_host(self, headers: dict[str, list[str]]) -> None:
        hosts = headers.get("host", [])
        if len(hosts) != 1:
            raise bad("a request needs exactly one Host header.")
        if not self.door.knows(hosts[0]):
            shown = "".join(letter for letter in hosts[0][:80] if letter.isprintable())
            raise Refusal(403, f"this server is not called '{shown}'. Use the address that rostok serve has printed, or "
                               "allow the name: rostok serve RUN --name NAME.", "unknown_host")

    def _check_origin(self, scope: Scope, headers: dict[str, list[str]]) -> None:
        host = headers["host"][0].lower()
        origins = headers.get("origin", [])
        if any(origin.lower() not in (f"http://{host}", f"https://{host}") for origin in origins):
            raise Refusal(403, "pages of other sites may not ask this server.", "foreign_origin")
        site = headers.get("sec-fetch-site", ["none"])[0]
        follows_a_link = (scope["method"] == "GET" and scope["path"] == "/"
                          and headers.get("sec-fetch-mode") == ["navigate"] and headers.get("sec-fetch-dest") == ["document"])
        if site not in ("none", "same-origin") and not follows_a_link:
            raise Refusal(403, "pages of other sites may not ask this server.", "foreign_origin")

    def _check_credentials(self, scope: Scope, headers: dict[str, list[str]]) -> None:
        path = scope["path"]
        if _is_public(path):
            return
        given = headers.get("authorization", [])
        if len(given) == 1 and self.door.admits(given[0]):
            scope["rostok.trusted"] = True  # whoever has the token is who wrote the notes
            return
        if self.door.key is None and path.startswith(OPEN_ON_LOOPBACK):
            return
        what = "the key that rostok serve was started with" if self.door.key else "the token that rostok serve has printed"
        raise Refusal(401, f"give {what}: Authorization: Bearer …", "invalid_api_key", headers={"www-authenticate": "Bearer"})

    # ── the body ────────────────────────────────────────────────────────────────────────────────────────────

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises `Refusal` 413 and 408, `_Left` when the client went away."""
        most = self.limits.body
        too_large = Refusal(413, f"the request is larger than {most >> 10} KiB. Send less of the conversation.",
                            "request_too_large", headers={"connection": "close"})
        told = _headers(scope).get("content-length", ["0"])[0]
        if told.isdecimal() and int(told[:12]) > _DRAINED:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Left
                    part = message.get("body", b"")
                    size += len(part)
                    if size <= most:
                        parts.append(part)
                    elif size > _DRAINED:
                        raise too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Refusal(408, "the request took too long to come.", "timeout", headers={"connection": "close"}) from None
        if size > most:
            raise too_large
        return b"".join(parts)


class _Left(Exception):
    """The client went away before it had said what it wants."""


def _takes_body(scope: Scope) -> bool:
    """Whether a body is waited for: never before the credentials, so not where none are asked for."""
    return scope["method"] in _WITH_BODY and not _is_public(scope["path"])


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_BELOW)


def _check_type(headers: dict[str, list[str]]) -> None:
    kind, _, parameters = headers.get("content-type", [""])[0].lower().partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"')
    if kind.strip() != "application/json" or charset not in ("", "utf-8", "utf8") or "content-encoding" in headers:
        raise Refusal(415, "send JSON in UTF-8: Content-Type: application/json.", "unsupported_media_type")


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("utf-8", "surrogateescape").strip())
    return found


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, and then what happens to the connection."""
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        while (message := await receive())["type"] != "http.disconnect":
            pass
        return message

    return again


def _armed(send: Send) -> Send:
    """A `send` that puts `HEADERS` on every answer, and does not wait for ever for a client that reads nothing."""

    async def armed(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", []))
            names = {name.lower() for name, _ in own}
            message = {**message, "headers": own + [(name, value) for name, value in HEADERS.items() if name not in names]}
        async with asyncio.timeout(_SEND):
            await send(message)

    return armed


