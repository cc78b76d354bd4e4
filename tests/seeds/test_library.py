"""The library: a seed is admitted once, and whoever edits a line by hand is told what they broke."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rostok.errors import DataError
from rostok.seeds.library import DraftRecord, Library
from rostok.seeds.record import Seed


def edit(library: Library, number: int, **fields: object) -> None:
    """Change fields of one line in the file."""
    lines = [json.loads(line) for line in library.path.read_text(encoding="utf-8").splitlines()]
    lines[number].update(fields)
    library.path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def library(tmp_path: Path, make_seed) -> Library:
    """Three seeds on disk."""
    made = Library(tmp_path)
    for place in range(3):
        made.admit(make_seed(place))
    return made


def test_a_seed_is_admitted_once(library: Library, make_seed) -> None:
    """Prevents: a resumed run that writes the same seed, or a second one for the same place."""
    before = library.path.read_bytes()
    library.admit(make_seed(1))
    library.admit(make_seed(1, title="Another thought for the same place"))
    assert library.path.read_bytes() == before
    assert [seed.lineage.place for seed in library.seeds()] == [0, 1, 2]


def test_a_line_cut_by_a_kill_is_written_again(library: Library, make_seed) -> None:
    """Prevents: a half-written seed that stops the author for good, or stays beside its whole twin."""
    whole = library.path.read_bytes()
    library.path.write_bytes(whole[:-40])
    library.admit(make_seed(2))
    assert library.path.read_bytes() == whole


def test_a_broken_line_names_line_and_field(library: Library) -> None:
    """Prevents: a library edited by hand that fails somewhere in the generator."""
    edit(library, 1, scene="short")
    with pytest.raises(DataError, match=r"library\.jsonl, line 2: scene: "):
        library.seeds()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "s-000000000000"),
        ("formula", "n01 -> n01"),
        ("delta", ["Δ1"]),
        ("glyphs", "◉"),
    ],
)
def test_an_edited_derived_field_is_told(library: Library, field: str, value: object) -> None:
    """Prevents: a formula in the file that says something else than the seed."""
    edit(library, 2, **{field: value})
    with pytest.raises(DataError, match=rf"line 3: {field}: does not follow from the content"):
        library.seeds()


def test_edited_content_does_not_keep_its_old_id(library: Library) -> None:
    """Prevents: a corpus grown from one text under the id of another."""
    edit(library, 0, title="A title changed by hand")
    with pytest.raises(DataError, match="line 1: id: does not follow"):
        library.seeds()
    lines = library.path.read_text(encoding="utf-8").splitlines()
    plain = {
        key: value
        for key, value in json.loads(lines[0]).items()
        if key not in ("id", "formula", "delta", "glyphs")
    }
    library.path.write_text("\n".join([json.dumps(plain), *lines[1:]]) + "\n", encoding="utf-8")
    assert library.seeds()[0].title == "A title changed by hand"


def test_quarantine_keeps_every_draft_once(library: Library) -> None:
    """Prevents: the same refusal counted again after each restart."""
    for _ in range(2):
        library.quarantine(0, 0, "no names", {"names": []})
    library.quarantine(0, 1, "too near", {"names": ["a"]})
    assert [(item.attempt, item.reason) for item in library.quarantined()] == [(0, "no names"), (1, "too near")]


def test_a_seed_is_found_by_the_beginning_of_its_id(library: Library) -> None:
    """Prevents: an ambiguous or mistyped id that silently means the first seed."""
    seed = library.seeds()[1]
    assert library.find(seed.id[:10]) == seed
    with pytest.raises(DataError, match="more than one seed 's-'"):
        library.find("s-")
    with pytest.raises(DataError, match=f"no seed 's-zzz'.*There are: .*{seed.id}"):
        library.find("s-zzz")


def test_an_empty_library_has_no_seeds(tmp_path: Path) -> None:
    """Prevents: a first run that fails because nothing is there yet."""
    assert Library(tmp_path).seeds() == []
    with pytest.raises(DataError, match="There are: none yet"):
        Library(tmp_path).find("s-")


def test_a_library_of_a_newer_version_is_told(library: Library) -> None:
    """Prevents: a newer seed read with an older meaning, or told as a broken line."""
    edit(library, 1, format=99)
    with pytest.raises(DataError, match=r"library\.jsonl, line 2: was written by a newer version of Rostok \(seed format 99"):
        library.seeds()


def test_a_line_without_a_format_is_of_the_first(library: Library) -> None:
    """Prevents: seeds of an earlier Rostok that are refused, or get other glyphs and so other corpora."""
    lines = [Seed.model_validate_json(line).model_copy(update={"format": 1}).line()
             for line in library.path.read_text(encoding="utf-8").splitlines()]
    library.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert [seed.line() for seed in library.seeds()] == lines
    assert {seed.format for seed in library.seeds()} == {1}


def test_a_last_line_without_its_end_is_kept(library: Library, make_seed) -> None:
    """Prevents: a seed lost because an editor has saved the file without a line end."""
    whole = library.path.read_bytes()
    library.path.write_bytes(whole[:-1])
    assert library.admit(make_seed(3))
    assert library.path.read_bytes().startswith(whole)
    assert [seed.lineage.place for seed in library.seeds()] == [0, 1, 2, 3]


def test_a_dangling_transition_is_named_with_its_line(library: Library) -> None:
    """Prevents: a slip in a hand-edited seed that one has to look for among a hundred lines."""
    steps = [step.model_dump() for step in library.seeds()[1].transitions]
    steps[2]["target"] = "n99"
    edit(library, 1, transitions=steps)
    with pytest.raises(DataError, match=r"line 2: .*n03 -> n99: 'n99' is no node of this seed.*rostok seeds lint"):
        library.seeds()


def test_a_change_on_disk_is_seen(library: Library) -> None:
    """Prevents: an edit that the library does not notice because it has read the file before."""
    assert len(library.seeds()) == 3
    lines = library.path.read_text(encoding="utf-8").splitlines()
    library.path.write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    assert len(library.seeds()) == 2


def test_a_draft_is_counted_once(library: Library) -> None:
    """Prevents: rates that grow worse with every restart."""
    for tokens in (10, 99):
        library.note_draft(DraftRecord(place=0, attempt=0, admitted=True, retries={"names": 2}, tokens=tokens))
    library.note_draft(DraftRecord(place=0, attempt=1, admitted=False, reason="too near"))
    assert [(draft.attempt, draft.tokens) for draft in library.drafts()] == [(0, 10), (1, 0)]
