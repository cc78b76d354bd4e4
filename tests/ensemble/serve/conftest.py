"""A server in this process over the module's one ensemble, and answers that can be had slowly or in a stranger's words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rostok.ensemble.conversation import Ensemble
from rostok.ensemble.speak import Spoken
from tests.ensemble.serve.at_work import Served, serving


@pytest.fixture(scope="module")
def served(ensemble: Ensemble) -> Iterator[Served]:
    """A server without a key, with room for everything."""
    with serving(ensemble) as served:
        yield served


@pytest.fixture
def slowly(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and answers do not end by themselves: they say `word` a hundred times a second until somebody stops them."""
    def speak(question: str, route: object, history: object = (), memories: object = (), *, on_text: Callable[[str], None],
              stop: threading.Event, **_: object) -> Spoken:
        said = []
        for _ in range(3000):
            if stop.is_set():
                return Spoken("".join(said).strip(), (), "stopped", 1, len(said), 0.1, ())
            said.append("word ")
            on_text(said[-1])
            time.sleep(0.01)
        raise AssertionError("nobody has stopped this answer")

    return lambda: monkeypatch.setattr(ensemble.speaker, "speak", speak)


@pytest.fixture
def saying(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Call it with a text, and every answer is this text."""
    def begin(text: str) -> None:
        def speak(question: str, route: object, history: object = (), memories: object = (), *, on_text: Callable[[str], None],
                  **_: object) -> Spoken:
            for start in range(0, len(text), 7):
                on_text(text[start : start + 7])
            return Spoken(text, (), "stop", 1, len(text), 0.1, ())

        monkeypatch.setattr(ensemble.speaker, "speak", speak)

    return begin
