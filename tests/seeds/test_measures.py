"""The figures of a library, on vectors and records whose figures are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rostok.seeds.library import DraftRecord, Library
from rostok.seeds.lint import placeholders
from rostok.seeds.measures import copies, measure, nearest, read_manifest, table, vendi, write_manifest


class Known:
    """An embedder whose vectors are given: one direction per title."""

    sha256 = "e" * 64

    def __init__(self, *directions: int) -> None:
        self.directions = directions

    def embed(self, texts):
        return np.eye(8, dtype=np.float32)[list(self.directions[: len(texts)])]


@pytest.mark.parametrize(("directions", "effective"),
                         [((0, 1, 2, 3), 4.0), ((0, 0, 0, 0), 1.0), ((0, 0, 1, 1), 2.0), ((5,), 1.0)])
def test_vendi_is_the_effective_number(directions: tuple[int, ...], effective: float) -> None:
    """Prevents: a hundred copies counted as a hundred thoughts."""
    assert vendi(np.eye(8, dtype=np.float32)[list(directions)]) == pytest.approx(effective)


def test_vendi_is_the_same_from_either_side() -> None:
    """Prevents: another figure as soon as there are more seeds than dimensions."""
    vectors = np.random.default_rng(0).normal(size=(40, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.linalg.eigvalsh((vectors @ vectors.T).astype(np.float64) / 40)
    values = values[values > 1e-9]
    assert vendi(vectors) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-5)


def test_the_nearest_neighbour_is_another_one() -> None:
    """Prevents: every seed as its own nearest neighbour, at distance 0."""
    assert nearest(np.eye(3, dtype=np.float32)) == pytest.approx([1, 1, 1])
    assert nearest(np.eye(3, dtype=np.float32)[[0, 0, 1]]) == pytest.approx([0, 0, 1])


def test_the_figures_of_a_library(make_seed) -> None:
    """Prevents: duplicates, copies or placeholders that the table after an authoring run does not show."""
    seeds = [make_seed(0), make_seed(1), make_seed(2, title="TODO: a title")]
    drafts = [DraftRecord(place=0, attempt=0, admitted=True, retries={"names": 2}, refused={"loop": 3}, tokens=10),
              DraftRecord(place=1, attempt=0, admitted=False, reason="too near", refused={"copies an example": 1}),
              DraftRecord(place=1, attempt=1, admitted=True, tokens=5)]
    found = measure(seeds, Known(0, 0, 1), drafts=drafts, exemplars=("Lamp", "the lamp and the dawn", "warm loaf"))
    assert (found.seeds, found.distinct, found.vendi) == (3, pytest.approx(1 / 3, abs=1e-3), pytest.approx(1.89, abs=0.01))
    assert (found.duplicate_nodes, found.empty_fields, found.exemplar_copies) == (1.0, 1, 3)
    assert (found.first_try, found.tokens, found.retries) == (0.5, 15, {"names": 0.667})
    assert found.copies_refused == 0.25
    assert found.tension is not None and found.tension.median == 0.25 and found.tension_histogram[2] == 24


def test_an_empty_library_has_figures(tmp_path: Path) -> None:
    """Prevents: a division by zero before the first seed is there."""
    manifest = write_manifest(Library(tmp_path), Known())
    assert manifest.measures.seeds == 0 and manifest.measures.vendi is None
    assert table(manifest).row_count == 11


def test_the_first_try_rate_needs_no_drafts(make_seed) -> None:
    """Prevents: a library written by an earlier Rostok that shows no rate at all."""
    again = make_seed(1).lineage.model_copy(update={"attempt": 1})
    seeds = [make_seed(0), make_seed(1, lineage=again), make_seed(2)]
    assert measure(seeds, Known(0, 1, 2), given_up={1, 3}).first_try == 0.5


def test_short_examples_count_as_whole_names_only(make_seed) -> None:
    """Prevents: an ordinary word of a prompt's example found in every scene."""
    assert copies(make_seed(), ["keeper", "tower", "can of oil"]) == ["keeper"]
    assert copies(make_seed(), ["with a can of OIL"]) == ["with a can of OIL"]


def test_a_manifest_speaks_of_the_library_as_it_is(tmp_path: Path, make_seed) -> None:
    """Prevents: figures shown for a library that has changed since, or examples forgotten at the next measuring."""
    library = Library(tmp_path)
    library.admit(make_seed(0))
    written = write_manifest(library, Known(0, 1), exemplars=["lamp"])
    assert read_manifest(library) == written and written.measures.exemplar_copies == 1
    library.admit(make_seed(1))
    assert read_manifest(library) is None
    assert write_manifest(library, Known(0, 1)).measures.exemplar_copies == 2
    with Console(width=100, file=(tmp_path / "shown").open("w")) as console:
        console.print(table(written))
    assert "Vendi score" in (tmp_path / "shown").read_text()


@pytest.mark.parametrize("text", ["TODO later on", "…… ... ……", "[insert the gloss here]", "Lorem ipsum dolor", "aaaaaaaaaaaa"])
def test_placeholders_are_found(text: str, make_seed) -> None:
    """Prevents: a seed with a hole in it that passes as whole."""
    nodes = make_seed().nodes
    seed = make_seed(nodes=(nodes[0].model_copy(update={"gloss": text}), *nodes[1:]))
    assert placeholders(seed) == ["nodes.0.gloss"]
    assert placeholders(make_seed()) == []
