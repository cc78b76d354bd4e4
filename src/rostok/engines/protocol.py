"""What a stage may ask of a local model, whatever runs it.

A stage only says what it wants and waits for futures; how many run side by side is the engine's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. `temperature=0` is greedy.

    `dry` is the multiplier of the DRY sampler, which keeps a small model from looping; 0 switches it off.
    """

    max_tokens: int = 160
    temperature: float = 0.8
    min_p: float = 0.05
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    dry: float = 0.8
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Request:
    """One completion to make.

    Attributes:
        messages: the conversation, rendered with the project's own template for the model's family.
        prefill: text the answer begins with; it is part of the prompt, and not of the completion's text.
            Without messages it is the whole prompt, raw.
        seed: of this request's own random generator.
        grammar: GBNF that the completion must follow, or None.
        adapter: id of an adapter registered with `add_adapter`, or None for the base.
        shared: how many leading messages other requests share; their keys and values are computed once.
        tag: what the caller wants to find again on the completion.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    prefill: str = ""
    seed: int = 0
    grammar: str | None = None
    adapter: str | None = None
    shared: int = 0
    tag: object = None


@dataclass(frozen=True)
class Completion:
    """What came back. `finish` is `stop` (end of turn or a stop string) or `length` (max_tokens reached)."""

    text: str
    finish: str
    prompt_tokens: int
    tokens: int
    tag: object = None


class Engine(Protocol):
    """A loaded model. Methods may be called from any thread."""

    name: str

    def submit(self, request: Request, on_text: Callable[[str], None] | None = None) -> Future[Completion]:
        """Queue one request. `on_text` gets whole pieces of text as they come, from the engine's thread.

        The future raises `ModelError` for a prompt that does not fit the context or an unknown adapter.
        """
        ...

    def submit_all(self, requests: Sequence[Request]) -> list[Future[Completion]]:
        """Queue many at once, so that what shares a batch does not depend on who was scheduled first."""
        ...

    def score(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        """Mean log-probability in nats per token of each continuation after the raw prompt, under the base."""
        ...

    def add_adapter(self, name: str, path: Path) -> None:
        """Register a GGUF LoRA adapter under `name`. Raises `ModelError` when it does not fit the base."""
        ...

    def close(self) -> None:
        """Free the model. Requests in flight raise `ModelError`."""
        ...
