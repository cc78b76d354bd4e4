"""HTTP to a model server, on the `openai` client: retries, time limits, and names for all that goes wrong on the way.

The client waits 0.5 s, 1 s, 2 s … (less up to a quarter, at random) between tries after a connection error, 408, 409, 429
or 5xx, or as long as the server's Retry-After says. What it would tell about this machine is not sent.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from rostok.errors import ServerError

_READ = 600.0     # seconds without a byte; a long prompt on a slow machine takes minutes
_CONNECT = 5.0
_KEEP_ALIVE = 2.0  # llama-server and vLLM close an idle connection after 5 s; whoever sends into that loses a try


class Refusal(ServerError):
    """A server's answer with a status of 400 or more."""

    def __init__(self, message: str, status: int, kind: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class Wire:
    """A connection to one server.

    Args:
        url: with or without the `/v1` at its end.
        key: sent as a bearer token; never shown.
        retries: tries after the first.
        connections: open at once.

    Raises:
        ServerError: an address that is none, or one that would send the key in the clear.
    """

    def __init__(self, url: str, key: str | None, *, retries: int, connections: int) -> None:
        self.url, self._key = _checked(url, bool(key)), key
        self._http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(_READ, connect=_CONNECT, pool=None),
            limits=httpx2.Limits(max_connections=connections, keepalive_expiry=_KEEP_ALIVE),
            trust_env=not _is_loopback(self.url),  # proxies of the environment are for other machines
            event_hooks={"request": [self._undress]})
        # Without a key of its own the client would take OPENAI_API_KEY and send it to whoever listens here.
        self._client = openai.AsyncOpenAI(base_url=self.url, api_key=key or "none", max_retries=retries, http_client=self._http)

    async def get(self, path: str) -> Any | None:
        """The JSON at this path, or None where there is none. One retry only: nobody waits 15 s for a dead server."""
        try:
            with self._named():
                return self._json(await self._client.with_options(max_retries=1).get(path, cast_to=object))
        except Refusal as refusal:
            if refusal.status in (404, 405, 501):
                return None
            raise

    async def post(self, path: str, body: Mapping[str, Any], *, retries: int | None = None) -> Any:
        """The JSON that is answered.

        Raises:
            Refusal: the server answered with an error.
            ServerError: it did not answer, or not with JSON.
        """
        return self._json(await self.tell(path, body, retries=retries))

    async def tell(self, path: str, body: Mapping[str, Any], *, retries: int | None = None) -> object:
        """Like `post`, for where the server may confirm in prose."""
        client = self._client if retries is None else self._client.with_options(max_retries=retries)
        with self._named():
            return await client.post(path, body=body, cast_to=object)

    @asynccontextmanager
    async def parts(self, path: str, body: Mapping[str, Any], *, stream: bool) -> AsyncIterator[AsyncIterator[Any]]:
        """The answer in parts as they come, or whole as the only part. Leaving the block closes the connection.

        Raises like `post`.
        """
        if not stream:
            yield _one(await self.post(path, body))
            return
        with self._named():
            answer = await self._client.post(path, body={**body, "stream": True}, cast_to=object, stream=True,
                                             stream_cls=openai.AsyncStream[object])
        with self._named(begun=True):
            async with answer:
                yield aiter(answer)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _undress(self, request: httpx2.Request) -> None:
        """Take off what the client tells of this machine, and what it took from OPENAI_* variables."""
        for name in list(request.headers):
            if name.startswith(("x-stainless-", "openai-")) or (name == "authorization" and not self._key):
                del request.headers[name]
        request.headers["user-agent"] = "rostok"

    def _json(self, answer: object) -> Any:
        if not isinstance(answer, dict | list):
            raise ServerError(f"{self.url} answers, but not as a model server does. Check the address; it is the one that "
                              "has /v1/models below it.")
        return answer

    @contextmanager
    def _named(self, *, begun: bool = False) -> Iterator[None]:
        """Give errors their names. `begun`: a part of the answer has come."""
        try:
            yield
        except openai.APITimeoutError:
            raise ServerError(f"the model server at {self.url} has not answered in time. Is it overloaded or stuck? "
                              "Look at its log, or send fewer requests at once.") from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            if begun:
                raise ServerError(f"the connection to the model server at {self.url} broke off ({_reason(error)}). Is it still "
                                  "running? Look at its log and ask again.") from None
            raise ServerError(f"no model server answers at {self.url} ({_reason(error)}). Is it running there? Start one, for "
                              f"example `llama-server -m model.gguf --port {urlsplit(self.url).port or 8080}`, or correct the "
                              "address.") from None
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except openai.APIError as error:  # in the middle of a stream
            raise ServerError(f"the model server at {self.url} broke off: {self._clean(error.message)}") from None
        except json.JSONDecodeError:
            raise ServerError(f"{self.url} sends something that is no JSON. Check that it is a model server.") from None

    def _refusal(self, error: openai.APIStatusError) -> Refusal:
        body = error.body if isinstance(error.body, Mapping) else {}
        said = self._clean(str(body.get("message") or error.message))
        status, kind = error.status_code, str(body.get("type", ""))
        if status in (401, 403):
            advice = "It wants an API key: set ROSTOK_API_KEY to the right one."
        elif status == 404:
            advice = "Check the address (it is the one that has /v1/models below it) and the model's name."
        elif status == 503:
            advice = "It may still be loading its model; ask again later."
        elif status == 429 or status >= 500:
            advice = "Look at its log, or send fewer requests at once."
        else:
            advice = "The request does not suit it."
        return Refusal(f"the model server at {self.url} refuses with status {status}: {said.rstrip('.')}. {advice}", status, kind)

    def _clean(self, said: str) -> str:
        """A server's words on one line, without the key, which some repeat."""
        return " ".join((said.replace(self._key, "***") if self._key else said).split())[:300]


async def _one(part: Any) -> AsyncIterator[Any]:
    yield part


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return " ".join(str(cause).split())[:120] or type(cause).__name__


def _checked(url: str, with_key: bool) -> str:
    """The server's root, without `/v1`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServerError(f"{url!r} is no address of a model server. Give one like http://127.0.0.1:8080.")
    if parts.username or parts.password:
        raise ServerError(f"the address of the model server at {parts.hostname} holds a password, which would end up in logs. "
                          "Take it out and set ROSTOK_API_KEY.")
    if with_key and parts.scheme == "http" and not _is_loopback(url):
        raise ServerError(f"an API key is not sent to {parts.hostname} over plain http, where everybody on the way can read it. "
                          "Use https, or a tunnel to 127.0.0.1.")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
