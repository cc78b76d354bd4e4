"""Checks of the author on a model's fields."""

from __future__ import annotations

import pytest

from rostok.agents import checks


@pytest.mark.parametrize(("name", "reason"), [
    ("iron gate", None), ("gate", "not two words"), ("gate gate", "not two words"), ("clay bowl", "copies an example"),
    ("wet rope", "word used twice"), ("the gate", "empty word"), ("quietly gate", "empty word"),
    ("iron gates", "no singular noun"),
    ("boat rowing", "no singular noun"), ("iron xqzv", "no common word"),
])
def test_names(name: str, reason: str | None) -> None:
    """Prevents: nodes that are no things, copies of the examples, and two nodes that share a word."""
    found = checks.name_problem(name, is_common=lambda word: word != "xqzv", taken={"wet"}, avoid={"clay bowl"})
    assert found == reason


@pytest.mark.parametrize(("text", "reason"), [
    ("The iron gate keeps the children away from the cold water.", None),
    ("The iron gate keeps the children away from the", "cut off"),
    ("The iron gate keeps the children away from the.", "cut off"),
    ("The iron gate is.", "too short"),
    ("The iron gate is a gate that is a gate that is a gate.", "loop"),
    ("The iron gate, in one plain sentence, is what keeps the water out.", "speaks of the task"),
    ("The iron gate is shut, and what it means to the keeper is plain.", "copies the prompt"),
])
def test_sentences(text: str, reason: str | None) -> None:
    """Prevents: glosses that are cut, loop, or say the prompt again."""
    prompt = "In the loft there is an iron gate. Say what the iron gate is and what it means to the keeper."
    assert checks.sentence_problem(text, start="The iron gate", prompt=prompt) == reason


def test_scenes() -> None:
    """Prevents: scenes that are lists, loops or fragments."""
    scene = ("The fog came in before the boats did. An old net maker stood at the window of the loft and counted the lamps. "
             "One was missing, and he knew whose it was.")
    assert checks.scene_problem(scene, prompt="Write a scene.") is None
    assert checks.scene_problem(scene[:100], prompt="") == "too short"
    assert checks.scene_problem("1. The fog: it came. " + scene, prompt="") == "not prose"
    assert checks.scene_problem(scene + " One was missing, and he knew whose it was.", prompt="") == "loop"
