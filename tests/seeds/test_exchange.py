"""Export and import: what goes out comes in again, and what is broken is named while the rest is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rostok.errors import DataError
from rostok.seeds.exchange import export_hf, export_jsonl, import_seeds
from rostok.seeds.library import Library


@pytest.fixture
def seeds(make_thought):
    return [make_thought(number) for number in range(6)]


@pytest.mark.parametrize("way", ["jsonl", "hf", "run"])
def test_what_goes_out_comes_in_again(way: str, seeds, tmp_path: Path) -> None:
    """Prevents: an export that nobody can import, or that loses a field."""
    source = tmp_path / "out"
    if way == "jsonl":
        export_jsonl(seeds, source)
    elif way == "hf":
        export_hf(seeds, source)
    else:
        export_jsonl(seeds, source / "seeds" / "library.jsonl")
    library = Library(tmp_path / "seeds")
    done = import_seeds(library, source)
    assert (len(done.kept), done.known, done.refused) == (6, 0, [])
    again = [seed.model_copy(update={"lineage": seed.lineage.model_copy(update={"place": place})})
             for place, seed in enumerate(seeds)]
    assert library.seeds() == again
    assert [seed.format for seed in library.seeds()] == [seed.format for seed in seeds]
    twice = import_seeds(library, source)
    assert (len(twice.kept), twice.known) == (0, 6) and library.seeds() == again


def test_rejects_are_named_and_the_good_are_kept(seeds, tmp_path: Path) -> None:
    """Prevents: one bad line that costs the whole import, or bad lines that vanish without a word."""
    lines = [seed.line() for seed in seeds]
    edited = json.loads(lines[1])
    edited["title"] = "Another title"
    newer = {**json.loads(lines[3]), "format": 50}
    source = tmp_path / "in.jsonl"
    found = [lines[0], json.dumps(edited), "{", json.dumps(newer), lines[4], lines[4], "17"]
    source.write_text("\n".join(found), encoding="utf-8")
    library = Library(tmp_path / "seeds")
    done = import_seeds(library, source)
    assert [seed.id for seed in library.seeds()] == [seeds[0].id, seeds[4].id]
    assert done.known == 1
    assert [reason.split(": ", 1)[0] for reason in done.refused] == [f"{source}, line {number}" for number in (2, 3, 4, 7)]
    assert "id: does not follow from the content" in done.refused[0] and "newer version" in done.refused[2]


def test_imported_seeds_take_no_place_of_others(seeds, tmp_path: Path, make_seed) -> None:
    """Prevents: seeds left out because another seed of this run was written for the same place."""
    library = Library(tmp_path / "seeds")
    library.admit(make_seed(3, title="A seed of the run itself"))
    export_jsonl(seeds, tmp_path / "in.jsonl")
    import_seeds(library, tmp_path / "in.jsonl")
    assert [seed.lineage.place for seed in library.seeds()] == [3, 4, 5, 6, 7, 8, 9]


def test_a_dataset_does_not_overwrite_a_folder_of_something_else(seeds, tmp_path: Path) -> None:
    """Prevents: `export … . --format hf` that replaces a project's README."""
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(DataError, match="holds no dataset"):
        export_hf(seeds, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="holds neither"):
        import_seeds(Library(tmp_path / "seeds"), tmp_path)


def test_the_card_tells_what_the_data_are(seeds, tmp_path: Path) -> None:
    """Prevents: a dataset that the Hub cannot load, or that hides which words are code's."""
    child = seeds[1].model_copy(update={"lineage": seeds[1].lineage.model_copy(
        update={"operator": "mutate", "parents": (seeds[0].id,), "composed": ("title", "n01 -> n02")})})
    export_hf([seeds[0], child], tmp_path / "data set")
    card = (tmp_path / "data set" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n") and "path: data/train.jsonl" in card
    assert "1 of them were evolved" in card and "2 texts were composed by code" in card and seeds[0].scene in card
    rows = [json.loads(line) for line in (tmp_path / "data set" / "data" / "train.jsonl").read_text().splitlines()]
    assert {tuple(row) for row in rows} == {tuple(rows[0])}, "every row has the same columns"
    assert all(isinstance(row["lineage"], str) and isinstance(row["scores"], str) for row in rows)
