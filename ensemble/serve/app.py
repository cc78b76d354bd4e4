"""The application: all paths behind the guard, and what becomes of what goes wrong."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rostok.ensemble.serve.desk import Desk
from rostok.ensemble.serve.files import Files
from rostok.ensemble.serve.guard import Door, Guard
from rostok.ensemble.serve.limits import Limits
from rostok.ensemble.serve.metrics import CONTENT_TYPE
from rostok.ensemble.serve.openai_api import OpenAI
from rostok.ensemble.serve.page_api import Talks
from rostok.ensemble.serve.reading import Reading
from rostok.ensemble.serve.refusal import Refusal, refused
from rostok.ensemble.serve.sse import Gone
from rostok.errors import RostokError

log = logging.getLogger("rostok.serve")
_SENTENCES = {404: "there is nothing at this address. The API lies below /v1.", 405: "this address does not take that method."}


def build(desk: Desk, door: Door, limits: Limits) -> ASGIApp:
    """Everything that is served."""

    async def health(request: Request) -> Response:
        if desk.answering.closing:
            raise Refusal(503, "the server is shutting down.", "unavailable")
        return JSONResponse({"status": "ok"})

    async def metrics(request: Request) -> Response:
        return Response(desk.metrics.text(), headers={"content-type": CONTENT_TYPE})

    app = Starlette(
        routes=[Path("/health", health), Path("/metrics", metrics), *Files().paths(), *OpenAI(desk).paths(),
                *Talks(desk).paths(), *Reading(desk).paths()],
        exception_handlers={Refusal: _refusal, RostokError: _refusal, HTTPException: _http, Gone: _gone, Exception: _bug})
    app.router.redirect_slashes = False
    return Guard(_Counted(app, desk), door, limits, lambda status: desk.metrics.refused.labels(str(status)).inc())


class _Counted:
    """Counts answers by path and status. The path is the template it fits, so that nobody can invent labels."""

    def __init__(self, app: Starlette, desk: Desk) -> None:
        self.app, self.desk = app, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                path = route.path if isinstance(route, Path) else "other"
                self.desk.metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            await self.app(scope, receive, counted)
        except Exception as error:  # Starlette has answered with 500, and raises it again for whoever logs
            log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)


async def _refusal(request: Request, error: Exception) -> Response:
    return refused(error).response()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = _SENTENCES.get(error.status_code, str(error.detail))
    return Refusal(error.status_code, sentence, headers=dict(error.headers or {})).response()


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _bug(request: Request, error: Exception) -> Response:
    return refused(error).response()
