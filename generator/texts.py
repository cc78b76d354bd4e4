"""Any text as pages: a corpus folder, JSONL with one page a line, or prose."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rostok.errors import DataError

_SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)]*\s+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # JSON can name half of a pair; no file can hold it
_FIELDS = ("text", "content")                        # of a line of JSONL that is a text
_CONVERSATIONS = ("turns", "messages", "conversations")  # … or a list of turns, with one of the fields above or "value"


@dataclass(frozen=True)
class Text:
    """A text in pages. `dropped` is what could not be read at its end, in bytes."""

    name: str
    pages: tuple[str, ...]
    dropped: int = 0


def read_texts(paths: Sequence[Path]) -> list[Text]:
    """The texts of files and folders; a run's folder gives one text per corpus.

    Raises:
        DataError: nothing is there, it cannot be read, is no regular file, holds no text, is not UTF-8, or a line other than
            a last, half-written one is broken.
    """
    return [text for path in paths for text in _read(path)]


def cut_pages(text: str, characters: int = 550) -> list[str]:
    """A text in pages of whole sentences, each as long as asked for or a little longer; the last one may be shorter."""
    pages: list[str] = []
    page = ""
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in _SENTENCE.split(" ".join(paragraph.split())):
            page = f"{page} {sentence}".strip()
            if len(page) >= characters:
                pages.append(page)
                page = ""
    return [*pages, page] if page else pages


def _read(path: Path) -> list[Text]:
    try:
        return _found(path)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}. Check the path and its "
                        "rights.") from None


def _found(path: Path) -> list[Text]:
    if not path.exists():
        raise DataError(f"there is no file or folder {path}. Check the path.")
    if not path.is_dir():
        return [_file(path, path.name)]
    if (path / "pages.jsonl").is_file():
        return [_file(path / "pages.jsonl", path.name)]
    corpora = sorted((path / "corpora").glob("*/pages.jsonl"))
    if not corpora:
        raise DataError(f"{path} holds no pages.jsonl, and no corpora. Give a corpus folder, a run, or a text file.")
    return [_file(pages, pages.parent.name) for pages in corpora]


def _file(path: Path, name: str) -> Text:
    if not path.is_file():  # a pipe that nobody writes to would be waited for, and some devices never end
        raise DataError(f"{path} is no regular file. Write the text to a file first.")
    data = path.read_bytes()
    dropped = 0
    if path.suffix == ".jsonl":
        whole = data.rfind(b"\n") + 1
        if whole < len(data) and not _is_json(data[whole:]):
            dropped = len(data) - whole
            data = data[:whole]
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text (byte {error.start}). Convert it first, for example with iconv.") from None
    pages = [page for page in (_lines(path, content) if path.suffix == ".jsonl" else cut_pages(content)) if page.strip()]
    if not pages:
        raise DataError(f"{path} holds no text.")
    return Text(os.fsencode(name).decode(errors="replace"), tuple(pages), dropped)  # a name need not be UTF-8


def _lines(path: Path, content: str) -> list[str]:
    pages = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            page = _page(json.loads(line))
        except ValueError:
            raise DataError(f"{path}, line {number}: no JSON. Mend or remove that line.") from None
        except RecursionError:
            raise DataError(f"{path}, line {number}: brackets within brackets, too deep to be read. Mend or remove that "
                            "line.") from None
        if page is None:
            raise DataError(f"{path}, line {number}: no field {', '.join((*_FIELDS, *_CONVERSATIONS))} with a text in it.")
        half = _SURROGATE.search(page)
        if half:
            raise DataError(f"{path}, line {number}: \\u{ord(half.group()):04x} is half of a character. Mend or remove that "
                            "line.")
        pages.append(page)
    return pages


def _page(line: Any) -> str | None:
    if isinstance(line, str):
        return line
    if not isinstance(line, dict):
        return None
    for field in _FIELDS:
        if isinstance(line.get(field), str):
            return str(line[field])
    turns = next((line[field] for field in _CONVERSATIONS if isinstance(line.get(field), list)), None)
    if turns is None:
        return None
    said = [next((turn[key] for key in (*_FIELDS, "value") if isinstance(turn.get(key), str)), None)
            for turn in turns if isinstance(turn, dict)]
    return "\n\n".join(part for part in said if part is not None) or None


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    except RecursionError:  # whole or not, it is refused with its number
        return True
    return True
