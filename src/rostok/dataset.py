"""Dataset folders as the Hugging Face hub knows them: files below data/, and README.md, the card, last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rostok.errors import DataError
from rostok.records import write_atomic

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_dataset(folder: Path, splits: Mapping[str, tuple[str, str | bytes]], card: str) -> None:
    """Write a dataset folder.

    Args:
        splits: {split: (file name, content)}.
        card: README.md, beginning with `card_head`.

    Raises:
        DataError: the folder holds something else.
        StorageError: the disk refused.
    """
    readme = folder / "README.md"
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file. Name a new folder.")
    if folder.exists() and not readme.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty and holds no dataset. Name a new folder.")
    for name, content in splits.values():
        write_atomic(folder / "data" / name, content)
    write_atomic(readme, card)


def card_head(name: str, languages: Sequence[str], rows: int, splits: Mapping[str, str], **more: Any) -> str:
    """The YAML block with which a card begins.

    Args:
        splits: {split: file name below data/}.
        more: further fields, such as `task_categories`.
    """
    size = next((text for limit, text in _SIZES if rows < limit), "1M<n<10M")
    files = [{"split": split, "path": f"data/{file}"} for split, file in splits.items()]
    fields = {"pretty_name": name, "language": sorted(languages), "license": "apache-2.0", "tags": ["synthetic", "rostok"],
              "size_categories": [size], **more, "configs": [{"config_name": "default", "data_files": files}]}
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---\n"
