"""An expert merged into its base: an ordinary model folder (bf16 safetensors, config, tokenizer, provenance.json).

The adapter was trained against the 4-bit weights, so it is added to those, dequantised, and not to the weights that they were
quantised from. The folder can be the base of another run (`models.base`), for a last phase of a curriculum.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rostok import __version__
from rostok.engines.export_gguf import read_json
from rostok.errors import DataError, ModelError, RunError, StorageError, writing
from rostok.models import Base, find_base, training_folder
from rostok.records import Record, digest, read_record, write_atomic
from rostok.runs import Run
from rostok.swarm import registry
from rostok.swarm.base import FrozenBase
from rostok.swarm.records import Expert

_BAKE = 1  # raise when the same base and adapter would give other weights
_KEPT = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
         "vocab.json", "merges.txt", "tokenizer.model")
_LEFT_OUT = ("quantization_config", "auto_map")  # the weights are bf16 now; code of strangers is never run
_SHARD = "5GB"


class Provenance(Record):
    """`provenance.json` of a merged model: what it was made of. `sha256` is what Rostok calls the model by from then on."""

    made_from: str
    rostok: str
    base: str
    base_sha256: str
    weights: str = "nf4, dequantised, bf16"
    expert: Expert
    sha256: str


def bake(run: Run, name: str, base: Base, folder: Path | None = None,
         on_layer: Callable[[int], None] = lambda layers: None) -> tuple[Path, Provenance]:
    """Merge an expert into its base. Returns the folder and what it was made of.

    Args:
        folder: where to; None takes `bases/<expert>` of the run. One that holds the same already stays as it is.
        on_layer: called with the number of all adapted modules after each.

    Raises:
        RunError: the expert is unknown, or the folder holds something else.
        ModelError: the expert cannot be used with this base, or changes something else than its 4-bit layers.
        DataError: the adapter was changed.
        StorageError: the disk refused, or has too little room; nothing is left.
    """
    expert = registry.find(run, name)
    adapter = registry.read(run, expert, base)
    target = folder if folder is not None else run.folder / "bases" / re.sub(r"[^0-9a-z]+", "-", f"{expert.seed}-{expert.id}")
    origin = digest(base.sha256, expert.adapter_sha256, _BAKE)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        known = _known(target)
        if known is None or known.made_from != origin:
            raise RunError(f"{target} holds something else already. Name another folder, or delete this one.")
        return target, known
    source = training_folder(base)
    config = {key: value for key, value in read_json(source, "config.json").items() if key not in _LEFT_OUT}
    frozen = FrozenBase(base)
    size = sum(parameter.quant_state.shape.numel() if hasattr(parameter, "quant_state") else parameter.numel()
               for parameter in frozen.model.parameters()) * 2
    _need_room(target, size)
    weights = _merged(frozen.model, adapter.pairs, expert, on_layer)
    partial = target.with_name(f"{target.name}.part")
    try:
        with writing(partial):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _write_weights(weights, partial)
            for kept in _KEPT:  # no chat template and no code: those of strangers are never run
                if (source / kept).is_file():
                    shutil.copyfile(source / kept, partial / kept)
            write_atomic(partial / "config.json", json.dumps({**config, "dtype": "bfloat16"}, indent=2, sort_keys=True) + "\n")
            provenance = Provenance(made_from=origin, rostok=__version__, base=base.name, base_sha256=base.sha256, expert=expert,
                                    sha256=find_base(str(partial)).sha256)
            write_atomic(partial / "provenance.json", provenance.model_dump_json(indent=1) + "\n")
            if target.exists():
                target.rmdir()  # empty: looked at above
            os.replace(partial, target)
    except BaseException:  # a disk that is full must not stay full of halves
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target, provenance


def _merged(model: Any, pairs: dict[str, Any], expert: Expert, on_layer: Callable[[int], None]) -> dict[str, Any]:
    """{name: tensor}, bf16, one shared tensor once."""
    import torch
    from peft.utils.integrations import dequantize_module_weight

    weights: dict[str, Any] = {}
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():  # a tied head is listed once, with its embedding
        module, _, kind = name.rpartition(".")
        if kind == "weight" and hasattr(parameter, "quant_state"):
            weights[name] = dequantize_module_weight(modules[module]).detach().cpu()
        else:
            weights[name] = parameter.detach().cpu()
    for module, (a, b) in pairs.items():
        name = f"{module}.weight"
        if name not in weights or not hasattr(modules[module].weight, "quant_state"):
            raise ModelError(f"the expert “{expert.title}” changes {module}, which is no 4-bit layer of its base. "
                             "Train it on linear layers alone.")
        if weights[name].shape != (b.shape[0], a.shape[1]):
            raise ModelError(f"{module} of the expert “{expert.title}” does not fit its base. The adapter is another base's.")
        weights[name] = weights[name].float() + b @ a
        on_layer(len(pairs))
    return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}


def _write_weights(weights: dict[str, Any], folder: Path) -> None:
    from huggingface_hub import save_torch_state_dict
    from safetensors import SafetensorError

    try:
        save_torch_state_dict(weights, folder, max_shard_size=_SHARD, metadata={"format": "pt"})
    except SafetensorError as error:  # it wraps what the operating system said
        raise StorageError(f"cannot write {folder}: {error}. Free some space and run the same command again.") from error


def _need_room(target: Path, size: int) -> None:
    """Raises `StorageError` where the disk of `target` has no room for so many bytes."""
    place = next(parent for parent in (target, *target.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < size:
        raise StorageError(f"cannot write {target}: it takes {size >> 20:,} MiB and {free >> 20:,} MiB are free. "
                           "Free some space, or name a folder on another disk.")


def _known(folder: Path) -> Provenance | None:
    try:
        return read_record(folder / "provenance.json", Provenance)
    except (DataError, OSError):
        return None
