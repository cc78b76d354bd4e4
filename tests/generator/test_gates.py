"""Gates: every one refuses what it is for, and lets a good page pass."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.config import CorpusSettings
from rostok.generator import compose, gates
from rostok.generator.bank import Bank
from rostok.generator.frozen import tokenize
from rostok.generator.gates import Context, Shared, judge, trim
from rostok.generator.plan import plan
from rostok.generator.records import Page
from rostok.generator.texts import cut_pages
from rostok.records import read_jsonl
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
    (GOOD + " The rope rope rope rope was wet.", "loop"),
    (GOOD + " The rope was of grassgrassgrassgrassgrassgrassgrass.", "loop"),
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
    assert verdict is not None and verdict[0] == "near-duplicate" and "of page 3 (0." in verdict[1]


def test_near_duplicates_are_refused_across_the_corpora_of_a_run(seed: Seed, make_seed: Callable[..., Seed]) -> None:
    """Prevents: two experts that learned the same page; an answer to the same general question refused in the second corpus."""
    other = make_seed()
    shared = Shared((seed, other))
    shared.load(other.id, [Page(spec=5, kind="written", author="model", text=GOOD)])
    context = Context(seed, 550, 0.8, shared=shared)
    verdict = judge(GOOD.replace("slowly", "quickly"), context)
    assert verdict is not None and verdict[0] == "near-duplicate" and f"of page 5 of {other.id}" in verdict[1]
    context.kind = "replay"
    assert judge(GOOD.replace("slowly", "quickly"), context) is None


def test_what_was_accepted_here_is_known_to_the_next_corpus(seed: Seed, make_seed: Callable[..., Seed]) -> None:
    """Prevents: a run whose corpora are compared only after it has been stopped and taken up again."""
    shared = Shared((seed, make_seed()))
    Context(seed, 550, 0.8, shared=shared).remember(1, GOOD)
    assert gates.new(GOOD, Context(make_seed(), 550, 0.8, shared=shared)) is not None


def test_a_page_that_speaks_of_another_seed_is_refused(seed: Seed, make_seed: Callable[..., Seed]) -> None:
    """Prevents: an expert that has read of another one's nodes; a page refused for one common word."""
    other = make_seed()  # its nodes: lamp, oil, keeper, dawn, ship, debt, moth, glass
    context = Context(seed, 550, 0.8, shared=Shared((seed, other)))
    assert gates.strays(GOOD + " The moth came to the iron gate.", context) is None
    verdict = gates.strays(GOOD + " The moth came, and the ship went.", context)
    assert verdict == ("names of another seed", f"moth, ship of {other.id}")
    # "keeper" and "old lamp" stand in this seed's own texts
    assert gates.strays(GOOD + " The keeper lit the lamp.", context) is None


def test_the_same_in_other_words_is_refused(context: Context) -> None:
    """Prevents: forty tellings of one scene that share no five words."""
    context.remember(3, GOOD)
    again = ("Counting his steps, the keeper had walked past the iron gate. The wet rope lay behind it, left where he had it; in "
             "the loft was fog already. Of the winter he thought, when nobody came and the rope froze. He bent, and as his "
             "father had done, slowly began to coil it, taking one end, until from the window the last of the light had gone.")
    assert gates.new(again, context) is None
    assert gates.new_in_sense(again, context) is not None
    context.kind = "composed"  # many wordings of the same facts are what composed pages are for
    assert gates.new_in_sense(again, context) is None


def test_shuffled_and_plain_pages_lie_outside_the_band(context: Context) -> None:
    """Prevents: word salad, and pages that say nothing, which no other gate can name."""
    refused = 0
    for number in range(20):
        tokens = tokenize(GOOD)
        random.Random(number).shuffle(tokens)
        verdict = gates.likely(" ".join(tokens), context)
        refused += verdict is not None and verdict[0] == "surprisal too high"
    assert refused >= 12  # on one page chance has its part
    plain = ("It is what it is and it will be what it will be. You can do it if you can, and if you do not, then you do not. "
             "He was there and she was there, and they were all there. There is no more to it than that, and that is all there "
             "is to it. And so it was, and it is so now, and it will be so.")
    verdict = gates.dense(plain, context)
    assert verdict is not None and verdict[0] == "density too low"
    assert gates.likely(GOOD, context) is None and gates.dense(GOOD, context) is None


def test_human_prose_passes_the_bands(context: Context) -> None:
    """Prevents: gates for machine text that refuse people's."""
    for path in (Path(__file__).parent / "prose").glob("*.txt"):
        pages = cut_pages(path.read_text(encoding="utf-8"))[:-1]
        refused = [page for page in pages if gates.likely(page, context) or gates.dense(page, context)]
        assert len(refused) <= 1, refused


@pytest.mark.parametrize("number", [0, 1])
def test_composed_pages_pass_by_construction(number: int) -> None:
    """Prevents: gates and composer that work against each other, until every line of the plan has been given up.

    The seeds are the model's: those made for tests say the same of every node, and looping pages would be theirs.
    """
    seed = read_jsonl(Path(__file__).parent / "written_seeds.jsonl", Seed)[number]
    context = Context(seed, 550, 0.8)
    judged: Counter[str] = Counter()
    refused: dict[str, list[object]] = {"composed": [], "dialogue": []}
    for spec in plan(seed, CorpusSettings(pages=300), 7):
        if spec.kind in ("composed", "dialogue"):
            context.kind = spec.kind
            text = (compose.compose(spec, seed, Bank(), 550, 0, 7) if spec.kind == "composed"
                    else "\n\n".join(turn.content for turn in compose.converse(spec, seed, Bank(), 550, 0, 7)))
            verdict = judge(text, context)
            judged[spec.kind] += 1
            if verdict is None:
                context.remember(spec.number, text)
            else:
                refused[spec.kind].append((verdict, text))
    assert len(refused["composed"]) <= 0.01 * judged["composed"], refused["composed"][:3]
    # a dialogue may say a gloss twice, which is a loop; another attempt says it once
    assert len(refused["dialogue"]) <= 0.06 * judged["dialogue"], refused["dialogue"][:3]


@given(st.text(max_size=400))
def test_trimming_never_adds_and_never_loses_a_whole_text(text: str) -> None:
    """Prevents: trimming that empties a page which has no sentence end."""
    trimmed = trim(text)
    assert text.strip().startswith(trimmed)
    assert bool(trimmed) == bool(text.strip())
