"""A PEFT LoRA folder as a GGUF adapter for llama.cpp: `export_adapter(folder, out, base_config)`.

llama.cpp adds (alpha / rank) · B·A to a matrix, with one alpha for the whole adapter; what PEFT can do beyond that
is refused by name. The pairs are `blk.N.<module>.weight.lora_a` (rank, in) and `.lora_b` (out, rank).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind

from rostok.engines.export_gguf import (
    Piece,
    architecture,
    for_llama_rotation,
    number,
    open_safetensors,
    read_json,
    rotation_heads,
    write_gguf,
)
from rostok.errors import ModelError

NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
_INEXPRESSIBLE = (
    "use_dora", "alpha_pattern", "rank_pattern", "modules_to_save", "lora_bias", "fan_in_fan_out",
    "layer_replication", "trainable_token_indices", "target_parameters", "alora_invocation_tokens", "use_qalora",
    "use_bdlora", "velora_config", "monteclora_config", "kasa_config", "arrow_config",
)


def export_adapter(folder: Path, out: Path, base_config: Mapping[str, Any]) -> None:
    """Write the adapter in `folder` (adapter_config.json, adapter_model.safetensors) to `out` as GGUF.

    Args:
        base_config: config.json of the base it was trained on: model_type, num_hidden_layers, num_attention_heads,
            num_key_value_heads, tie_word_embeddings.

    Raises:
        ModelError: a file is missing, damaged or a pickle; the base's family is not supported; or the adapter has
            something that llama.cpp cannot express.
        StorageError: the disk refused; an older `out` is untouched.
    """
    arch = architecture(base_config)
    config = read_json(folder, "adapter_config.json")
    rank, alpha = rank_and_alpha(folder, config)
    path = weights_file(folder)
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    with open_safetensors(path) as file:
        write_gguf(writer, out, _pieces(folder, file, base_config, rank))


def weights_file(folder: Path) -> Path:
    """The adapter's safetensors, whether it is there or not. Raises `ModelError` where only a pickle lies."""
    path = folder / "adapter_model.safetensors"
    pickles = sorted({*folder.glob("adapter_model.bin"), *folder.glob("adapter_model.pt*")})
    if pickles and not path.is_file():
        raise ModelError(f"{pickles[0]} is a pickle, which can run code when it is opened; it is refused. "
                         "Have it saved as adapter_model.safetensors by whoever made it.")
    return path


def rank_and_alpha(folder: Path, config: Mapping[str, Any]) -> tuple[int, float]:
    """Rank, and the alpha by which llama.cpp's alpha / rank is PEFT's scale.

    Raises:
        ModelError: the adapter has something that is more than one scaled product a matrix.
    """
    if config.get("peft_type") != "LORA":
        raise ModelError(f"the adapter in {folder} is of type {config.get('peft_type')!r}; llama.cpp runs LORA "
                         "only. Train a LoRA adapter.")
    found = [key for key in _INEXPRESSIBLE if config.get(key)]
    if config.get("bias", "none") != "none":
        found.append(f"bias={config['bias']}")
    if found:
        raise ModelError(f"the adapter in {folder} uses {', '.join(found)}, which llama.cpp cannot express. "
                         "Train it without.")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float) or alpha <= 0:
        # llama.cpp takes an alpha of 0 as "scale 1"
        raise ModelError(f"{folder}/adapter_config.json has r = {rank!r} and lora_alpha = {alpha!r}; both must be "
                         "above 0. Train the adapter again.")
    return rank, float(alpha * math.sqrt(rank)) if config.get("use_rslora") else float(alpha)


def _pieces(folder: Path, file: Any, base_config: Mapping[str, Any], rank: int) -> list[Piece]:
    names = gguf.get_tensor_name_map(architecture(base_config), number(base_config, "num_hidden_layers"))
    halves: dict[str, dict[str, str]] = {}  # module of the base: {"A": tensor, "B": tensor}
    for source in sorted(file.keys()):
        match = NAME.fullmatch(source)
        name = match and names.get_name(match["module"])
        kind = file.get_slice(source).get_dtype()
        if not match or not name or kind not in ("F32", "F16", "BF16"):
            raise ModelError(f"the tensor {source} ({kind}) of {folder} has no place in a GGUF adapter of this "
                             "base. Train one on the linear layers of this base alone.")
        if name == "output" and base_config.get("tie_word_embeddings"):
            raise ModelError(f"the adapter in {folder} changes {match['module']}, which this base shares with its "
                             "embedding; llama.cpp cannot express that. Train it without lm_head.")
        halves.setdefault(match["module"], {})[match["half"]] = source
    if not halves:
        raise ModelError(f"the adapter in {folder} has no tensors. Train it again.")
    pieces = []
    for module, pair in halves.items():
        shapes = {half: tuple(file.get_slice(source).get_shape()) for half, source in pair.items()}
        if shapes.get("A", ())[:1] != (rank,) or shapes.get("B", ())[1:] != (rank,):
            raise ModelError(f"the pair of {module} in {folder} has the shapes {shapes}, which do not fit the "
                             f"rank {rank} in adapter_config.json. The adapter is damaged; train it again.")
        heads = rotation_heads(base_config, module)
        if heads and shapes["B"][0] % (2 * heads):
            raise ModelError(f"{module} of {folder} has {shapes['B'][0]} rows, which {heads} heads cannot share. "
                             "The adapter belongs to another base.")
        name = names.get_name(module)
        pieces.append(_piece(f"{name}.weight.lora_a", shapes["A"], file, pair["A"], 0))
        pieces.append(_piece(f"{name}.weight.lora_b", shapes["B"], file, pair["B"], heads))
    return pieces


def _piece(name: str, shape: tuple[int, ...], file: Any, source: str, heads: int) -> Piece:
    """F16 stays as it is; BF16 becomes F32, since llama.cpp multiplies adapters in F16 and F32 everywhere."""
    kind = Kind.F16 if file.get_slice(source).get_dtype() == "F16" else Kind.F32

    def load() -> np.ndarray:
        tensor = file.get_tensor(source)
        if heads:
            tensor = for_llama_rotation(tensor, heads)
        return tensor.to(torch.float16 if kind is Kind.F16 else torch.float32).numpy()  # type: ignore[no-any-return]

    return Piece(name, shape, kind, load)
