"""`rostok serve RUN`: open the ensemble, print the address, serve until Ctrl-C. One owner process; others ask it.

While it serves, serve.json (readable by its owner only) tells the shells of the same user where it is, and with which token.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import ipaddress
import logging
import os
import secrets
import signal
import socket
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from rostok.config import Settings
from rostok.ensemble.conversation import Ensemble, open_ensemble
from rostok.ensemble.serve.app import build
from rostok.ensemble.serve.desk import Desk
from rostok.ensemble.serve.guard import LOOPBACK, Door
from rostok.ensemble.serve.limits import Limits
from rostok.ensemble.serving import Serving, serving_file
from rostok.errors import ConfigError
from rostok.records import write_atomic
from rostok.runs import Run

PORT = 8321
_SHORTEST_KEY = 16
_CONNECTIONS = 1024   # open at once, idle ones too; more are answered with 503 before they are read
_GRACE = 2            # seconds that connections have to take what was said


@dataclass(frozen=True)
class Address:
    """Where to listen, under which further names, and what everybody must bring.

    Raises:
        ConfigError: reachable from elsewhere without a key, or with one that is too short.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    key: str | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.local and self.key is None:
            what = f"the address {self.host}" if self._bound_elsewhere else f"the name {self.names[0]}"
            raise ConfigError(f"{what} can be reached from other machines, so a key is needed: set ROSTOK_KEY to one of "
                              f"{_SHORTEST_KEY} letters or more, or give --key.")
        if self.key is not None and (len(self.key) < _SHORTEST_KEY or not self.key.isascii() or not self.key.isprintable()
                                     or " " in self.key):
            raise ConfigError(f"the key must have {_SHORTEST_KEY} letters or more, ASCII and without spaces. For example: "
                              f"{secrets.token_urlsafe(24)}")

    @property
    def local(self) -> bool:
        """Whether only this machine is meant."""
        return not self._bound_elsewhere and all(name in LOOPBACK for name in self.names)

    @property
    def _bound_elsewhere(self) -> bool:
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    def listen(self) -> socket.socket:
        """A socket at this address. Raises `ConfigError` where it cannot be had."""
        try:
            family, kind, number, _, where = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            bound = socket.socket(family, kind, number)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited; a small answer else waits 40 ms for an ACK
            bound.bind(where)
            bound.listen(128)
        except OSError as error:
            raise ConfigError(f"{self.host} port {self.port} cannot be listened at ({error.strerror}). Choose another: "
                              "--port 0 takes a free one.") from None
        return bound

    def door(self, token: str) -> Door:
        """Who is let in."""
        everywhere = self.host in ("0.0.0.0", "::")
        names = {_in_brackets(self.host.lower()), *(name.lower() for name in self.names)}
        if everywhere:
            names.add(socket.gethostname().lower())
        if everywhere or not self._bound_elsewhere:
            names |= LOOPBACK
        return Door(token, self.key, frozenset(names), literals=everywhere)


def serve(run: Run, settings: Settings, address: Address, tell: Callable[[str], None], *, opens: bool = False,
          limits: Limits | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM. Call with the run held, in the main thread.

    Args:
        tell: gets the lines for the terminal.
        opens: show the page in the user's browser.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it, after everything was closed.
        ConfigError: the address cannot be listened at.
        RostokError: as `open_ensemble`.
    """
    limits = limits or Limits()
    listening = address.listen()
    with contextlib.closing(listening), open_ensemble(
            run, settings, sequences=settings.ensemble.sequences) as ensemble:
        for sentence in ensemble.skipped:
            tell(f"Note: {sentence}")
        token = secrets.token_urlsafe(32)
        bound, port = listening.getsockname()[:2]
        shown = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1", "localhost": bound}.get(address.host, address.host)
        here = f"http://{_in_brackets(shown)}:{port}"
        with _known(run, Serving(address=here, token=token, pid=os.getpid())), _logging():
            told = asyncio.run(_serve(ensemble, address.door(token), limits, listening, lambda: _greet(
                tell, run, here, token, address, opens)))
    if told == signal.SIGINT:
        raise KeyboardInterrupt


async def _serve(ensemble: Ensemble, door: Door, limits: Limits, listening: socket.socket, ready: Callable[[], None]) -> int:
    """Returns the signal that ended it."""
    server, told = make(ensemble, door, limits), list[int]()

    def end(number: int) -> None:
        server.force_exit = server.should_exit  # the second time at once
        server.should_exit = True
        told.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    loop.call_later(0, ready)
    await server.serve(sockets=[listening])
    return told[0] if told else 0


def make(ensemble: Ensemble, door: Door, limits: Limits) -> Server:
    """The server, not yet at work: `await made.serve(sockets=[…])`."""
    desk = Desk(ensemble, limits.places)
    return Server(desk, uvicorn.Config(
        build(desk, door, limits), http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, limit_concurrency=_CONNECTIONS, timeout_keep_alive=15,
        timeout_graceful_shutdown=_GRACE, h11_max_incomplete_event_size=32 << 10))


class Server(uvicorn.Server):
    """uvicorn, which stops the answers in the making before it waits for their connections."""

    def __init__(self, desk: Desk, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.desk = desk

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `_serve`'s: uvicorn would raise them again before the run is closed."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop answering, keep what was said, end."""
        await self.desk.answering.close()
        await super().shutdown(sockets)


def _greet(tell: Callable[[str], None], run: Run, here: str, token: str, address: Address, opens: bool) -> None:
    link = f"{here}/#token={token}"
    tell(f"The page   {link}")
    tell(f"The API    {here}/v1   ({'with the key' if address.key else 'no key needed on this machine'})")
    if not address.local:
        tell("           Nothing is encrypted on the way: put it behind TLS, or use ssh -L, outside of a trusted network.")
    tell("Ctrl-C ends it.")
    if opens:
        _open(link)


def _open(link: str) -> None:
    """Show the link in a browser without its token in a command line, which everybody on the machine could read."""
    handle, name = tempfile.mkstemp(prefix="rostok-", suffix=".html")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(link)}"><title>Rostok</title>')
    webbrowser.open(Path(name).as_uri())
    asyncio.get_running_loop().call_later(20, lambda: Path(name).unlink(missing_ok=True))


@contextlib.contextmanager
def _known(run: Run, serving: Serving) -> Iterator[None]:
    path = serving_file(run)
    write_atomic(path, serving.line() + "\n", mode=0o600)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """What goes wrong while serving, on stderr; nothing of what people ask."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    loggers = [logging.getLogger("rostok.serve"), logging.getLogger("uvicorn.error")]
    for one in loggers:
        one.addHandler(handler)
        one.propagate = False
        one.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for one in loggers:
            one.removeHandler(handler)


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host

