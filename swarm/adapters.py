"""A LoRA adapter as the low-rank terms that it adds to a base, read from a PEFT folder and written to one.

The term of a module is B·A, its scale (alpha / rank) multiplied into B. What is more than such a term is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from rostok.engines.export_gguf import open_safetensors, read_json
from rostok.errors import ModelError
from rostok.records import write_atomic
from rostok.swarm.adapter_gguf import NAME, rank_and_alpha, weights_file

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Adapter:
    """What an adapter adds to its base.

    Attributes:
        pairs: {module: (A (rank, in), B (out, rank))}, float32, the scale in B.
        config: adapter_config.json that it was read from, or that of the first parent.
    """

    pairs: dict[str, Pair]
    config: Mapping[str, Any]

    @property
    def rank(self) -> int:
        """Of every module."""
        return int(next(iter(self.pairs.values()))[0].shape[0])

    def narrowest(self) -> tuple[str, int]:
        """The module whose smaller side is the smallest, and that side: no term of it can have a higher rank."""
        return min(((module, min(a.shape[1], b.shape[0])) for module, (a, b) in self.pairs.items()), key=lambda item: item[1])


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a PEFT folder (adapter_config.json, adapter_model.safetensors).

    Raises:
        ModelError: a file is missing, damaged or a pickle, or the adapter is more than one scaled product a module.
    """
    config = read_json(folder, "adapter_config.json")
    rank, alpha = rank_and_alpha(folder, config)
    halves: dict[str, dict[str, torch.Tensor]] = {}
    with open_safetensors(weights_file(folder)) as file:
        for source in sorted(file.keys()):
            match = NAME.fullmatch(source)
            if match is None:
                raise ModelError(f"the tensor {source} of {folder} is no half of a LoRA pair. Train an adapter on linear "
                                 "layers alone.")
            halves.setdefault(match["module"], {})[match["half"]] = file.get_tensor(source).float()
    if not halves:
        raise ModelError(f"the adapter in {folder} has no tensors. Train it again.")
    pairs = {}
    for module, pair in halves.items():
        shapes = {half: tuple(tensor.shape) for half, tensor in pair.items()}
        if len(pair) != 2 or shapes["A"][0] != rank or shapes["B"][1:] != (rank,):
            raise ModelError(f"the pair of {module} in {folder} has the shapes {shapes}, which do not fit the rank {rank} in "
                             "adapter_config.json. The adapter is damaged; train it again.")
        if not all(bool(tensor.isfinite().all()) for tensor in pair.values()):
            raise ModelError(f"the adapter in {folder} holds numbers in {module} that are not finite. Train it again.")
        pairs[module] = (pair["A"], pair["B"] * (alpha / rank))
    return Adapter(pairs, config)


def write_adapter(adapter: Adapter, folder: Path) -> None:
    """The adapter as an ordinary PEFT folder, float32, alpha = rank, so that PEFT adds B·A as it is.

    Raises:
        StorageError: the disk refused; no half of a file is left.
    """
    # The parent's configuration says which modules and layers are meant, in PEFT's own words; only the scale is new.
    config = {**adapter.config, "r": adapter.rank, "lora_alpha": adapter.rank, "use_rslora": False, "inference_mode": True}
    write_atomic(folder / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    write_atomic(folder / "adapter_model.safetensors", save(named(adapter), metadata={"format": "pt"}))


def named(adapter: Adapter, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """The matrices under PEFT's names, B without a scale of alpha / rank that PEFT puts to it."""
    tensors = {}
    for module, (a, b) in adapter.pairs.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = (b / scale).contiguous()
    return tensors
