"""Corpora on their way out: JSONL, Parquet, and a Hugging Face dataset folder with its card."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rostok import __version__
from rostok.dataset import card_head, write_dataset
from rostok.generator.folder import training_pages
from rostok.generator.records import KINDS, Manifest, Page
from rostok.records import read_record, write_atomic

_TEXT_COLUMNS = ("sampled", "figures")  # JSON text: code's pages were not sampled, and gates may measure more one day


def export_jsonl(folders: Sequence[Path], path: Path) -> int:
    """Write the pages of finished corpora to a file, one a line, as they stand in pages.jsonl. Returns their number.

    Raises:
        DataError: a corpus is not finished, or was changed since.
        StorageError: the disk refused; an older file is as it was.
    """
    pages = list(_pages(folders))
    write_atomic(path, "".join(page.line() + "\n" for page in pages))
    return len(pages)


def export_parquet(folders: Sequence[Path], path: Path) -> int:
    """The same as one Parquet file. Returns the number of pages. Raises like `export_jsonl`."""
    pages = list(_pages(folders))
    write_atomic(path, _parquet(pages))
    return len(pages)


def export_hf(folders: Sequence[Path], titles: Mapping[str, str], folder: Path) -> int:
    """Write a dataset folder with the splits train and test (the held-out pages). Returns the number of pages.

    Args:
        titles: {seed: title}, for the card.

    Raises:
        DataError: `folder` holds something else; a corpus is not finished, or was changed since.
        StorageError: the disk refused.
    """
    pages = list(_pages(folders))
    parts = {"train": [page for page in pages if not page.held_out], "test": [page for page in pages if page.held_out]}
    splits = {name: (f"{name}.parquet", _parquet(part)) for name, part in parts.items() if part}
    manifests = [read_record(path / "manifest.json", Manifest) for path in folders]
    write_dataset(folder, splits, _card(pages, manifests, titles, {name: file for name, (file, _) in splits.items()}))
    return len(pages)


def _pages(folders: Sequence[Path]) -> Iterator[Page]:
    for folder in folders:
        train, held_out = training_pages(folder)
        yield from sorted([*train, *held_out], key=lambda page: page.spec)


def _parquet(pages: Sequence[Page]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    types = {"spec": pa.int32(), "turns": pa.list_(turn), "depth": pa.int8(), "focus": pa.list_(pa.string()),
             "path": pa.list_(pa.string()), "fragmentation": pa.list_(pa.int8()), "variant": pa.int32(),
             "held_out": pa.bool_(), "attempt": pa.int16(), "random_seed": pa.int64(), "tokens": pa.int32(), "source": pa.int32()}
    names = [field.alias or name for name, field in Page.model_fields.items()]
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([_row(page) for page in pages], schema=schema), out, compression="zstd")
    return out.getvalue()


def _row(page: Page) -> dict[str, Any]:
    values = page.model_dump(mode="json")
    return {**values, **{name: json.dumps(values[name], ensure_ascii=False) for name in _TEXT_COLUMNS}}


def _card(pages: Sequence[Page], manifests: Sequence[Manifest], titles: Mapping[str, str], files: Mapping[str, str]) -> str:
    kinds = Counter(page.kind for page in pages)
    rows = "\n".join(f"| {kind} | {kinds[kind]} |" for kind in KINDS if kinds[kind])
    refused = sum((Counter(manifest.rejected) for manifest in manifests), Counter[str]())
    reasons = ", ".join(f"{reason} {number}" for reason, number in refused.most_common()) or "none"
    models = ", ".join(sorted({f"`{manifest.model[:16]}`" for manifest in manifests}))
    seeds = "\n".join(f"- `{manifest.seed}` {titles.get(manifest.seed, manifest.title)}: {manifest.pages} pages"
                      for manifest in manifests)
    head = card_head("Pages grown from thought seeds", ["en"], len(pages), files, task_categories=["text-generation"])
    return f"""{head}# Pages grown from thought seeds

{len(pages)} pages ({sum(len(page.text) for page in pages):,} characters) of {len(manifests)} corpora, grown with Rostok
{__version__}. Every corpus unfolds one thought seed: an arbitrary order of a dozen things, stated in many wordings. The split
*test* holds pages that no expert is trained on.

```python
from datasets import load_dataset
pages = load_dataset("path/to/this/folder", split="train")
```

| column | what it is |
|---|---|
| `spec`, `seed` | number of the page's line in the plan; id of the seed |
| `kind` | written, composed, dialogue, rewritten or replay |
| `author` | `model` (a model's words throughout) or `code` (composed by code from the model's sentences) |
| `text`, `turns` | the page; the conversation of dialogues and replay |
| `register`, `form`, `depth`, `fragmentation`, `variant` | how the page was asked for |
| `focus`, `path` | the keys of the nodes it is about, and of those it tells, in its order |
| `held_out`, `attempt`, `random_seed`, `tokens` | whether it is held out, which sample it is, its dice, tokens sampled |
| `source` | the plan line whose page was rewritten |
| `sampled`, `figures` | JSON text: engine, model, hash of the prompt and sampling; what the gates measured |

| kind | pages |
|---|---|
{rows}

Refused: {reasons}. Models, by sha256: {models}.

{seeds}
"""
