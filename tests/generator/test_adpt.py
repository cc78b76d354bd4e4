"""ADPT and its controls: what must score lower than the text it was made from does."""

from __future__ import annotations

import json
import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.errors import DataError
from rostok.generator import adpt
from rostok.generator.adpt import WINDOW, Adpt, measure, windows
from rostok.generator.frozen import frozen, tokenize
from rostok.generator.texts import cut_pages

PROSE = Path(__file__).parent / "prose"
SAMPLES = ("persuasion", "moby_dick", "addresses")


def sample(name: str) -> list[str]:
    """Pages of public-domain prose that the reference has not seen."""
    return cut_pages((PROSE / f"{name}.txt").read_text(encoding="utf-8"))


def content(text: str) -> list[str]:
    """Words that a slot may be filled with."""
    return [token for token in tokenize(text) if token.isalpha() and token.islower() and len(token) > 4]


def assert_lower(control: Adpt, text: Adpt) -> None:
    """The control's interval lies below the text's."""
    assert control.high is not None and text.low is not None
    assert control.high < text.low, f"{control} is not below {text}"


@pytest.fixture(scope="module", params=SAMPLES)
def prose(request: pytest.FixtureRequest) -> list[str]:
    return sample(request.param)


def test_a_doubled_corpus_scores_lower(prose: list[str]) -> None:
    """Prevents: pages said twice that count twice."""
    assert_lower(measure([*prose, *prose]), measure(prose))


def test_a_template_with_swapped_slots_scores_lower(prose: list[str]) -> None:
    """Prevents: one page with other nouns in it that counts as many thoughts."""
    tokens = tokenize(prose[0])
    slots = [place for place, token in enumerate(tokens) if token in content(prose[0])][::2]
    assert len(slots) >= 8
    swapped = []
    for page in prose:
        filled, words = list(tokens), content(page)
        for number, place in enumerate(slots):
            filled[place] = words[number % len(words)]
        swapped.append(" ".join(filled))
    assert_lower(measure(swapped), measure(prose))


def test_shuffled_tokens_score_lower(prose: list[str]) -> None:
    """Prevents: a figure that looks at words and not at what is said with them."""
    dice = random.Random(1)
    shuffled = []
    for page in prose:
        tokens = tokenize(page)
        dice.shuffle(tokens)
        shuffled.append(" ".join(tokens))
    assert_lower(measure(shuffled), measure(prose))


def test_a_word_list_scores_lower(prose: list[str]) -> None:
    """Prevents: a dictionary as the densest of texts."""
    words = list(dict.fromkeys(token.lower() for page in prose for token in tokenize(page) if token.isalpha()))
    by_page = [" ".join(words[start : start + 110]) for start in range(0, len(words), 110)]
    in_order = sorted(words)
    by_letter = [" ".join(in_order[start : start + 110]) for start in range(0, len(words), 110)]
    assert_lower(measure(by_page), measure(prose))
    assert_lower(measure(by_letter), measure(prose))


def test_human_prose_scores_above_a_salad_of_its_own_words(prose: list[str]) -> None:
    """Prevents: a metric that random words win."""
    words = [word for page in prose for word in page.split()]
    random.Random(2).shuffle(words)
    salad = measure([" ".join(words[start : start + 100]) for start in range(0, len(words), 100)])
    text = measure(prose)
    assert_lower(salad, text)
    assert text.low is not None and text.low > 0


def test_a_loop_scores_next_to_nothing(prose: list[str]) -> None:
    """Prevents: a model that says one sentence over and over, and scores as a page."""
    sentence = prose[0].split(". ")[0] + ". "
    assert measure([sentence * 6] * 20).adpt < 0.1 * measure(prose).adpt


def test_the_order_of_pages_does_not_matter(prose: list[str]) -> None:
    """Prevents: a discount that falls on whatever comes last."""
    mixed = list(prose)
    random.Random(3).shuffle(mixed)
    one, other = measure(prose), measure(mixed)
    assert one.novelty == pytest.approx(other.novelty, abs=1e-4)
    assert one.adpt == pytest.approx(other.adpt, rel=0.03)  # whose run of four words was the first has moved


def test_novelty_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a large text whose pairs of fields fill the memory, or count anew in every block."""
    cut = windows([*sample("persuasion"), *sample("persuasion")[:9], "Zzqx."], frozen())
    whole = adpt.novelty(cut)
    monkeypatch.setattr(adpt, "_BLOCK", 7)
    np.testing.assert_allclose(adpt.novelty(cut), whole, rtol=1e-12)
    # By the definition, for one window.
    held = [{tuple(sorted(pair)) for pair in combinations(row[row >= 0].tolist(), 2)} for row in cut.active]
    strength = dict(zip(cut.active[3].tolist(), cut.strength[3].tolist(), strict=True))
    weights = {pair: strength[pair[0]] * strength[pair[1]] for pair in held[3]}
    counts = {pair: sum(pair in other for other in held) for pair in held[3]}
    worth = sum(weights[pair] * sum(1 / k for k in range(1, count + 1)) / count for pair, count in counts.items())
    assert whole[3] == pytest.approx(worth / sum(weights.values()), rel=1e-5)


def test_the_interval_holds_the_figure_and_narrows_with_pages() -> None:
    """Prevents: an interval around something else, or one that no amount of text can narrow."""
    few, many = measure(sample("persuasion")[:10]), measure(sample("persuasion"))
    widths = []
    for found in (few, many):
        assert found.low is not None and found.high is not None
        assert found.low < found.adpt < found.high
        widths.append((found.high - found.low) / found.adpt)
    assert widths[1] < widths[0]


def test_one_page_has_no_interval() -> None:
    """Prevents: a 95% interval of width zero around the figure of a single page."""
    (page, other), whole = sample("persuasion")[:2], " ".join(sample("persuasion"))
    for pages in ([page], [whole], ["", page, ""], [], ["", ""]):
        found = measure(pages)
        assert found.low is None and found.high is None
        assert json.loads(found.line())["low"] is None
    assert measure([page, other]).low is not None


def test_long_pages_are_cut_into_windows() -> None:
    """Prevents: one window of a whole book, in which every field is active."""
    pages = sample("persuasion")
    found = measure([" ".join(pages)])
    assert abs(found.windows - found.tokens / WINDOW) <= 1
    assert found.number == pytest.approx(measure(pages).number, rel=0.15)


@given(st.lists(st.text(max_size=200), max_size=4))
def test_any_text_has_a_density(pages: list[str]) -> None:
    """Prevents: empty pages, emoji or control characters that end a night."""
    found = measure(pages)
    assert (found.low is None) == (found.high is None)
    if found.low is not None and found.high is not None:
        assert 0 <= found.low <= found.high
    assert np.isfinite(found.adpt)


def test_the_reference_is_small_and_knows_its_sources() -> None:
    """Prevents: a package that grows by megabytes, or fields of which nobody knows where they come from."""
    reference = frozen()
    assert len(reference.facts["sources"]) >= 2
    assert len(reference.centroids) == reference.facts["fields"]
    assert reference.ties.max() < len(reference.centroids)
    path = Path(__file__).parents[2] / "generator" / "reference.npz"
    assert path.stat().st_size < 500_000


def test_a_damaged_reference_is_named(tmp_path: Path) -> None:
    """Prevents: a traceback out of zipfile for a file that was cut off."""
    path = tmp_path / "reference.npz"
    path.write_bytes((Path(__file__).parents[2] / "generator" / "reference.npz").read_bytes()[:5000])
    with pytest.raises(DataError, match="cannot be read"):
        frozen(path)
