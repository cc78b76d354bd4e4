"""How good a library is, in figures: how many different thoughts it holds, and what it cost to write them.

Everything is computed from the files of the library and an embedder, and kept in `seeds/manifest.json`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rostok import __version__
from rostok.records import Record, file_digest, read_record, write_atomic
from rostok.seeds.library import DraftRecord, Library
from rostok.seeds.lint import placeholders, texts
from rostok.seeds.record import FORMAT, Seed

if TYPE_CHECKING:
    from rich.table import Table

NEAR = 0.9  # cosine from which two seeds count as one thought
_COPIES = ("copies an example", "copies the prompt")  # names of refusals in drafts.jsonl


class Embeds(Protocol):
    """What the measures ask of an embedder; `rostok.embedder.Embedder` is one."""

    sha256: str

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape [texts, dimensions]."""
        ...


class Spread(Record):
    """Quartiles of a figure over its items."""

    low: float
    quarter: float
    median: float
    three_quarters: float
    high: float


class Measures(Record):
    """The figures of a library. None where there was nothing to measure it on.

    Attributes:
        seeds: how many; `evolved` of them were made from others by an operator.
        distinct: share of seeds whose cosine to every other is below `NEAR`, on title and scene.
        vendi: effective number of seeds, and `vendi_share` of the count.
        nearest: distances (1 - cosine) from each seed to its nearest neighbour.
        duplicate_nodes: share of all nodes whose name another seed has, too.
        first_try: share of places whose first draft was admitted.
        retries: {field: fresh samples for it, per draft}.
        refused: {reason: candidates refused for it}, over all drafts.
        copies_refused: share of the refused candidates that copied an example or the prompt.
        exemplar_copies: seeds in which one of the `exemplars` stands.
        empty_fields: fields without content, or with a placeholder.
        tension: of the transitions; `tension_histogram` counts them in ten bins from 0 to 1.
    """

    seeds: int
    evolved: int
    languages: dict[str, int]
    distinct: float | None = None
    vendi: float | None = None
    vendi_share: float | None = None
    nearest: Spread | None = None
    duplicate_nodes: float | None = None
    drafts: int = 0
    tokens: int = 0
    first_try: float | None = None
    retries: dict[str, float] = Field(default_factory=dict)
    refused: dict[str, int] = Field(default_factory=dict)
    copies_refused: float | None = None
    exemplar_copies: int | None = None
    empty_fields: int = 0
    tension: Spread | None = None
    tension_histogram: tuple[int, ...] = ()


class Manifest(Record):
    """seeds/manifest.json. It fits the library as long as `library_sha256` is that of library.jsonl."""

    format: int
    rostok: str
    library_sha256: str
    embedder: str = Field(description="SHA-256 of the embedder")
    exemplars: tuple[str, ...] | None = Field(None, description="what the prompts showed; kept for the next measuring")
    measures: Measures


def write_manifest(library: Library, embedder: Embeds, *, exemplars: Sequence[str] | None = None) -> Manifest:
    """Measure a library and keep the figures beside it. Call with the run's lock held.

    Args:
        exemplars: names, titles and sentences that the prompts showed as examples; without them those of the last
            manifest are looked for.

    Raises:
        DataError: a line of the library is no seed.
    """
    seeds = library.seeds()
    shown = tuple(exemplars) if exemplars is not None else _exemplars_before(library)
    manifest = Manifest(
        format=FORMAT, rostok=__version__, library_sha256=file_digest(library.path) if library.path.exists() else "",
        embedder=embedder.sha256, exemplars=shown,
        measures=measure(seeds, embedder, drafts=library.drafts(), exemplars=shown,
                         given_up={item.place for item in library.quarantined()}))
    write_atomic(library.manifest_path, manifest.model_dump_json(indent=1) + "\n")
    return manifest


def read_manifest(library: Library) -> Manifest | None:
    """The manifest, or None when there is none or the library has changed since."""
    if not library.manifest_path.exists() or not library.path.exists():
        return None
    manifest = read_record(library.manifest_path, Manifest)
    return manifest if manifest.library_sha256 == file_digest(library.path) else None


def _exemplars_before(library: Library) -> tuple[str, ...] | None:
    path: Path = library.manifest_path
    return read_record(path, Manifest).exemplars if path.exists() else None


def measure(seeds: Sequence[Seed], embedder: Embeds, *, drafts: Sequence[DraftRecord] = (),
            exemplars: Sequence[str] | None = None, given_up: set[int] | None = None) -> Measures:
    """The figures of these seeds.

    Args:
        drafts: what writing them cost; without any, the first-try rate is told from the seeds' lineage.
        given_up: places of which a draft was refused.
    """
    vectors = embedder.embed([thought(seed) for seed in seeds])
    refused = Counter[str]()
    retries = Counter[str]()
    for draft in drafts:
        refused.update(draft.refused)
        retries.update(draft.retries)
    names = Counter(node.name.casefold() for seed in seeds for node in seed.nodes)
    nodes = sum(names.values())
    tensions = [step.tension for seed in seeds for step in seed.transitions]
    effective = vendi(vectors) if len(seeds) else None
    near = nearest(vectors)
    return Measures(
        seeds=len(seeds), evolved=sum(bool(seed.lineage.operator) for seed in seeds),
        languages=dict(Counter(seed.language for seed in seeds)),
        distinct=_round(float((near > 1 - NEAR).mean())) if len(seeds) > 1 else None,
        vendi=_round(effective), vendi_share=_round(effective / len(seeds)) if effective else None,
        nearest=spread(near) if len(seeds) > 1 else None,
        duplicate_nodes=_round(sum(count for count in names.values() if count > 1) / nodes) if nodes else None,
        drafts=len(drafts), tokens=sum(draft.tokens for draft in drafts),
        first_try=_round(_first_try(seeds, drafts, given_up or set())),
        retries={field: round(count / len(drafts), 3) for field, count in sorted(retries.items())},
        refused=dict(refused.most_common()),
        copies_refused=_round(sum(refused[name] for name in _COPIES) / refused.total()) if refused else None,
        exemplar_copies=sum(bool(copies(seed, exemplars)) for seed in seeds) if exemplars is not None else None,
        empty_fields=sum(len(placeholders(seed)) for seed in seeds),
        tension=spread(np.array(tensions)) if tensions else None,
        tension_histogram=tuple(int(count) for count in np.histogram(tensions, bins=10, range=(0, 1))[0]))


def thought(seed: Seed) -> str:
    """What is embedded of a seed: its title and scene."""
    return thought_of(seed.title, seed.scene)


def thought_of(title: str, scene: str) -> str:
    """The same, of a seed that is not finished."""
    return f"{title}. {scene}"


def vendi(vectors: NDArray[np.float32]) -> float:
    """Effective number of items: exp of the entropy of the eigenvalues of K/n, K the cosines (arXiv:2210.02410).

    Six lines here: the authors' package, vendi-score 0.0.3, has had no release for years and names a part of scipy that
    is on its way out.

    Args:
        vectors: unit vectors, shape [items, dimensions], at least one.
    """
    double = vectors.astype(np.float64)
    items, dimensions = double.shape
    gram = double @ double.T if items <= dimensions else double.T @ double  # the same eigenvalues, but for zeros
    values = np.linalg.eigvalsh(gram / items)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def nearest(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distance (1 - cosine) from each vector to the nearest other, shape [vectors]; infinite for a single one."""
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(cosines, -np.inf)
    return np.asarray(1.0 - cosines.max(axis=1)) if len(vectors) else np.zeros(0)


def spread(values: NDArray[np.float64]) -> Spread:
    """Quartiles, rounded for reading."""
    low, quarter, median, three, high = (round(float(value), 3) for value in np.quantile(values, (0, 0.25, 0.5, 0.75, 1)))
    return Spread(low=low, quarter=quarter, median=median, three_quarters=three, high=high)


def copies(seed: Seed, exemplars: Sequence[str]) -> list[str]:
    """Examples that came back: as a title or a node's name, or, with four words or more, inside any text."""
    whole = {_plain(text) for name, text in texts(seed) if name == "title" or name.endswith(".name")}
    every = " | ".join(_plain(text) for _, text in texts(seed))
    return [shown for shown in exemplars
            if _plain(shown) in whole or (len(_plain(shown).split()) >= 4 and f" {_plain(shown)} " in f" {every} ")]


def table(manifest: Manifest) -> Table:
    """The figures as a table for the terminal."""
    from rich.table import Table

    found = manifest.measures
    shown = Table("measure", "figure", "what it says", box=None, pad_edge=False)
    rows = [
        ("seeds", str(found.seeds), ", ".join(f"{count} {language}" for language, count in found.languages.items())
         + (f"; {found.evolved} evolved from others" if found.evolved else "")),
        ("distinct", _share(found.distinct), f"cosine below {NEAR} to every other"),
        ("Vendi score", _figure(found.vendi), f"effective number of seeds, {_share(found.vendi_share)} of the count"),
        ("nearest neighbour", _spread(found.nearest), "distance: lowest, quartiles, highest"),
        ("duplicate nodes", _share(found.duplicate_nodes), "of all nodes have a name that another seed has, too"),
        ("valid at first try", _share(found.first_try), f"of the places; {found.drafts} drafts, {found.tokens:,} tokens"),
        ("retries", f"{sum(found.retries.values()):.2f}" if found.drafts else "–",
         ", ".join(f"{field} {count:.2f}" for field, count in found.retries.items()) or "fresh samples per draft"),
        ("candidates refused", str(sum(found.refused.values())) if found.drafts else "–",
         ", ".join(f"{reason} {count}×" for reason, count in list(found.refused.items())[:4])),
        ("copies of an example", "–" if found.exemplar_copies is None else str(found.exemplar_copies),
         f"seeds; {_share(found.copies_refused)} of the refused candidates copied"),
        ("empty fields", str(found.empty_fields), "without content, or with a placeholder"),
        ("tension", _spread(found.tension), _bars(found.tension_histogram)),
    ]
    for row in rows:
        shown.add_row(*row)
    return shown


def _first_try(seeds: Sequence[Seed], drafts: Sequence[DraftRecord], given_up: set[int]) -> float | None:
    if drafts:
        places = {draft.place for draft in drafts}
        return sum(draft.admitted and draft.attempt == 0 for draft in drafts) / len(places)
    written = {seed.lineage.place for seed in seeds if not seed.lineage.operator}
    first = {seed.lineage.place for seed in seeds if not seed.lineage.operator and seed.lineage.attempt == 0}
    return len(first - given_up) / len(written | given_up) if written | given_up else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _spread(value: Spread | None) -> str:
    return "–" if value is None else " ".join(f"{part:.2f}" for part in value.model_dump().values())


def _bars(counts: Sequence[int]) -> str:
    top = max(counts, default=0)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * count / top)] for count in counts) + " from 0 to 1" if top else ""
