"""serve.json: where the server that holds a run answers. Readable by the user who started it only."""

from __future__ import annotations

from pathlib import Path

from rostok.records import Record
from rostok.runs import Run


class Serving(Record):
    """The address, the token of this start, and the process."""

    address: str
    token: str
    pid: int


def serving_file(run: Run) -> Path:
    """serve.json of a run."""
    return run.folder / "serve.json"
