"""A model's words for what code has composed: begun with what must be stated, checked, and refused otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from rostok.engines.protocol import Completion, Engine, Request
from rostok.seeds.reword import EngineReword


class Scripted:
    """An engine that says what it is given, one text after another."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = list(texts), []

    def submit_all(self, requests: Sequence[Request]) -> list[Future[Completion]]:
        self.asked += requests
        futures: list[Future[Completion]] = [Future() for _ in requests]
        for future, text in zip(futures, [*self.texts, *[""] * len(requests)], strict=False):
            future.set_result(Completion(text=text, finish="stop", prompt_tokens=1, tokens=1))
        return futures


def said(seed: Any, what: str, *texts: str) -> str | None:
    return EngineReword(Scripted(*texts), "f" * 64, 7)(seed, what)  # type: ignore[arg-type]


def test_a_transition_keeps_what_it_states(make_seed) -> None:
    """Prevents: a sentence that no longer says which node leads to which."""
    engine = Scripted(" the", ", and nobody in the tower can say why. And so on", " and so.")
    text = EngineReword(engine, "f" * 64, 7)(make_seed(), "n01 -> n02")  # type: ignore[arg-type]
    assert text == "The lamp feeds the oil, and nobody in the tower can say why."
    assert {request.prefill for request in engine.asked} == {"The lamp feeds the oil"}
    assert len({request.seed for request in engine.asked}) == len(engine.asked)


@pytest.mark.parametrize(("what", "text"), [
    ("n01 -> n02", " and that is all of it"),
    ("n01 -> n02", ", feeds the oil, feeds the oil, feeds the oil."),
    ("n01 -> n02", " [insert a reason for it here]."),
    ("n01 # n04", "."),
    ("title", "lamp"),
    ("scene", "It was night."),
])
def test_what_is_no_sentence_is_refused(make_seed, what: str, text: str) -> None:
    """Prevents: cut, empty or looping text in a child's seed."""
    assert said(make_seed(), what, text) is None


def test_titles_and_scenes_are_cut_to_what_is_whole(make_seed) -> None:
    """Prevents: quotation marks, line ends and half sentences in the library."""
    scene = ("The keeper climbs the tower once more before dawn. Below him the ship has lost its way among the rocks, and the "
             "oil is low. He ")
    assert said(make_seed(), "title", "The Oil and the Keeper") == "The Oil and the Keeper"
    assert said(make_seed(), "scene", scene + "waits for") == scene.removesuffix(" He ")


def test_the_embedded_model_rewords_a_transition(engine: Engine, make_seed) -> None:
    """Prevents: prompts and checks that only a scripted engine gets along with: every child would be worded by code."""
    seed = make_seed()
    said = [EngineReword(engine, "f" * 64, number)(seed, "n01 -> n02") for number in range(3)]
    worded = [text for text in said if text is not None]
    assert worded
    assert all(text.startswith("The lamp feeds the oil") and text != "The lamp feeds the oil." for text in worded)
