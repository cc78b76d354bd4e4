"""What lies in a corpus folder, finished or not, and in what two of them differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rostok.errors import DataError
from rostok.generator.folder import kept_lines
from rostok.generator.groups import coverage
from rostok.generator.records import KINDS, BankSentence, Manifest, Origin, Page, PageSpec, Reject
from rostok.records import Record, RecordT, read_record
from rostok.seeds.record import Seed

if TYPE_CHECKING:
    from rich.table import Table


class Stats(Record):
    """The figures of one corpus.

    Attributes:
        asked: pages in the plan. accepted: {kind: pages}. refused: {kind: {reason: texts}}.
        characters: of all pages; `shortest`, `middle` and `longest` of one.
        steps: how often the pages tell the transition told least, and the one told most (None without the seed).
        tokens: sampled by the model for the pages that were accepted. seconds: of the last build; None before the end.
        broken: {file: lines that are not whole}; they are left out of all other figures.
    """

    seed: str
    title: str
    finished: bool
    asked: int
    held_out: int
    accepted: dict[str, int]
    refused: dict[str, dict[str, int]]
    replaced: int
    forms: dict[str, int]
    registers: dict[str, int]
    characters: int
    shortest: int
    middle: int
    longest: int
    steps: tuple[int, int] | None
    bank: int
    bank_refused: dict[str, int]
    tokens: int
    seconds: float | None
    broken: dict[str, int]

    @property
    def accept_rate(self) -> float:
        """Accepted texts over all that were judged."""
        pages, refused = sum(self.accepted.values()), sum(sum(reasons.values()) for reasons in self.refused.values())
        return pages / max(1, pages + refused)


def stats(folder: Path, seed: Seed | None = None) -> Stats:
    """The figures of a corpus folder, of its whole lines: it may be in the making, or damaged. Raises `DataError` when there
    is none, or origin.json or manifest.json is broken."""
    held = _read(folder)
    origin, pages = held.origin, held.pages
    manifest = read_record(folder / "manifest.json", Manifest) if (folder / "manifest.json").exists() else None
    refused: dict[str, dict[str, int]] = {}
    for (kind, reason), number in Counter((reject.kind, reject.reason)
                                          for reject in held.rejects).most_common():
        refused.setdefault(kind, {})[reason] = number
    lengths = sorted(len(page.text) for page in pages) or [0]
    accepted = Counter(page.kind for page in pages)
    return Stats(
        seed=origin.seed, title=seed.title if seed else manifest.title if manifest else "", finished=manifest is not None,
        asked=origin.settings.pages, held_out=sum(page.held_out for page in pages),
        accepted={kind: accepted[kind] for kind in KINDS if accepted[kind]}, refused=refused,
        replaced=max(0, len(held.plan) - origin.settings.pages),
        forms=_counted(page.form for page in pages), registers=_counted(page.register_ for page in pages),
        characters=sum(lengths), shortest=lengths[0], middle=lengths[len(lengths) // 2], longest=lengths[-1],
        steps=coverage((page.path for page in pages if page.kind in ("composed", "dialogue")), seed) if seed else None,
        bank=sum(not sentence.refused for sentence in held.bank),
        bank_refused=_counted(sentence.refused for sentence in held.bank), tokens=sum(page.tokens for page in pages),
        seconds=manifest.seconds if manifest else None, broken=held.broken)


def table(rows: Iterable[Stats]) -> Table:
    """The figures of several corpora side by side."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False)
    for name, whole in (("seed", True), ("pages", True), ("kinds", False), ("characters", True), ("accepted", True),
                        ("refused because", False), ("steps told", True)):
        shown.add_column(name, no_wrap=whole)
    for row in rows:
        pages = sum(row.accepted.values())
        reasons = Counter[str]()
        for found in row.refused.values():
            reasons.update(found)
        shown.add_row(
            Text(row.seed), f"{pages}" if row.finished and not row.broken else f"{pages} of {row.asked}",
            "\n".join(f"{kind} {number}" for kind, number in row.accepted.items()), f"{row.characters:,}",
            f"{row.accept_rate:.0%}",
            ", ".join(f"{reason} {number}" for reason, number in reasons.most_common(5)) or "–",
            f"{row.steps[0]}–{row.steps[1]} ×" if row.steps else "–")
    return shown


def differences(one: Path, other: Path) -> list[str]:
    """In what two corpora of one seed differ: settings, plan, bank, the pages of each kind, and in lines that are not whole.
    Empty when in nothing. Raises like `stats`."""
    ours, theirs = _read(one), _read(other)
    first, second = ours.origin, theirs.origin
    found = [f"{name}: {getattr(first, name)} | {getattr(second, name)}" for name in ("seed", "generator", "random_seed", "model")
             if getattr(first, name) != getattr(second, name)]
    a, b = first.settings.model_dump(), second.settings.model_dump()
    found += [f"corpus.{name}: {a[name]} | {b[name]}" for name in a if a[name] != b[name]]
    plans = [{spec.number: spec.line() for spec in held.plan} for held in (ours, theirs)]
    found += _compared("plan lines", *plans)
    banks = [{(line.kind, line.about, line.place, line.attempt): line.text for line in held.bank} for held in (ours, theirs)]
    found += _compared("bank sentences", *banks)
    for kind in KINDS:
        texts = [{page.spec: page.text for page in held.pages if page.kind == kind} for held in (ours, theirs)]
        found += _compared(f"{kind} pages", *texts)
    # Told even where both have as many: what was left out was not compared.
    return found + [f"lines of {name} that are not whole, left out: {ours.broken.get(name, 0)} | {theirs.broken.get(name, 0)}"
                    for name in {**ours.broken, **theirs.broken}]


def _compared(what: str, one: Mapping[Any, str], other: Mapping[Any, str]) -> list[str]:
    common = one.keys() & other.keys()
    same = sum(one[key] == other[key] for key in common)
    if same == len(one) == len(other):
        return []
    return [f"{what}: {same} alike, {len(common) - same} differ, {len(one) - len(common)} only in the first, "
            f"{len(other) - len(common)} only in the second"]


@dataclass(frozen=True)
class _Held:
    """What a corpus folder holds in whole lines; `broken` counts the others of each file."""

    origin: Origin
    plan: list[PageSpec]
    bank: list[BankSentence]
    pages: list[Page]
    rejects: list[Reject]
    broken: dict[str, int]


def _read(folder: Path) -> _Held:
    if not (folder / "origin.json").exists():
        raise DataError(f"there is no corpus in {folder}. Run: rostok corpus build")
    broken: dict[str, int] = {}

    def lines(name: str, kind: type[RecordT]) -> list[RecordT]:
        kept, others = kept_lines(folder / name, kind)
        if others:
            broken[name] = others
        return kept

    return _Held(read_record(folder / "origin.json", Origin), lines("plan.jsonl", PageSpec), lines("bank.jsonl", BankSentence),
                 lines("pages.jsonl", Page), lines("rejects.jsonl", Reject), broken)


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(name for name in names if name).most_common())

