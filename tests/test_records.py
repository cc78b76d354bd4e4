"""Records on disk: whole lines or none, whole files or the old ones, and errors that name the place."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.errors import DataError, StorageError
from rostok.records import (
    Record,
    append_jsonl,
    digest,
    file_digest,
    iter_jsonl,
    read_jsonl,
    read_record,
    recover_jsonl,
    stable_seed,
    write_atomic,
)


class Note(Record):
    """A record for these tests."""

    text: str
    number: int = 0


NOTES = st.lists(st.builds(Note, text=st.text(), number=st.integers(-5, 5)), max_size=6)


@given(NOTES)
def test_records_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, notes: list[Note]) -> None:
    """Prevents: line separators or quotes inside a text that cut one record into two lines."""
    path = tmp_path_factory.mktemp("notes") / "notes.jsonl"
    for note in notes:
        append_jsonl(path, [note])
    assert read_jsonl(path, Note) == notes


@given(NOTES, st.data())
def test_a_file_cut_anywhere_recovers_to_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, notes: list[Note], data: st.DataObject
) -> None:
    """Prevents: a kill in the middle of a line that makes the file unreadable, or loses a finished record."""
    path = tmp_path_factory.mktemp("notes") / "notes.jsonl"
    append_jsonl(path, notes)
    whole = path.read_bytes() if path.exists() else b""
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    dropped = recover_jsonl(path)
    kept = whole[:cut].count(b"\n")
    assert read_jsonl(path, Note) == notes[:kept]
    assert dropped == cut - len(path.read_bytes())
    append_jsonl(path, notes[kept:])
    assert path.read_bytes() == whole


def test_recovering_a_whole_or_missing_file_changes_nothing(tmp_path: Path) -> None:
    """Prevents: the last finished record dropped at every start."""
    path = tmp_path / "notes.jsonl"
    assert recover_jsonl(path) == 0
    append_jsonl(path, [Note(text="a")])
    assert recover_jsonl(path) == 0
    assert read_jsonl(path, Note) == [Note(text="a")]


def test_a_broken_line_names_file_line_and_field(tmp_path: Path) -> None:
    """Prevents: a data error that leaves a person to search 200,000 lines."""
    path = tmp_path / "notes.jsonl"
    path.write_text('{"text":"a"}\n\n{"text":"b","number":"many"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"notes\.jsonl, line 3: number: ") as caught:
        read_jsonl(path, Note)
    assert str(tmp_path) + "/notes.jsonl" in str(caught.value)


@pytest.mark.parametrize("line", ['{"text":"a"', "[]", '{"text":"a","colour":1}', "nonsense"])
def test_no_line_that_is_not_a_record_passes(tmp_path: Path, line: str) -> None:
    """Prevents: cut, foreign or newer records that are read as if they were whole."""
    path = tmp_path / "notes.jsonl"
    path.write_text(f'{{"text":"a"}}\n{line}\n', encoding="utf-8")
    records = iter_jsonl(path, Note)
    assert next(records) == Note(text="a")
    with pytest.raises(DataError, match="line 2"):
        next(records)


def test_a_damaged_byte_is_an_error_of_its_line(tmp_path: Path) -> None:
    """Prevents: one flipped bit that is told as a bug of Rostok, because the whole file was decoded before any line."""
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b'{"text":"a"}\n{"text":"b\xff"}\n')
    records = iter_jsonl(path, Note, remedy="Ask the keeper.")
    assert next(records) == Note(text="a")
    with pytest.raises(DataError, match=r"notes\.jsonl, line 2: .*\. Ask the keeper\.$"):
        next(records)
    (tmp_path / "one.json").write_bytes(b'{"text":"\xff"}')
    with pytest.raises(DataError, match=r"one\.json: .*Mend it"):
        read_record(tmp_path / "one.json", Note)


def test_advice_never_says_to_delete_the_run(tmp_path: Path) -> None:
    """Prevents: a broken journal line whose message tells a person to throw the whole run away."""
    path = tmp_path / "journal.jsonl"
    path.write_text("nonsense\n", encoding="utf-8")
    for read in (lambda: read_jsonl(path, Note), lambda: read_record(path, Note)):
        with pytest.raises(DataError) as caught:
            read()
        assert f"delete {tmp_path}" not in str(caught.value).lower()
        assert "move the file away" in str(caught.value)


def test_a_missing_record_says_what_to_do(tmp_path: Path) -> None:
    """Prevents: a FileNotFoundError for a stage that has not run yet."""
    with pytest.raises(DataError, match=r"is missing\. Run the stage"):
        read_record(tmp_path / "matrix.json", Note)


def test_an_atomic_write_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Prevents: temporary files that pile up in a run, and files that only their owner can read."""
    path = tmp_path / "deep" / "manifest.json"
    write_atomic(path, "old")
    write_atomic(path, b"new")
    assert path.read_text() == "new"
    assert [item.name for item in path.parent.iterdir()] == ["manifest.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def run_with_little_room(code: str, folder: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose files cannot grow beyond `limit` bytes, which fails like a full disk."""
    source = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", source, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


WRITE = """
    import sys
    from pathlib import Path
    from rostok.errors import StorageError
    from rostok.records import Record, append_jsonl, write_atomic
    class Note(Record):
        text: str
    folder = Path(sys.argv[1])
"""


def test_a_full_disk_takes_an_append_back(tmp_path: Path) -> None:
    """Prevents: half a line at the end of a file after the disk ran full in the middle of a batch."""
    path = tmp_path / "notes.jsonl"
    append_jsonl(path, [Note(text="kept")])
    before = path.read_bytes()
    done = run_with_little_room(
        WRITE
        + """
    try:
        append_jsonl(folder / "notes.jsonl", [Note(text="x" * 3000), Note(text="y" * 3000)])
    except StorageError as error:
        print(error)
    """,
        tmp_path,
        4096,
    )
    assert "Free some space" in done.stdout, done.stderr
    assert "notes.jsonl" in done.stdout
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """Prevents: a manifest that is empty after the disk ran full while it was replaced."""
    path = tmp_path / "manifest.json"
    write_atomic(path, "old")
    done = run_with_little_room(
        WRITE
        + """
    try:
        write_atomic(folder / "manifest.json", "x" * 10_000)
    except StorageError as error:
        print(error)
    """,
        tmp_path,
        4096,
    )
    assert "Free some space" in done.stdout, done.stderr
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_no_space_left_on_the_device(tmp_path: Path) -> None:
    """Prevents: a real ENOSPC that is not recognised as a full disk."""
    path = tmp_path / "notes.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"No space left on device\. Free some space"):
        append_jsonl(path, [Note(text="a")])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_told(tmp_path: Path) -> None:
    """Prevents: a read-only folder that is reported as a full disk."""
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Check the folder and its rights"):
        write_atomic(tmp_path / "a", "b")


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    """Prevents: a FileExistsError with a traceback when a file has a folder's name."""
    (tmp_path / "seeds").write_text("")
    with pytest.raises(StorageError, match="Check the folder"):
        write_atomic(tmp_path / "seeds" / "a", "b")


def test_digests_depend_on_content_alone(tmp_path: Path) -> None:
    """Prevents: identities that change with the order of keys, with the hash seed, or from process to process."""
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(Note(text="ж")) == digest({"number": 0, "text": "ж"})
    code = "from rostok.records import stable_seed; print(stable_seed('a', 3, [1.5]))"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert int(other.stdout) == stable_seed("a", 3, [1.5]) < 2**31
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"3")
    assert file_digest(tmp_path / "a", tmp_path / "b") != file_digest(tmp_path / "b", tmp_path / "a")
