"""The experts of a run by name, and the splices among them: what the commands that take an expert look up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rostok.errors import DataError, ModelError, RunError
from rostok.models import Base
from rostok.records import append_jsonl, file_digest, read_jsonl, read_record, recover_jsonl, write_atomic
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm.adapter_gguf import weights_file
from rostok.swarm.adapters import Adapter, read_adapter
from rostok.swarm.records import Expert, Figures, Splice

_SPLICE = re.compile(r"x-[0-9a-f]{12}")
_GROWN = re.compile(r"s-[0-9a-f]+")


def find(run: Run, name: str) -> Expert:
    """The expert that a name means: a seed's id, a splice's name, an expert's id, the beginning of one of these, or a title.

    Raises:
        RunError: none is meant, or more than one; the message names those that there are.
    """
    known = list({expert.seed: expert for expert in read_jsonl(run.registry, Expert)}.values())
    if not known:
        raise RunError(f"{run.folder} has no experts yet. Train them: rostok swarm train {run.folder}")
    exact = [one for one in known if name in (one.seed, one.id) or name.casefold() == one.title.casefold()]
    found = exact or [one for one in known if name and (one.seed.startswith(name) or one.id.startswith(name)
                                                        or one.adapter_sha256.startswith(name))]
    if len(found) != 1:
        there = "; ".join(f"{one.seed} ({one.id}, {one.title})" for one in (found or known)[:8])
        more = f"; and {len(found or known) - 8} more" if len(found or known) > 8 else ""
        raise RunError(f"{'no expert of' if not found else 'more than one expert of'} {run.folder} is meant by '{name}'. "
                       f"There are: {there}{more}.")
    return found[0]


def folder_of(run: Run, expert: Expert) -> Path:
    """Where its adapter lies. Raises `DataError` for a line that could name a path outside of the run."""
    if not (_SPLICE if expert.operator else _GROWN).fullmatch(expert.seed):
        raise DataError(f"{run.registry}: '{expert.seed}' is no name of an expert. Mend or remove that line.")
    return run.experts / expert.seed


def read(run: Run, expert: Expert, base: Base) -> Adapter:
    """The expert's adapter, after its files and its base were compared with what the registry says.

    Raises:
        ModelError: it belongs to another base, or a file is missing, damaged or a pickle.
        DataError: the file was changed since it was made.
    """
    folder = checked_folder(run, expert, base)
    return read_adapter(folder)


def checked_folder(run: Run, expert: Expert, base: Base) -> Path:
    """The folder of an expert that may be used with this base. Raises as `read` does."""
    name = f"the expert “{expert.title}” ({expert.id})"
    if expert.base_sha256 != base.sha256:
        raise ModelError(f"{name} is an adapter for another base (sha256 {expert.base_sha256[:12]}); this is {base.name} "
                         f"({base.sha256[:12]}). Set models.base to the one it was trained on.")
    folder = folder_of(run, expert)
    again = (f"Make it again: delete {folder} and repeat the {expert.operator}." if expert.operator
             else f"Delete {folder} and run: rostok swarm train {run.folder}")
    path = weights_file(folder)
    if not path.is_file():
        raise ModelError(f"{path} of {name} is missing. {again}")
    if file_digest(path) != expert.adapter_sha256:
        raise DataError(f"{path} of {name} was changed since it was made (its hash is not that of {run.registry.name}). {again}")
    return folder


def register(run: Run, splice: Splice) -> Expert:
    """Append a finished splice to experts.jsonl, unless its line is there."""
    expert = splice.expert()
    recover_jsonl(run.registry)
    if expert not in read_jsonl(run.registry, Expert):
        append_jsonl(run.registry, [expert])
    return expert


def write(run: Run, seeds: Sequence[Seed], base: Base) -> None:
    """experts.jsonl anew, from what lies in experts/: every grown expert in the order of the library, then every splice."""
    lines = []
    for seed in seeds:
        path = run.experts / seed.id / "figures.json"
        if path.exists():
            figures = read_record(path, Figures)
            lines.append(Expert(id=f"{base.sha256[:6]}+{figures.adapter_sha256[:6]}", seed=seed.id, title=seed.title,
                                base_sha256=base.sha256, adapter_sha256=figures.adapter_sha256,
                                gguf_sha256=figures.gguf_sha256, folder=f"experts/{seed.id}",
                                school_sha256=figures.school_sha256))
    lines += [read_record(path, Splice).expert() for path in sorted(run.experts.glob("x-*/splice.json"))]
    write_atomic(run.registry, "".join(expert.line() + "\n" for expert in lines))
