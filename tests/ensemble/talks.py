"""Conversations without a model: turns put into a thread as LangGraph does it, and vectors that mean nothing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from langgraph.checkpoint.base import empty_checkpoint
from numpy.typing import NDArray

from rostok.ensemble.history.answer import Answer
from rostok.ensemble.history.checkpoints import Entries
from rostok.ensemble.history.threads import Conversations, new_turn
from rostok.ensemble.recall.memory import Remembered
from rostok.ensemble.routing.router import Route


class Hashes:
    """An embedder by hash: a text is near to itself and to nothing else."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8).astype(np.float32) - 128 for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32).reshape(len(texts), 32)


def an_answer(key: str, text: str, memories: Sequence[Remembered] = ()) -> Answer:
    """An answer of the base."""
    route = Route(seed=None, score=0.1, threshold=0.4, scores={}, neighbours=())
    return Answer(id=key, text=text, seed=None, experts=(), title="base", route=route, memories=tuple(memories),
                  prompt_tokens=5, tokens=3, seconds=0.1, finish="stop")


def say(talks: Conversations, thread: str, question: str, text: str = "I see.", memories: Sequence[Remembered] = ()) -> str:
    """One more turn in a thread. Returns its id."""
    key, entries = new_turn(), talks.checkpoints.read(thread)
    said: Entries = [
        {"role": "user", "content": question, "title": "", "id": key, "time": time.time()},
        {"role": "assistant", "content": text, "title": "base"}]
    checkpoint: Any = empty_checkpoint()
    checkpoint["channel_values"] = {
        "thread": thread, "turns": [*entries, *said], "question": question, "recalled": [one.model_dump() for one in memories],
        "answer": an_answer(key, text, memories).model_dump()}
    talks.checkpoints.put({"configurable": {"thread_id": thread, "checkpoint_ns": ""}}, checkpoint,
                          {"source": "loop", "step": 1, "parents": {}}, {})
    return key
