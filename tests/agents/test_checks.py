"""Checks of the author on a model's fields."""

from __future__ import annotations

import pytest

from rostok.agents import checks
from rostok.agents.language import language

EN, RU = language("en"), language("ru")


@pytest.mark.parametrize(("name", "reason"), [
    ("iron gate", None), ("gate", "not two words"), ("gate gate", "not two words"), ("clay bowl", "copies an example"),
    ("wet rope", "word used twice"), ("the gate", "empty word"), ("quietly gate", "empty word"),
    ("iron gates", "no singular noun"),
    ("boat rowing", "no singular noun"), ("iron xqzv", "no common word"),
])
def test_names(name: str, reason: str | None) -> None:
    """Prevents: nodes that are no things, copies of the examples, and two nodes that share a word."""
    found = checks.name_problem(EN, name, is_common=lambda word: word != "xqzv", taken={"wet"}, avoid={"clay bowl"})
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
    assert checks.sentence_problem(EN, text, start="The iron gate", prompt=prompt) == reason


def test_scenes() -> None:
    """Prevents: scenes that are lists, loops or fragments."""
    scene = ("The fog came in before the boats did. An old net maker stood at the window of the loft and counted the lamps. "
             "One was missing, and he knew whose it was.")
    assert checks.scene_problem(EN, scene, prompt="Write a scene.") is None
    assert checks.scene_problem(EN, scene[:100], prompt="") == "too short"
    assert checks.scene_problem(EN, "1. The fog: it came. " + scene, prompt="") == "not prose"
    assert checks.scene_problem(EN, scene + " One was missing, and he knew whose it was.", prompt="") == "loop"
    assert checks.scene_problem(EN, scene + " That makes three sentences.", prompt="") == "speaks of the task"


@pytest.mark.parametrize(("verb", "reason"), [
    ("lifts", None), ("lift", "no verb"), ("glass", "no verb"), ("makes", "empty verb"), ("warms", "copies an example"),
    ("holds", "verb used twice"), ("lifts the", "no verb"),
])
def test_verbs(verb: str, reason: str | None) -> None:
    """Prevents: an operation that is no operation, or one verb for every transition."""
    assert checks.verb_problem(EN, verb, shown={"warms"}, used={"holds"}) == reason


@pytest.mark.parametrize(("title", "reason"), [
    ("The Bell Under Water", None), ("Bell", "too short"), ("A Whistle Above Snow", "copies an example"),
    ("He Says A Whistle Above Snow", "copies an example"), ("The Boss Says...Nothing", "cut off"),
    ("The Sea of Glass", "title begins like another"), ("the bell rings", "cut off"), ("The Колокол Rings", "wrong script"),
])
def test_titles(title: str, reason: str | None) -> None:
    """Prevents: a library in which three titles of four begin with "The Sea of"."""
    shown = [example.title for example in EN.examples]
    assert checks.title_problem(EN, title, shown=shown, taken=["The Sea of Tears"]) == reason


def test_another_language_is_seen() -> None:
    """Prevents: a Russian library with English scenes in it, or the other way round."""
    russian = ("Старый сторож закрыл дверь и долго слушал, как за стеной скребётся мышь. Утром он нашёл на пороге ключ, которого "
               "никогда не видел.")
    english = ("The old guard closed the door and listened to the mouse behind the wall. In the morning he found a key that he "
               "did not know.")
    assert checks.scene_problem(RU, russian, prompt="") is None
    assert checks.scene_problem(EN, english, prompt="") is None
    assert checks.scene_problem(RU, english, prompt="") == checks.scene_problem(EN, russian, prompt="") == "wrong language"
    assert RU.foreign("ключ key") == pytest.approx(3 / 7)
