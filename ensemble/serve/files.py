"""The page's own files: read once, served by name from a fixed table, so that no path of a request touches the disk."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path

from rostok.ensemble.serve.refusal import Refusal

_KINDS = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
          "svg": "image/svg+xml"}


class Files:
    """Everything in the folder `page`."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for file in files("rostok.ensemble.serve").joinpath("page").iterdir():
            kind = _KINDS.get(file.name.rpartition(".")[2])
            if kind is not None:
                content = file.read_bytes()
                self._files[file.name] = (content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')

    def paths(self) -> list[Path]:
        """For Starlette."""
        return [Path("/", self.page), Path("/page/{name}", self.file)]

    async def page(self, request: Request) -> Response:
        """The page."""
        return self._answer(request, "index.html")

    async def file(self, request: Request) -> Response:
        """One of its files."""
        return self._answer(request, request.path_params["name"])

    def _answer(self, request: Request, name: str) -> Response:
        if name not in self._files:
            raise Refusal(404, "there is no such file.", "not_found")
        content, kind, tag = self._files[name]
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)
