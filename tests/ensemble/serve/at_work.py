"""A server in this process, on a real socket, over the module's one ensemble."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from rostok.ensemble.conversation import Ensemble
from rostok.ensemble.serve.guard import LOOPBACK, Door
from rostok.ensemble.serve.limits import Limits
from rostok.ensemble.serve.server import Address, Server, make

TOKEN = "t0ken-of-the-tests-which-is-long"
ROOMY = Limits(rate=10_000, burst=10_000, places=32)


@dataclass
class Served:
    """A server at work."""

    port: int
    server: Server
    clients: dict[str | None, httpx2.Client] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, token: str | None = TOKEN) -> httpx2.Client:
        """A client, with the token unless told otherwise."""
        if token not in self.clients:
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            self.clients[token] = httpx2.Client(base_url=self.address, headers=headers, trust_env=False, timeout=60)
        return self.clients[token]

    def raw(self, request: bytes, size: int = 65536) -> bytes:
        """What comes back for bytes that no client would send."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as wire:
            wire.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer or len(answer) < size:
                part = wire.recv(size)
                if not part:
                    break
                answer += part
                if b"\r\n\r\n" in answer and b"content-length:" in answer:
                    head, _, body = answer.partition(b"\r\n\r\n")
                    if len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
                        break
            return answer


@contextmanager
def serving(ensemble: Ensemble, *, key: str | None = None, limits: Limits = ROOMY,
            names: frozenset[str] = LOOPBACK) -> Iterator[Served]:
    """Serve until the block is left."""
    listening = Address(port=0).listen()
    ready, made = threading.Event(), list[Server]()

    async def run() -> None:
        server = make(ensemble, Door(TOKEN, key, names), limits)
        made.append(server)
        asyncio.get_running_loop().call_later(0.05, ready.set)
        await server.serve(sockets=[listening])

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    port = listening.getsockname()[1]
    thread.start()
    assert ready.wait(60)
    served = Served(port, made[0])
    try:
        yield served
    finally:
        for client in served.clients.values():
            client.close()
        made[0].should_exit = True
        thread.join(20)
        assert not thread.is_alive()
