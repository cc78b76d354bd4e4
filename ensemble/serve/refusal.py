"""What the server refuses, in the shape that an OpenAI client reads: {"error": {message, type, param, code}}."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse

from rostok.errors import ConfigError, ModelError, PromptTooLong, QuestionError, RostokError, RunError, StorageError

_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}

_ERRORS: dict[type[RostokError], tuple[int, str | None, str | None]] = {  # status, code, param; the first that fits
    PromptTooLong: (400, "context_length_exceeded", "messages"), QuestionError: (400, None, None), RunError: (400, None, None),
    ConfigError: (400, None, None), ModelError: (503, "unavailable", None), StorageError: (503, "unavailable", None),
    RostokError: (500, "damaged", None)}


@dataclass
class Refusal(Exception):
    """An answer with a status of 400 or more. `message` is one sentence that says what to do.

    `error` names the class in rostok.errors, so that a shell beside the server can raise it again.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    error: str = ""

    def body(self) -> dict[str, Any]:
        """The JSON that is sent."""
        kind = _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        told = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": told | ({"error": self.error} if self.error else {})}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), self.status, self.headers)


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
    if isinstance(error, RostokError):
        status, code, param = next(told for kind, told in _ERRORS.items() if isinstance(error, kind))
        return Refusal(status, str(error), code, param, error=type(error).__name__)
    return Refusal(500, f"this is a bug of Rostok ({type(error).__name__}); the terminal of rostok serve shows more.", "bug")
