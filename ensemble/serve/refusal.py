"""What the server refuses, in the shape that an OpenAI client reads: {"error": {message, type, param, code}}."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse

from rostok.errors import ModelError, PromptTooLong, RostokError, RunError, StorageError

_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass
class Refusal(Exception):
    """An answer with a status of 400 or more. `message` is one sentence that says what to do."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The JSON that is sent."""
        kind = _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), self.status, self.headers)

    def bytes(self) -> bytes:
        """The body as it goes over the wire, for where there is no Starlette yet."""
        return json.dumps(self.body()).encode()


def bad(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """A request that cannot be answered whoever sends it again."""
    return Refusal(400, message, code, param)


def no_model(name: str) -> Refusal:
    """A model that is not served."""
    shown = name if len(name) <= 80 else name[:79] + "…"
    return Refusal(404, f"there is no model '{shown}' here. GET /v1/models lists them; 'auto' finds the expert.",
                   "model_not_found", "model")


def refused(error: BaseException) -> Refusal:
    """Whatever went wrong inside, as an answer. A bug tells its kind only; its words may hold what others have asked."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, PromptTooLong):
        return bad(str(error), "messages", "context_length_exceeded")
    if isinstance(error, RunError):
        return bad(str(error))
    if isinstance(error, ModelError | StorageError):
        return Refusal(503, str(error), "unavailable")
    if isinstance(error, RostokError):
        return Refusal(500, str(error), "damaged")
    return Refusal(500, f"this is a bug of Rostok ({type(error).__name__}); the terminal of rostok serve shows more.", "bug")
