"""Gates: every one refuses what it is for, and lets a good page pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.generator.gates import Context, judge, trim
from rostok.seeds.record import Seed

GOOD = ("The keeper walked past the iron gate and counted his steps. Behind it the wet rope lay where he had left it, and the "
        "fog was already in the loft. He thought of the winter when the rope froze and nobody came. Then he bent down, took "
        "one end of it, and began to coil it slowly, as his father had done, until the last light was gone from the window.")


@pytest.fixture
def context(seed: Seed) -> Context:
    return Context(seed, characters=550, near_duplicate=0.8)


def test_a_good_page_passes(context: Context) -> None:
    """Prevents: gates that refuse everything."""
    assert judge(GOOD, context) is None


@pytest.mark.parametrize(("text", "reason"), [
    ("The iron gate is shut.", "too short"),
    (GOOD * 5, "too long"),
    (GOOD.rsplit(" ", 1)[0] + " and the", "cut off"),
    (GOOD + " The wet rope is the rope that is the rope that is the rope that is the rope that is the rope that is.", "loop"),
    (GOOD + " As an AI I have no rope.", "speaks of the task"),
    ("Смотритель прошёл мимо ворот, iron gate, и посчитал шаги. " * 5, "loop"),
    ("Смотритель прошёл мимо ворот (iron gate), посчитал шаги и остановился; за воротами лежала мокрая верёвка, а туман уже "
     "стоял на чердаке. Он вспомнил зиму, когда никто не пришёл, нагнулся, взял конец и начал медленно сматывать её.",
     "wrong script"),
    ("Der Wärter ging an dem Tor vorbei und zählte seine Schritte, iron gate, und dahinter lag das nasse Seil, wo er es "
     "gelassen hatte. Er dachte an den Winter, in dem niemand kam. Dann bückte er sich, nahm ein Ende und begann es langsam "
     "aufzurollen, wie sein Vater es getan hatte.", "wrong language"),
    (GOOD.replace("iron gate", "door").replace("wet rope", "line"), "off the seed"),
])
def test_gates_name_their_reason(context: Context, text: str, reason: str) -> None:
    """Prevents: bad pages that pass, and refusals under the wrong name."""
    verdict = judge(text, context)
    assert verdict is not None
    assert verdict[0] == reason


def test_prompt_copies_are_refused(context: Context) -> None:
    """Prevents: a page that only says its instructions again."""
    context.prompt = "You know this. " + GOOD
    verdict = judge(GOOD, context)
    assert verdict is not None
    assert verdict[0] == "copies the prompt"


def test_near_duplicates_are_refused(context: Context) -> None:
    """Prevents: a corpus of one page in many copies with a word changed."""
    context.remember(3, GOOD)
    verdict = judge(GOOD.replace("slowly", "quickly"), context)
    assert verdict == ("near-duplicate", "of page 3")


@given(st.text(max_size=400))
def test_trimming_never_adds_and_never_loses_a_whole_text(text: str) -> None:
    """Prevents: trimming that empties a page which has no sentence end."""
    trimmed = trim(text)
    assert text.strip().startswith(trimmed)
    assert bool(trimmed) == bool(text.strip())
