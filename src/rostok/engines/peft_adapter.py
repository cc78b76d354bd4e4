"""LoRA adapters in PEFT's format: checked against their base before an engine is let near them, kept as they were given.

An engine that loads an adapter again whenever it needs it must not read the file that training has replaced meanwhile;
so every version is copied into a folder of its own, under an id that no other version ever had.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rostok.errors import AdapterError, writing

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_IDS = itertools.count(1)  # of the process: two engines one after the other share vLLM's caches of the process too

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Scaled:
    """An adapter at one strength, as a folder of PEFT's format. `id` and `label` are never used twice."""

    id: int
    label: str
    folder: Path


@dataclass(eq=False)
class Adapter:
    """One version of a registered adapter.

    Attributes:
        users: requests that wait or run with it.
        retired: removed or replaced; to be freed when nobody uses it any more.
    """

    name: str
    folder: Path
    users: int = 0
    retired: bool = False
    scales: dict[float, Scaled] = field(default_factory=dict)

    def at(self, scale: float) -> Scaled:
        """The adapter at this strength: the same weights beside a config whose alphas are `scale` times as large.

        Raises:
            StorageError: the disk refused.
        """
        if scale not in self.scales:
            number = next(_IDS)
            folder = self.folder / str(number)
            config = read_config(self.folder)
            config["lora_alpha"] = config["lora_alpha"] * scale
            config["alpha_pattern"] = {key: alpha * scale for key, alpha in (config.get("alpha_pattern") or {}).items()}
            with writing(folder):
                folder.mkdir()
                os.link(self.folder / WEIGHTS, folder / WEIGHTS)
                (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
            self.scales[scale] = Scaled(number, f"{self.name}#{number}", folder)
        return self.scales[scale]


def keep(name: str, path: Path, folder: Path, base: Shapes, rank: int) -> Adapter:
    """A copy in `folder` of the adapter at `path` (PEFT's folder, or a file in it), which was found to fit the base.

    Args:
        base: shapes of those weights of the base that an adapter may change; see `shapes`.
        rank: the largest that is accepted.

    Raises:
        AdapterError: missing, damaged, no plain LoRA, of another architecture, or of too high a rank.
        StorageError: the disk refused.
    """
    source = path.parent if path.is_file() else path
    missing = [part for part in (CONFIG, WEIGHTS) if not (source / part).is_file()]
    if missing:
        raise AdapterError(f"{source} has no {missing[0]}. Give a folder that PEFT has saved, with weights as safetensors.")
    with writing(folder):
        folder.mkdir(parents=True)
        for part in (CONFIG, WEIGHTS):
            shutil.copyfile(source / part, folder / part)
    try:
        _check(folder, base, rank)
    except AdapterError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise AdapterError(f"adapter {path} does not fit: {error}. Train it again for this base.") from None
    return Adapter(name, folder)


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every weight in a model's or adapter's safetensors, by tensor name; only the headers are read.

    Raises:
        AdapterError: a file is cut short or damaged.
    """
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise AdapterError(f"{path.name} is cut short or damaged ({error})") from None
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json. Raises `AdapterError` for one that is not of a LoRA."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise AdapterError(f"{CONFIG} cannot be read ({error})") from None
    if not isinstance(config, dict) or config.get("peft_type", "LORA") != "LORA":
        raise AdapterError(f"{CONFIG} is not of a LoRA")
    alphas = [config.get("lora_alpha"), *(config.get("alpha_pattern") or {}).values()]
    if not all(isinstance(alpha, int | float) for alpha in alphas):
        raise AdapterError(f"{CONFIG} has lora_alpha = {config.get('lora_alpha')!r}, not a number")
    return config


def _check(folder: Path, base: Shapes, rank: int) -> None:
    read_config(folder)
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes(folder).items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise AdapterError(f"{name} is no part of a plain LoRA")
        pairs.setdefault(match["module"], {})[match["side"]] = shape
    if not pairs:
        raise AdapterError("it holds no weights")
    for module, sides in pairs.items():
        outer = base.get(f"{module}.weight")
        if outer is None:
            raise AdapterError(f"the base has no {module}, or the engine takes no adapter on it")
        down, up = sides.get("A", ()), sides.get("B", ())
        if len(down) != 2 or len(up) != 2 or down[0] != up[1] or (up[0], down[1]) != outer:
            raise AdapterError(f"{module} is {outer[0]}×{outer[-1]} in the base, but lora_A is {down} and lora_B {up}")
        if down[0] > rank:
            raise AdapterError(f"{module} has rank {down[0]}, more than the engine's {rank}. Raise the engine's rank")
