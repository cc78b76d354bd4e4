"""Two small adapters for the embedded base, as PEFT writes them and as llama.cpp reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rostok.config import EMBEDDED
from rostok.models import find_base, training_folder

pytest.register_assert_rewrite("tests.engines.contract", "tests.engines.llama_server_process")


@pytest.fixture(scope="session")
def peft_adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters `a` and `b`: random, of rank 4, strong enough to change every answer and weak enough to leave it speech."""
    from safetensors.numpy import save_file

    from rostok.engines.peft_adapter import CONFIG, WEIGHTS, shapes

    base, rank, modules, folders = shapes(training_folder(find_base(EMBEDDED))), 4, ("q_proj", "v_proj", "down_proj"), {}
    for seed, name in enumerate("ab"):
        random, weights = np.random.default_rng(seed), {}
        for key, shape in base.items():
            module = key.removesuffix(".weight")
            if module.split(".")[-1] in modules:
                for side, size in (("A", (rank, shape[1])), ("B", (shape[0], rank))):
                    weights[f"base_model.model.{module}.lora_{side}.weight"] = random.normal(0, 0.05, size).astype(np.float32)
        folders[name] = tmp_path_factory.mktemp("peft") / name
        folders[name].mkdir()
        save_file(weights, folders[name] / WEIGHTS)
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(modules)}
        (folders[name] / CONFIG).write_text(json.dumps(config))
    return folders


@pytest.fixture(scope="session")
def gguf_adapters(peft_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same two as files for llama.cpp."""
    from rostok.models import base_config
    from rostok.swarm.adapter_gguf import export_adapter

    folder = tmp_path_factory.mktemp("gguf")
    for name, source in peft_adapters.items():
        export_adapter(source, folder / f"{name}.gguf", base_config(find_base(EMBEDDED)))
    return {name: folder / f"{name}.gguf" for name in peft_adapters}
