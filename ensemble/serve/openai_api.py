"""OpenAI's protocol: /v1/models, /v1/chat/completions (whole and streamed) and /v1/embeddings.

`auto` is the router, `base` the base, and each expert has the id of the registry, its seed's id too. Whoever really
answered stands in `model` and, with the reasons, in the field `rostok` of the body and of every chunk. Nothing is kept.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from rostok.ensemble.history.answer import BASE, Answer
from rostok.ensemble.routing.router import Route
from rostok.ensemble.serve.answering import Begun, Speaks
from rostok.ensemble.serve.desk import Desk
from rostok.ensemble.serve.faces import AUTO, Face
from rostok.ensemble.serve.openai_request import ChatRequest, chat_request, embedding_request
from rostok.ensemble.serve.refusal import bad, no_model, refused
from rostok.ensemble.serve.sse import EventStream, unless_gone
from rostok.ensemble.serve.words import body

EMBEDDER = "embedder"
_AT_ONCE = 8  # texts that are embedded in one go: the router's question waits for so many at most


class OpenAI:
    """The paths below /v1 of one server."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def paths(self) -> list[Path]:
        """For Starlette."""
        return [Path("/v1/models", self.models), Path("/v1/models/{model:path}", self.model),
                Path("/v1/chat/completions", self.chat, methods=["POST"]),
                Path("/v1/embeddings", self.embeddings, methods=["POST"])]

    async def models(self, request: Request) -> Response:
        """`auto`, `base`, and each expert."""
        auto = Face(None, AUTO, "the expert that fits, or the base", 0, None)
        faces = [auto, self.desk.faces.of(None), *self.desk.faces.serving]
        return JSONResponse({"object": "list", "data": [self._model(face) for face in faces]})

    async def model(self, request: Request) -> Response:
        """One of them, or the embedder."""
        name = request.path_params["model"]
        if name in (AUTO, EMBEDDER):
            return JSONResponse(self._model(Face(None, name, name, 0, None)))
        face = self.desk.faces.called(name)
        if face is None:
            raise no_model(name)
        return JSONResponse(self._model(face))

    async def chat(self, request: Request) -> Response:
        """One answer, whole or streamed."""
        asked = chat_request(await body(request))
        if asked.messages[-1].role != "user" or not asked.messages[-1].message().content.strip():
            raise bad("the last message must be the user's, and not empty.", "messages")
        speak = self._speak(asked, notes=request.scope.get("rostok.trusted", False))
        chunks = _Chunks(self.desk)
        if asked.stream:
            stream = self.desk.answering.stream(speak)
            told = chunks.of(stream, usage=asked.stream_options is not None and asked.stream_options.include_usage)
            first = await unless_gone(request, anext(told))  # until here a mistake has a status code of its own
            return EventStream(first, told)
        answer = await unless_gone(request, self.desk.answering.whole(speak))
        return JSONResponse(chunks.whole(answer))

    async def embeddings(self, request: Request) -> Response:
        """Vectors of texts, by the embedder that routes."""
        asked = embedding_request(await body(request))
        if asked.model not in (EMBEDDER, AUTO, self.desk.ensemble.embedder.name):
            raise no_model(asked.model)
        vectors, tokens = await unless_gone(request, self._embedded(asked.texts(), asked.dimensions))
        return JSONResponse({
            "object": "list", "model": EMBEDDER, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "data": [{"object": "embedding", "index": place,
                      "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                      if asked.encoding_format == "base64" else np.round(vector.astype(float), 7).tolist()}
                     for place, vector in enumerate(vectors)]})

    async def _embedded(self, texts: list[str], dimensions: int | None) -> tuple[NDArray[np.float32], int]:
        """Vectors and tokens. In slices, since the embedder works for one at a time and every question needs it too."""
        embedder, call = self.desk.ensemble.embedder, self.desk.answering.call
        vectors, tokens = list[NDArray[np.float32]](), 0
        async with self.desk.answering.place():
            for start in range(0, len(texts), _AT_ONCE):
                some = texts[start : start + _AT_ONCE]
                vectors.append(await call(embedder.embed, some))
                if dimensions not in (None, vectors[0].shape[1]):
                    raise bad(f"'dimensions': the vectors have {vectors[0].shape[1]}; leave it out.", "dimensions")
                tokens += await call(embedder.count, some)
        return np.concatenate(vectors), tokens

    def _speak(self, asked: ChatRequest, *, notes: bool) -> Speaks:
        """The question to the ensemble. Raises `Refusal` 404 for a model that is not served.

        Args:
            notes: whether the answer may read what the user asked to be remembered: another user of the machine may not.
        """
        ensemble, pin = self.desk.ensemble, None
        if asked.model != AUTO:
            face = self.desk.faces.called(asked.model)
            if face is None:
                raise no_model(asked.model)
            pin = face.seed or BASE
        sampling = asked.sampling(ensemble.speaker.sampling, ensemble.engine.context)
        messages = [one.message() for one in asked.messages]
        mixing = asked.rostok.mixing if asked.rostok is not None else None

        def speak(on_text: Callable[[str], None], on_route: Callable[[Route], None], stop: threading.Event) -> Answer:
            return ensemble.reply(messages, on_text, on_route, pin, sampling=sampling, mixing=mixing, stop=stop, seed=asked.seed,
                                  notes=notes)

        return speak

    def _model(self, face: Face) -> dict[str, Any]:
        return {"id": face.model, "object": "model", "created": self.desk.started, "owned_by": "rostok",
                "rostok": {"title": face.title, "seed": face.seed}}


class _Chunks:
    """One answer in OpenAI's words."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.id, self.created = desk, f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer as one body."""
        return self._object("chat.completion", answer.seed, {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": answer.text, "refusal": None},
                         "logprobs": None, "finish_reason": _finish(answer)}],
            "usage": _usage(answer)}, self.desk.told(answer))

    async def of(self, stream: AsyncGenerator[Begun | str | Answer], *, usage: bool) -> AsyncGenerator[str]:
        """The answer as events, the last of them [DONE]. Nothing is sent before the first text, so that errors can be told."""
        seed, route, begun = None, None, False
        try:
            async with aclosing(stream):
                async for item in stream:
                    if isinstance(item, Begun):
                        route, seed = item.route, self.desk.speaker_of(item.route)
                        continue
                    if not begun:
                        begun = True
                        reasons = self.desk.faces.reasons(route) if route is not None else {}
                        yield self._chunk(seed, {"role": "assistant", "content": ""}, None, reasons)
                    if isinstance(item, str):
                        yield self._chunk(seed, {"content": item}, None)
                        continue
                    yield self._chunk(item.seed, {}, _finish(item), self.desk.told(item))
                    if usage:
                        yield _event(self._object("chat.completion.chunk", item.seed, {"choices": [], "usage": _usage(item)}))
        except Exception as error:  # the status is sent already, so the client hears of it in the stream
            if not begun:
                raise
            yield _event(refused(error).body())
        yield "data: [DONE]\n\n"

    def _chunk(self, seed: str | None, delta: dict[str, Any], finish: str | None, more: dict[str, Any] | None = None) -> str:
        return _event(self._object("chat.completion.chunk", seed, {
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}, more))

    def _object(self, kind: str, seed: str | None, parts: dict[str, Any], more: dict[str, Any] | None = None) -> dict[str, Any]:
        face = self.desk.faces.of(seed)
        return {"id": self.id, "object": kind, "created": self.created, "model": face.model, "system_fingerprint": None, **parts,
                "rostok": {"expert": face.title, "seed": seed, **(more or {})}}


def _finish(answer: Answer) -> str:
    return "length" if answer.finish == "length" else "stop"


def _usage(answer: Answer) -> dict[str, int]:
    return {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.tokens,
            "total_tokens": answer.prompt_tokens + answer.tokens}


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"  # ASCII: many readers take U+2028 and its like for the end of the line
