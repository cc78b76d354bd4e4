"""Editing by hand: every problem with its line, derived fields rewritten, everything else left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rostok.errors import DataError
from rostok.seeds.library import Library
from rostok.seeds.lint import fix, lint


@pytest.fixture
def library(tmp_path: Path, make_seed) -> Library:
    made = Library(tmp_path)
    for place in range(4):
        made.admit(make_seed(place))
    return made


def edited(library: Library, **changes: object) -> None:
    """Change the second line as a person would, spaces and all."""
    lines = library.path.read_text(encoding="utf-8").splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), **changes}, ensure_ascii=False)
    library.path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def told(library: Library) -> list[str]:
    return [f"{problem.line}: {problem.text}" for problem in lint(library.path)]


def test_a_sound_library_has_no_problems(library: Library) -> None:
    """Prevents: a linter that is never content, and so never read."""
    assert lint(library.path) == []
    before = library.path.read_bytes()
    assert fix(library.path) == []
    assert library.path.read_bytes() == before


def test_edited_content_is_told_and_mended(library: Library) -> None:
    """Prevents: an edited seed under its old id, and a linter that touches lines nobody edited."""
    before = library.path.read_text(encoding="utf-8").splitlines()
    nodes = json.loads(before[1])["nodes"]
    nodes[0]["name"] = "storm lamp"
    edited(library, nodes=nodes)
    assert told(library) == [f"2: {name}: does not follow from the content" for name in ("id", "delta", "glyphs")]
    assert all(problem.fixable for problem in lint(library.path))
    [(line, old, new)] = fix(library.path)
    assert (line, old) == (2, json.loads(before[1])["id"]) and new != old
    after = library.path.read_text(encoding="utf-8").splitlines()
    assert [after[0], *after[2:]] == [before[0], *before[2:]]
    assert lint(library.path) == [] and library.seeds()[1].id == new


def test_every_problem_of_every_line_is_told(library: Library) -> None:
    """Prevents: a library mended one run of the linter after another."""
    lines = library.path.read_bytes().splitlines()
    first = json.loads(lines[1])
    first["transitions"][2]["target"] = "n99"
    first["transitions"][4]["source"] = "n98"
    second = {**json.loads(lines[2]), "title": "x", "colour": "red"}
    newer = {**json.loads(lines[3]), "format": 7}
    library.path.write_bytes(b"\n".join([lines[0], json.dumps(first).encode(), json.dumps(second).encode(), lines[0],
                                         json.dumps(newer).encode(), b"\xff\xfe", b'{"title": ', b"[]", b""]))
    found = told(library)
    assert "'n99' is no node of this seed" in found[0] and "'n98' is no node" in found[0] and found[0].startswith("2: ")
    assert [text for text in found if text.startswith("3: ")] == [
        "3: title: String should have at least 3 characters", "3: colour: Extra inputs are not permitted"]
    assert [text for text in found if text.startswith("4: ")] == [
        f"4: id: {library_id(lines[0])} stands on line 1 already", "4: lineage.place: 0 stands on line 1 already"]
    rest = "\n".join(found[-4:])
    assert "5: was written by a newer version of Rostok (seed format 7" in rest
    assert "6: is no UTF-8 text (byte 1)" in rest and "7: is no JSON, column 11" in rest and "8: holds no object" in rest


def library_id(line: bytes) -> str:
    return str(json.loads(line)["id"])


def test_what_cannot_be_derived_is_not_touched(library: Library) -> None:
    """Prevents: --fix that throws away a line it does not understand."""
    edited(library, title="x")
    before = library.path.read_bytes()
    assert fix(library.path) == [] and library.path.read_bytes() == before


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """Prevents: a traceback for a mistyped path."""
    with pytest.raises(DataError, match="cannot be read: No such file"):
        lint(tmp_path / "library.jsonl")
