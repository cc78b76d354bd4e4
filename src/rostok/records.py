"""Records and the files they lie in: frozen pydantic models, append-only JSONL, atomic files, content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rostok.errors import DataError, writing

RecordT = TypeVar("RecordT", bound="Record")
_REMEDY = "Mend or remove that line, or move the file away and run the stage that makes it again."


class Record(BaseModel):
    """Base of everything that is written to disk: frozen, unknown fields refused, one JSON line each."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def line(self) -> str:
        """This record as one line of JSONL, without the line end."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"))


def digest(*parts: Any) -> str:
    """SHA-256 (hex) of any JSON-able parts or records, independent of key order."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    text = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(*paths: Path) -> str:
    """SHA-256 (hex) over the bytes of the files, in the order given."""
    state = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                state.update(block)
    return state.hexdigest()


def stable_seed(*parts: Any) -> int:
    """A 31-bit random seed that depends on the parts alone (not on Python's own hash)."""
    return int(digest(*parts)[:8], 16) & 0x7FFFFFFF


def problems(error: ValidationError) -> str:
    """A pydantic error as `field: reason; field: reason`."""
    return "; ".join(reasons(error))


def reasons(error: ValidationError) -> list[str]:
    """The parts of a pydantic error, each as `field: reason`."""
    return [f"{'.'.join(str(part) for part in item['loc']) or 'record'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False)]


def write_atomic(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `content` so that a reader, or a kill, sees the old file or the new one, never a part.

    Args:
        mode: its rights; a run is meant to be read by others too, but for what holds a secret.

    Raises:
        StorageError: the disk refused; the old file is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(mode)  # mkstemp makes 0600
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def append_jsonl(path: Path, records: Iterable[Record]) -> None:
    """Append records as whole lines and sync them; a write that fails half-way is taken back.

    Raises:
        StorageError: the disk refused; the file is as it was before the call.
    """
    data = "".join(record.line() + "\n" for record in records).encode()
    if not data:
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                written = file.write(data)
                if written < len(data):  # a raw write may take a part first and refuse the rest on the next call
                    file.write(data[written:])
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):  # the first refusal is the one to tell; recover_jsonl cuts what stayed
                    os.ftruncate(file.fileno(), size)
                raise


def recover_jsonl(path: Path) -> int:
    """Cut a last line that a kill left half-written. Returns the number of bytes dropped, 0 when all was whole."""
    if not path.exists():
        return 0
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with writing(path):
            os.truncate(path, whole)
    return len(data) - whole


def iter_jsonl(path: Path, kind: type[RecordT], *, remedy: str = _REMEDY) -> Iterator[RecordT]:
    """Read records line by line.

    Args:
        remedy: the sentence that says what to do about a broken line.

    Raises:
        DataError: a line is not a valid `kind`, or not UTF-8; the message names file, line, field and reason.
    """
    if not path.exists():
        return
    with path.open("rb") as file:  # pydantic decodes, so that a damaged byte is an error of its line
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                raise DataError(f"{path}, line {number}: {problems(error)}. {remedy}") from None


def read_jsonl(path: Path, kind: type[RecordT], *, remedy: str = _REMEDY) -> list[RecordT]:
    """All records of a file, an empty list when there is none. Raises like `iter_jsonl`."""
    return list(iter_jsonl(path, kind, remedy=remedy))


def read_record(path: Path, kind: type[RecordT]) -> RecordT:
    """One record from a JSON file. Raises `DataError` when it is missing or not valid."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Run the stage that makes it first.") from None
    except ValidationError as error:
        raise DataError(
            f"{path}: {problems(error)}. Mend it, or move the file away and run the stage that makes it again."
        ) from None
