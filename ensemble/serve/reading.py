"""What there is to read: seeds and their pages, the report, conversations to take away."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections import OrderedDict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from rostok.ensemble.serve.desk import Desk
from rostok.ensemble.serve.refusal import Refusal, bad
from rostok.ensemble.serve.words import Words, read
from rostok.ensemble.shell.export import jsonl, markdown
from rostok.ensemble.shell.wording import Wording
from rostok.generator.folder import remedy
from rostok.generator.records import Page
from rostok.records import iter_jsonl
from rostok.seeds.record import Seed

_TICKETS, _VALID = 8, 600.0  # reports that may be looked at, and for how many seconds each
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


class Reporting(Words):
    """In which language."""

    language: str = "en"


class Reading:
    """The paths below /api that only read the run, and /report."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._reports: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def paths(self) -> list[Path]:
        """For Starlette."""
        return [Path("/api/seeds/{seed}", self.seed), Path("/api/seeds/{seed}/pages", self.pages),
                Path("/api/export", self.export), Path("/api/report", self.make_report, methods=["POST"]),
                Path("/report/{ticket}", self.report)]

    async def seed(self, request: Request) -> Response:
        """A seed with its path."""
        seed = self._seed(request)
        return JSONResponse({**seed.model_dump(mode="json"), **self.desk.faces.of(seed.id).told(),
                             "walk": [step.model_dump() for step in seed.walk()]})

    async def pages(self, request: Request) -> Response:
        """Pages of its corpus from `offset` on, `limit` of them; those of replay, which are about nothing, left out."""
        seed, offset, limit = self._seed(request), _number(request, "offset", 0), _number(request, "limit", 20)
        total, found = await self.desk.answering.call(self._pages, seed.id, offset, min(limit, 100))
        return JSONResponse({"total": total, "pages": found})

    async def export(self, request: Request) -> Response:
        """Conversations as JSONL or Markdown: all of them, or `thread`."""
        wanted, thread = request.query_params.get("format", "jsonl"), request.query_params.get("thread")
        if wanted not in ("jsonl", "markdown"):
            raise bad("'format' is jsonl or markdown.", "format")
        text = await self.desk.answering.call(self._export, wanted, None if thread is None else [thread])
        ending, kind = ("md", "text/markdown") if wanted == "markdown" else ("jsonl", "application/x-ndjson")
        return Response(text, media_type=f"{kind}; charset=utf-8",
                        headers={"content-disposition": f'attachment; filename="conversations.{ending}"'})

    async def make_report(self, request: Request) -> Response:
        """Draw the report anew, and give an address where it can be looked at for ten minutes."""
        asked = await read(request, Reporting)
        page = await self.desk.answering.call(self._report, asked.language)
        ticket = secrets.token_urlsafe(24)
        self._reports[ticket] = (time.monotonic() + _VALID, page)
        while len(self._reports) > _TICKETS:
            self._reports.popitem(last=False)
        return JSONResponse({"url": f"/report/{ticket}"}, 201)

    async def report(self, request: Request) -> Response:
        """A report by its ticket. It is a page of its own origin, which may run its own script and load nothing."""
        until, page = self._reports.get(request.path_params["ticket"], (0.0, ""))
        if until < time.monotonic():
            raise Refusal(404, "this report is no longer here. Open it from the page again.", "not_found")
        hashes = " ".join(f"'sha256-{_hash(script)}'" for script in _SCRIPT.findall(page)) or "'none'"
        policy = (f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
                  "frame-ancestors 'none'; sandbox allow-scripts")
        return Response(page, media_type="text/html; charset=utf-8", headers={"content-security-policy": policy})

    # ── from disk ───────────────────────────────────────────────────────────────────────────────────────────

    def _seed(self, request: Request) -> Seed:
        seed = self.desk.seeds.get(request.path_params["seed"])
        if seed is None:
            raise Refusal(404, "there is no such seed.", "not_found")
        return seed

    def _pages(self, seed: str, offset: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
        path = self.desk.run.corpora / seed / "pages.jsonl"
        pages = [page for page in iter_jsonl(path, Page, remedy=remedy(path.parent)) if page.kind != "replay"]
        return len(pages), [
            {"spec": page.spec, "kind": page.kind, "author": page.author, "register": page.register_, "text": page.text,
             "turns": [turn.model_dump() for turn in page.turns], "held_out": page.held_out}
            for page in pages[offset : offset + limit]]

    def _export(self, wanted: str, threads: list[str] | None) -> str:
        found = self.desk.ensemble.conversations.export(threads)
        return jsonl(found) if wanted == "jsonl" else markdown(found, Wording(self.desk.ensemble.settings.ensemble.language))

    def _report(self, language: str) -> str:
        from rostok.report.page import write_report

        return write_report(self.desk.run, language).read_text(encoding="utf-8")


def _number(request: Request, name: str, usual: int) -> int:
    given = request.query_params.get(name, str(usual))
    if not given.isascii() or not given.isdecimal() or len(given) > 9:
        raise bad(f"'{name}' is a number from 0 on.", name)
    return int(given)


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
