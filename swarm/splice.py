"""New experts out of trained ones, without training: `merge` adds two, `split` cuts one in two whose sum it is.

A splice is built in `experts/x-….part`, moved to its place whole and then registered; one that is there already is not
made again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rostok import __version__
from rostok.errors import RunError, writing
from rostok.models import Base, base_config
from rostok.records import digest, file_digest, read_record, write_atomic
from rostok.runs import Run
from rostok.swarm import lowrank, registry, school
from rostok.swarm.adapter_gguf import export_adapter
from rostok.swarm.adapters import Adapter, write_adapter
from rostok.swarm.records import Expert, Parent, Splice

_SPLICE = 1  # raise when the same parents and options would give another adapter


@dataclass(frozen=True)
class Merge:
    """How two experts are merged.

    Attributes:
        method: `sum` is exact; `ties` and `dare` thin both first.
        rank: of the result; None takes the sum of the ranks, with which `sum` loses nothing (the school's among them).
        weights: by which the experts are multiplied.
        density: share of the numbers that `ties` and `dare` keep.
        random_seed: of `dare`.
    """

    method: Literal["sum", "ties", "dare"] = "sum"
    rank: int | None = None
    weights: tuple[float, float] = (1.0, 1.0)
    density: float = 0.5
    random_seed: int = 7


def merge(run: Run, names: tuple[str, str], base: Base, how: Merge,
          on_module: Callable[[int], None] = lambda modules: None) -> Splice:
    """One expert out of two. Call with the run held.

    What both began from, the school, is in the result once: merged is what each has learned beyond it.

    Args:
        names: of the experts, as `registry.find` takes them.
        on_module: called with the number of all modules after each that `ties` or `dare` has done.

    Raises:
        RunError: an expert is unknown, both are the same, or the rank does not fit.
        ModelError: they belong to another base, change other modules, or a file of theirs cannot be used.
        DataError: an adapter was changed.
        StorageError: the disk refused; the run is as it was.
    """
    experts = [registry.find(run, name) for name in names]
    if experts[0].adapter_sha256 == experts[1].adapter_sha256:
        raise RunError(f"both names mean the expert “{experts[0].title}” ({experts[0].id}). Name two.")
    if not 0 < how.density <= 1:
        raise RunError(f"a density of {how.density:g} is no share. Give one above 0 and at most 1.")
    parts = [registry.read(run, expert, base) for expert in experts]
    begun = school.common(run, experts)
    thinned = how.method != "sum"
    once = 1 - sum(how.weights)  # of the school, so that it is in the sum once
    summands = parts if begun is None or not (once or thinned) else [*parts, begun]
    rank = _fitting_rank(summands, how)
    parents = _parents(experts, how.weights)
    density = how.density if thinned else None
    dice = how.random_seed if how.method == "dare" else None
    origin = digest("merge", base.sha256, *parents, how.method, rank, density, dice, _SPLICE)
    made = _finished(run, origin)
    if made is not None:
        return made
    whole = lowrank.add(summands, [*how.weights, once][: len(summands)])  # also compares the modules
    kept = 1.0
    if how.method != "sum":
        modules = len(whole.pairs)
        whole, kept = lowrank.agree(parts, how.weights, how.method, how.density, rank, how.random_seed,
                                    lambda: on_module(modules), begun)
    elif rank < whole.rank:
        whole, kept = lowrank.cut(whole, 0, rank)
    title = " + ".join(expert.title for expert in experts) + (f", {how.method}" if thinned else "")
    return _keep(run, whole, base, Splice(
        name=_name(origin), title=title, operator="merge", method=how.method, density=density,
        random_seed=dice, parents=parents, of_seeds=_seeds(experts),
        school_sha256=experts[0].school_sha256 if begun is not None else "", rank=rank,
        kept=round(kept, 6), made_from=origin, base_sha256=base.sha256, adapter_sha256="", gguf_sha256="", rostok=__version__))


def split(run: Run, name: str, base: Base, rank: int | None = None) -> tuple[Splice, Splice]:
    """An expert's strongest singular directions, and the others: two experts whose sum is the first. Call with the run held.

    Args:
        rank: of the leading one; None takes half. Raises otherwise as `merge` does.
    """
    expert = registry.find(run, name)
    whole = registry.read(run, expert, base)
    module, width = whole.narrowest()
    if whole.rank > width:
        raise RunError(f"“{expert.title}” has rank {whole.rank}, above the width {width} of {module}, and so has no {whole.rank} "
                       "directions to divide. Train it with a lower rank.")
    leading = whole.rank // 2 if rank is None else rank
    if not 1 <= leading < whole.rank:
        raise RunError(f"“{expert.title}” has rank {whole.rank} and cannot be split at {leading}. "
                       + (f"Give --rank from 1 to {whole.rank - 1}." if whole.rank > 1 else "It has one direction only."))
    parents = _parents([expert], (1.0,))
    halves = []
    bounds: tuple[tuple[Literal["leading", "trailing"], int, int], ...] = (
        ("leading", 0, leading), ("trailing", leading, whole.rank))
    for part, first, last in bounds:
        origin = digest("split", base.sha256, *parents, part, leading, _SPLICE)
        made = _finished(run, origin)
        if made is None:
            adapter, kept = lowrank.cut(whole, first, last)
            made = _keep(run, adapter, base, Splice(
                name=_name(origin), title=f"{expert.title}, {part} {last - first} of {whole.rank}", operator="split", part=part,
                parents=parents, of_seeds=_seeds([expert]), rank=last - first, kept=round(kept, 6), made_from=origin,
                base_sha256=base.sha256, adapter_sha256="", gguf_sha256="", rostok=__version__))
        halves.append(made)
    return halves[0], halves[1]


def _fitting_rank(parts: Sequence[Adapter], how: Merge) -> int:
    total = sum(part.rank for part in parts)
    rank = total if how.rank is None else how.rank
    module, width = min((part.narrowest() for part in parts), key=lambda item: item[1])
    if rank > width:
        raise RunError(f"a rank of {rank} is above the width {width} of {module}. Give --rank {width} or less.")
    if rank < 1:
        raise RunError(f"a rank of {rank} leaves nothing. Give --rank 1 or more.")
    if how.method == "sum" and rank > total:
        raise RunError(f"the sum has rank {total}; a rank of {rank} would only add zeros. Leave --rank out, or give less.")
    return rank


def _parents(experts: Sequence[Expert], weights: Sequence[float]) -> tuple[Parent, ...]:
    return tuple(Parent(id=expert.id, seed=expert.seed, title=expert.title, adapter_sha256=expert.adapter_sha256, weight=weight)
                 for expert, weight in zip(experts, weights, strict=True))


def _seeds(experts: Sequence[Expert]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(seed for expert in experts for seed in expert.seeds))


def _name(origin: str) -> str:
    return f"x-{origin[:12]}"


def _finished(run: Run, origin: str) -> Splice | None:
    """The splice that was made of the same before and is whole; a damaged one is made again."""
    folder = run.experts / _name(origin)
    if not (folder / "splice.json").is_file():
        return None
    splice = read_record(folder / "splice.json", Splice)
    files = {"adapter_model.safetensors": splice.adapter_sha256, "adapter.gguf": splice.gguf_sha256}
    whole = all((folder / name).is_file() and file_digest(folder / name) == sha for name, sha in files.items())
    if splice.made_from != origin or not whole:
        return None
    registry.register(run, splice)
    return splice


def _keep(run: Run, adapter: Adapter, base: Base, draft: Splice) -> Splice:
    """Write the splice beside its place, move it there whole, register it."""
    target, partial = run.experts / draft.name, run.experts / f"{draft.name}.part"
    with writing(partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            write_adapter(adapter, partial)
            export_adapter(partial, partial / "adapter.gguf", base_config(base))
            splice = draft.model_copy(update={"adapter_sha256": file_digest(partial / "adapter_model.safetensors"),
                                              "gguf_sha256": file_digest(partial / "adapter.gguf")})
            write_atomic(partial / "splice.json", splice.model_dump_json(indent=1) + "\n")
            shutil.rmtree(target, ignore_errors=True)
            os.replace(partial, target)
        except BaseException:  # a disk that is full must not stay full of halves
            shutil.rmtree(partial, ignore_errors=True)
            raise
    registry.register(run, splice)
    return splice
