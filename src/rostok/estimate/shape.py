"""How large the base of the settings is: parameters, layers and width, read from its file's head."""

from __future__ import annotations

import json
from pathlib import Path

from rostok.errors import ConfigError, ModelError
from rostok.estimate.reckon import Shape
from rostok.models import find_base, names_a_hub_model


def shape_of_base(setting: str) -> Shape:
    """The shape of the base that `models.base` names; only a model that is on this machine can be looked at.

    Raises:
        ConfigError: the base is on a hub; nothing is downloaded for a guess.
        ModelError: nothing is there, or it cannot be read.
    """
    if names_a_hub_model(setting):
        raise ConfigError(f"the size of {setting} is not known here, and nothing is downloaded for an estimate; "
                          "give it with --parameters, for example --parameters 1.3e9.")
    base = find_base(setting)
    return _of_folder(base.source, base.name) if base.source.is_dir() else _of_gguf(base.source, base.name)


def _of_gguf(path: Path, name: str) -> Shape:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read as a GGUF file: {error}. It may be cut short; get it again.") from None
    family = reader.fields["general.architecture"].contents()
    layers, width = (int(reader.fields[f"{family}.{key}"].contents()) for key in ("block_count", "embedding_length"))
    return Shape(float(sum(int(tensor.n_elements) for tensor in reader.tensors)), layers, width, name)


def _of_folder(folder: Path, name: str) -> Shape:
    from math import prod

    from safetensors import safe_open

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    parameters = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            parameters += sum(prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118  # no mapping
    return Shape(float(parameters), int(config["num_hidden_layers"]), int(config["hidden_size"]), name)
