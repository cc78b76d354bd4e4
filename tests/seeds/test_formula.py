"""The notation: what is written is read again as the same graph, and what is no formula is refused where it goes wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.errors import DataError
from rostok.seeds.formula import Graph, read, write

KEYS = st.integers(0, 99).map(lambda number: f"n{number:02}")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph at all, also such that no seed may have."""
    operations = st.one_of(st.sampled_from(["binds", "leads on", "re-reads", "l’emporte"]),
                           st.text(st.characters(blacklist_categories=["Cs"]), max_size=30))
    edges = draw(st.dictionaries(st.tuples(KEYS, KEYS), operations, max_size=30))
    known = sorted({key for edge in edges for key in edge})
    start = draw(st.sampled_from(known)) if known else draw(KEYS)
    release = draw(st.sampled_from([None, start, *known]))
    clashes = tuple(draw(st.lists(st.tuples(KEYS, KEYS), max_size=3)))
    return Graph(start, frozenset((a, said, b) for (a, b), said in edges.items()), release, clashes)


@given(graph=graphs())
def test_a_graph_comes_back_from_its_formula(graph: Graph) -> None:
    """Prevents: a formula that loses a branch, the release, an operation or a contradiction."""
    text = write(graph)
    assert read(text) == graph
    assert write(read(text)) == text


@given(number=st.integers(0, 2**31))
def test_the_formula_of_a_seed_states_its_graph(make_thought, number: int) -> None:
    """Prevents: a seed whose formula says something else than its transitions."""
    seed = make_thought(number)
    graph = read(seed.formula)
    assert graph.start == seed.nodes[0].key
    assert graph.release == seed.release
    assert graph.steps == {(step.source, step.operation, step.target) for step in seed.transitions}
    assert graph.clashes == tuple((clash.a, clash.b) for clash in seed.contradictions)


def test_white_space_does_not_matter() -> None:
    """Prevents: a formula that was wrapped by an editor and cannot be read any more."""
    assert read("n01  -binds->\n n02!|n03 -calls back-> n01;n01#n02 ,n02 # n03") == read(
        "n01 -binds-> n02! | n03 -calls back-> n01 ; n01 # n02, n02 # n03")


@pytest.mark.parametrize(("text", "reason"), [
    ("", "character 1: no node key"),
    ("lamp -binds-> n01", "character 1: no node key"),
    ("n01 -binds-> ", "character 13: no node key"),
    ("n01 -binds n02", "character 4: something that is no formula, before '-binds n02'"),
    ("n01! -binds-> n02!", "a second release beside n01"),
    ("n01 -binds-> n02 | n01 -calls-> n02", "a second transition from n01 to n02"),
    ("n01 -binds-> n02 ; n01", "no '#' between"),
    ('n01 -"\\x"-> n02', "no JSON string"),
    ("n01 -binds-> n02 ; n01 # n02 and more", "something that is no formula, before 'and more'"),
])
def test_what_is_no_formula_is_refused_where_it_goes_wrong(text: str, reason: str) -> None:
    """Prevents: a formula with a slip of the pen that is read as another graph."""
    with pytest.raises(DataError) as caught:
        read(text)
    assert reason in str(caught.value)


@given(text=st.text(alphabet=st.sampled_from('n01!2 -|;#,>"\\ab'), max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Prevents: another error than a refusal, which would be told as a bug of Rostok."""
    try:
        graph = read(text)
    except DataError:
        return
    assert read(write(graph)) == graph
