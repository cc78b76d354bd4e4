"""Reading texts to score, whole and broken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.errors import DataError
from rostok.generator.texts import cut_pages, read_texts


def test_every_form_of_text_is_read(tmp_path: Path) -> None:
    """Prevents: a corpus that can be scored only in Rostok's own form."""
    for number in (1, 2):
        folder = tmp_path / "run" / "corpora" / f"s-{number}"
        folder.mkdir(parents=True)
        (folder / "pages.jsonl").write_text('{"text":"A lamp."}\n{"text":"A rope."}\n')
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "Who?"},
                                                                  {"role": "assistant", "content": "I."}]}) + "\n\"bare\"\n")
    (tmp_path / "book.txt").write_text("One sentence. " * 100)
    run, one = read_texts([tmp_path / "run"]), read_texts([tmp_path / "run" / "corpora" / "s-2"])
    assert [text.name for text in run] == ["s-1", "s-2"]
    assert one[0].pages == ("A lamp.", "A rope.")
    assert read_texts([tmp_path / "chat.jsonl"])[0].pages == ("Who?\n\nI.", "bare")
    assert len(read_texts([tmp_path / "book.txt"])[0].pages) == 3


def test_a_line_cut_in_the_middle_is_left_out_and_told(tmp_path: Path) -> None:
    """Prevents: a corpus that cannot be scored while it is being written, or half a page that counts."""
    path = tmp_path / "pages.jsonl"
    path.write_text('{"text":"A lamp."}\n{"text":"A ro')
    (text,) = read_texts([path])
    assert text.pages == ("A lamp.",)
    assert text.dropped == 13


@pytest.mark.parametrize(("name", "data", "message"), [
    ("a.txt", b"", "holds no text"),
    ("a.txt", b"\xff\xfe\x00a", "no UTF-8 text"),
    ("a.jsonl", b'{"text":"A."}\n{"te\n{"text":"B."}\n', "line 2: no JSON"),
    ("a.jsonl", b'{"size":3}\n', "line 1: no field text"),
    ("a.jsonl", b'{"messages":[{"role":"user"}]}\n', "line 1: no field text"),
    ("a.jsonl", b'"A."\n{"text":"A \\ud800 lamp."}\n', r"line 2: \\ud800 is half of a character"),
    ("a.jsonl", b'"A."\n' + b"[" * 200_000 + b"]" * 200_000 + b"\n", "line 2: brackets within brackets"),
    ("a.jsonl", b'"A."\n' + b"[" * 200_000, "line 2: brackets within brackets"),
])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    """Prevents: a traceback, or a score of nothing."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_texts([tmp_path / name])


def test_a_folder_without_pages_and_a_missing_file_are_named(tmp_path: Path) -> None:
    """Prevents: an empty table for a mistyped path."""
    with pytest.raises(DataError, match="no pages.jsonl"):
        read_texts([tmp_path])
    with pytest.raises(DataError, match="no file or folder"):
        read_texts([tmp_path / "nothing"])


def test_both_halves_of_a_character_are_one(tmp_path: Path) -> None:
    """Prevents: an emoji that was written as JSON likes it, and is refused as half of one."""
    (tmp_path / "a.jsonl").write_text('{"text":"A lamp \\ud83d\\udca1."}\n')
    assert read_texts([tmp_path / "a.jsonl"])[0].pages == ("A lamp 💡.",)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """Prevents: a pipe that hangs the command, a device that fills the memory, a traceback for what cannot be opened."""
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path / "pipe.txt", Path("/dev/zero")):
        with pytest.raises(DataError, match=f"{path} is no regular file"):
            read_texts([path])
    for path in (Path("/proc/self/mem"), tmp_path / ("a" * 300)):  # root may read whatever has no rights
        with pytest.raises(DataError, match="cannot be read: .*Check the path"):
            read_texts([path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_told(tmp_path: Path) -> None:
    """Prevents: a traceback for a file of somebody else's."""
    (tmp_path / "a.txt").write_text("A lamp.")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(DataError, match="a.txt cannot be read: Permission denied"):
        read_texts([tmp_path / "a.txt"])


@given(st.text(max_size=2000))
def test_cutting_pages_loses_no_word(text: str) -> None:
    """Prevents: text between two pages that nobody scores; only quotes that close a sentence may go."""
    quotes = "\"'”’)"
    kept = "".join("".join(cut_pages(text)).split())
    assert kept.translate(str.maketrans("", "", quotes)) == "".join(text.split()).translate(str.maketrans("", "", quotes))
