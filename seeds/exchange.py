"""Libraries on their way out and in: JSONL, a Hugging Face dataset folder with its card, and the import of either."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rostok import __version__
from rostok.dataset import card_head, write_dataset
from rostok.errors import DataError
from rostok.records import write_atomic
from rostok.seeds.library import Library, parse_line, read_lines
from rostok.seeds.record import Seed

_TEXT_COLUMNS = ("scores", "lineage")  # their keys differ from seed to seed, and a table wants one type for a column


@dataclass(frozen=True)
class Imported:
    """What came of an import: seeds kept, how many were there already, and the lines refused as `file, line n: reason`."""

    kept: list[Seed]
    known: int
    refused: list[str]


def export_jsonl(seeds: Sequence[Seed], path: Path) -> None:
    """Write seeds to a file, one a line, as they stand in a library. Raises `StorageError`."""
    write_atomic(path, "".join(seed.line() + "\n" for seed in seeds))


def export_hf(seeds: Sequence[Seed], folder: Path) -> None:
    """Write a dataset folder: data/train.jsonl and README.md, the card, last.

    Raises:
        DataError: the folder holds something else.
        StorageError: the disk refused.
    """
    write_dataset(folder, {"train": ("train.jsonl", "".join(_row(seed) + "\n" for seed in seeds))}, _card(seeds))


def import_seeds(library: Library, source: Path) -> Imported:
    """Append every valid seed of a file or folder; what is refused is named and the rest is kept. Call with the lock held.

    A seed that is in the library already, by its id, is counted and left out. The others get the next free places.

    Args:
        source: a JSONL file, a dataset folder that `export_hf` wrote, or a run folder.

    Raises:
        DataError: there is nothing to read, or the library itself is broken.
    """
    library.recover()
    ids = {seed.id for seed in library.seeds()}
    place, known = library.next_place(), 0
    kept: list[Seed] = []
    refused: list[str] = []
    for path in _files(source):
        for line in read_lines(path):
            line = parse_line(line.number, _whole_row(line.text).encode(errors="surrogateescape"))
            if line.seed is None or line.stale:
                reasons = line.problems or [f"{name}: does not follow from the content" for name in line.stale]
                refused.append(f"{path}, line {line.number}: {'; '.join(reasons)}")
            elif line.seed.id in ids:
                known += 1
            else:
                lineage = line.seed.lineage.model_copy(update={"place": place + len(kept)})
                kept.append(line.seed.model_copy(update={"lineage": lineage}))
                ids.add(line.seed.id)
    for seed in kept:
        library.admit(seed)
    return Imported(kept, known, refused)


def _files(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        yield source
        return
    found = sorted((source / "data").glob("*.jsonl")) or [path for path in (source / "seeds" / "library.jsonl",) if path.exists()]
    if not found:
        raise DataError(f"{source} holds neither data/*.jsonl nor seeds/library.jsonl. Name a JSONL file, a dataset or a run.")
    yield from found


def _row(seed: Seed) -> str:
    values = json.loads(seed.line())
    columns = {"format": seed.format, "release": seed.release, **values}  # columns that some lines leave out
    columns.update({name: json.dumps(values[name], ensure_ascii=False) for name in _TEXT_COLUMNS})
    return json.dumps(columns, ensure_ascii=False, separators=(",", ":"))


def _whole_row(text: str) -> str:
    """A line in which the text columns are objects again."""
    try:
        values: Any = json.loads(text)
        if not isinstance(values, dict) or not any(isinstance(values.get(name), str) for name in _TEXT_COLUMNS):
            return text
        return json.dumps({**values, **{name: json.loads(values[name]) for name in _TEXT_COLUMNS if name in values}})
    except (json.JSONDecodeError, TypeError, RecursionError):
        return text  # what is wrong with it is told by the reader of lines


def _card(seeds: Sequence[Seed]) -> str:
    languages = Counter(seed.language for seed in seeds)
    themes = Counter(seed.lineage.theme for seed in seeds)
    models = sorted({seed.lineage.model[:16] for seed in seeds})
    evolved = sum(bool(seed.lineage.operator) for seed in seeds)
    composed = sum(len(seed.lineage.composed) for seed in seeds)
    head = card_head("Thought seeds", list(languages), len(seeds), {"train": "train.jsonl"})
    shown = seeds[0] if seeds else None
    example = f"""
## One of them

**{shown.title}**

{shown.scene}

`{shown.formula}`
""" if shown else ""
    return f"""{head}# Thought seeds

{len(seeds)} thought seeds ({", ".join(f"{count} {language}" for language, count in languages.items())}), written by a local
language model with Rostok {__version__}; {evolved} of them were evolved from others. A seed is a scene, 8 to 20 nodes with
glosses, a graph of transitions with tensions, and contradictions. Which node follows which was drawn by code, so that what
a model learns from a seed cannot be guessed.

```python
from datasets import load_dataset
seeds = load_dataset("path/to/this/folder", split="train")
```

| column | what it is |
|---|---|
| `id` | hash of the content |
| `title`, `scene`, `language`, `registers` | the thought, its language, the voices it unfolds in |
| `nodes` | key, name and gloss |
| `transitions` | source, operation, target, tension (0 to 1), sentence |
| `release` | the node that leads nowhere, or null |
| `contradictions` | two nodes in tension, and the sentence that states the clash |
| `formula`, `delta`, `glyphs` | derived by code: the graph as a line, the ordered changes, one symbol per node |
| `scores`, `lineage` | JSON text: figures; theme, parents, model, random seed |

Themes: {", ".join(f"{theme} ({count})" for theme, count in themes.most_common(20)) or "none"}. Models, by sha256:
{", ".join(f"`{model}`" for model in models) or "none"}. {composed} texts were composed by code from the model's words; every
seed lists its own in `lineage.composed`.
{example}"""
