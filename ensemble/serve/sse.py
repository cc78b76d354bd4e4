"""Server-sent events that notice when the client has left, and answers that nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
_BEAT = 10.0  # seconds of silence after which a comment is sent, so that a dead connection is found


class Gone(Exception):
    """The client has left."""


class EventStream(Response):
    """Events as they come. `told` is closed when the client leaves, by which the answer behind it is stopped."""

    media_type = "text/event-stream"

    def __init__(self, first: str, told: AsyncGenerator[str]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.first, self.told = first, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the last event, or until nobody listens."""
        gone = asyncio.ensure_future(_left(receive))
        coming: asyncio.Future[str | None] | None = None
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await _part(send, self.first)
            while True:
                coming = coming or asyncio.ensure_future(_next(self.told))
                waited: list[asyncio.Future[Any]] = [coming, gone]
                await asyncio.wait(waited, timeout=_BEAT, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
                if not coming.done():
                    await _part(send, ": still here\n\n")
                    continue
                piece, coming = coming.result(), None
                if piece is None:
                    break
                await _part(send, piece)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (OSError, TimeoutError):
            return  # the connection broke, or the client reads nothing
        finally:
            gone.cancel()
            if coming is not None:
                coming.cancel()
                with suppress(asyncio.CancelledError):
                    await coming
            await self.told.aclose()


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What the work gives; cancelled when the client leaves. Raises `Gone`."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_left(request.receive))
    waited: list[asyncio.Future[Any]] = [task, gone]
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _next(told: AsyncGenerator[str]) -> str | None:
    return await anext(told, None)


async def _part(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode("utf-8", "replace"), "more_body": True})
