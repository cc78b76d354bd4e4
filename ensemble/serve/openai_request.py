"""What an OpenAI client may ask: which fields are kept, which change nothing here, and which are refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from rostok.engines.protocol import Message, Sampling
from rostok.ensemble.serve.refusal import bad
from rostok.ensemble.serve.words import Words, parse

# Sent by many clients, and nothing of the answer depends on them.
_IGNORED = frozenset({
    "user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "verbosity", "reasoning_effort", "keep_alive"})
# What they ask for cannot be done here. The values that ask for nothing are let pass.
_NOTHING: dict[str, tuple[object, ...]] = {
    "n": (1,), "tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"), "function_call": ("none", "auto"),
    "logprobs": (False,), "top_logprobs": (0,), "logit_bias": ({},), "frequency_penalty": (0, 0.0), "presence_penalty": (0, 0.0),
    "top_k": (0, -1), "repeat_last_n": (0,), "response_format": ({"type": "text"},),
    "modalities": (["text"],), "audio": (), "prediction": (), "web_search_options": ()}


class TextPart(Words):
    """A part of a message; others than text are refused."""

    type: Literal["text"]
    text: str


class ChatMessage(Words):
    """One message as it was sent."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = None
    refusal: None = None

    def message(self) -> Message:
        """As the engine takes it."""
        text = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class StreamOptions(Words):
    """`include_usage` puts the count of tokens into a last chunk."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Wishes(Words):
    """Rostok's own field `rostok` of a request."""

    mixing: Literal["one", "adapters", "tokens", "judge"] | None = None


class ChatRequest(Words):
    """The body of /v1/chat/completions."""

    model: str = Field(min_length=1, max_length=200)
    messages: list[ChatMessage] = Field(min_length=1, max_length=500)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.5, le=2)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    rostok: Wishes | None = None

    @field_validator("stop")
    @classmethod
    def _bound(cls, stop: str | list[str] | None) -> str | list[str] | None:
        given = [stop] if isinstance(stop, str) else stop or []
        if len(given) > 16 or any(not one or len(one) > 200 for one in given):
            raise ValueError("give up to 16 strings of 1 to 200 letters")
        return stop

    def sampling(self, usual: Sampling, context: int) -> Sampling:
        """How tokens are drawn; what is not asked for stays as usual.

        Half of the context is the most that an answer gets: clients often ask for thousands, without needing them.
        """
        asked = {"temperature": self.temperature, "top_p": self.top_p, "min_p": self.min_p,
                 "repetition_penalty": self.repetition_penalty}
        most = self.max_completion_tokens or self.max_tokens or usual.max_tokens
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return dataclasses.replace(usual, max_tokens=min(most, context // 2), stop=stop or usual.stop,
                                   **{name: value for name, value in asked.items() if value is not None})


class EmbeddingRequest(Words):
    """The body of /v1/embeddings."""

    model: str = Field(min_length=1, max_length=200)
    input: str | list[str]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None

    def texts(self) -> list[str]:
        """What is to be embedded. Raises `Refusal` where it is nothing, or too much."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not texts or len(texts) > 256 or any(not text.strip() or len(text) > 32_768 for text in texts):
            raise bad("'input': give 1 to 256 texts of 1 to 32,768 letters.", "input")
        return texts


def chat_request(values: Mapping[str, Any]) -> ChatRequest:
    """The request in a body. Raises `Refusal` 400, which names the field."""
    return parse(_understood(values), ChatRequest)


def embedding_request(values: Mapping[str, Any]) -> EmbeddingRequest:
    """The request in a body. Raises `Refusal` 400, which names the field."""
    return parse(_understood(values), EmbeddingRequest)


def _understood(values: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, value in values.items():
        if name in _IGNORED:
            continue
        if name in _NOTHING:
            if value is not None and value not in _NOTHING[name]:
                raise bad(f"'{name}' is not supported here; leave it out.", name, "unsupported_parameter")
            continue
        kept[name] = value
    return kept
