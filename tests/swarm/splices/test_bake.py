"""An expert merged into its 4-bit base: what the folder says, and that it can be a base itself."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from rostok.engines.export_gguf import export_base
from rostok.errors import ModelError, RunError, StorageError
from rostok.models import Base, find_base
from rostok.records import read_jsonl, read_record
from rostok.runs import Run
from rostok.swarm import bake as module
from rostok.swarm.bake import Provenance, bake
from rostok.swarm.base import FrozenBase
from rostok.swarm.records import Expert

TEXT = list(range(300, 348))


def log_probabilities(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([TEXT])).logits[0].float().log_softmax(-1)  # type: ignore[no-any-return]


def test_a_baked_base_says_what_the_expert_said(run: Run, base: Base, tmp_path: Path) -> None:
    """Prevents: an adapter that is added to other weights than it was trained against, or not added at all."""
    expert = read_jsonl(run.registry, Expert)[0]
    told: list[int] = []
    folder, provenance = bake(run, expert.seed, base, on_layer=told.append)
    assert folder.parent == run.folder / "bases" and told == [14] * 14
    ours = log_probabilities(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    frozen = FrozenBase(base)
    plain = log_probabilities(frozen.model)
    theirs = log_probabilities(PeftModel.from_pretrained(frozen.model, str(run.experts / expert.seed)))
    unquantised = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.source, dtype=torch.float32),
                                            str(run.experts / expert.seed))
    error = (ours - theirs).std()
    assert error < 0.2 * (log_probabilities(unquantised) - theirs).std()  # 4 bits differ more than bf16 sums do
    assert error < 0.1 * (plain - theirs).std()
    assert provenance == read_record(folder / "provenance.json", Provenance)
    assert (provenance.base_sha256, provenance.expert, provenance.sha256) == (base.sha256, expert, find_base(str(folder)).sha256)


def test_it_is_a_base_like_any_other(run: Run, base: Base, tmp_path: Path) -> None:
    """Prevents: a folder that the trainer or the engine's export refuses, or one with a stranger's template or code in it."""
    (base.source / "chat_template.jinja").write_text("{{ evil }}")
    config = (base.source / "config.json").read_text()
    (base.source / "config.json").write_text(json.dumps({**json.loads(config), "auto_map": {"AutoModel": "evil.Model"}}))
    try:
        folder, provenance = bake(run, read_jsonl(run.registry, Expert)[1].seed, base, tmp_path / "out")
    finally:
        (base.source / "chat_template.jinja").unlink()
        (base.source / "config.json").write_text(config)
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "provenance.json", "tokenizer.json",
        "tokenizer_config.json"}
    assert "auto_map" not in json.loads((folder / "config.json").read_text())
    again = FrozenBase(find_base(str(folder)))
    assert again.sha256 == provenance.sha256 and hasattr(again.model.model.layers[0].mlp.up_proj.weight, "quant_state")
    export_base(folder, tmp_path / "base.gguf")


def test_baking_twice_is_baking_once(run: Run, base: Base, tmp_path: Path) -> None:
    """Prevents: a base that is written over while another run works with it, or a folder of something else that is lost."""
    one, two = (expert.seed for expert in read_jsonl(run.registry, Expert))
    folder, provenance = bake(run, one, base)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert bake(run, one, base) == (folder, provenance)
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(RunError, match="holds something else already"):
        bake(run, two, base, folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    for taken in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(RunError, match="holds something else already"):
            bake(run, one, base, taken)


def test_a_full_disk_leaves_nothing_behind(run: Run, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: half a model that the next run takes for a base, and a library's error instead of a sentence."""
    expert = read_jsonl(run.registry, Expert)[0].seed
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StorageError, match="Free some space"):
            bake(run, expert, base, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    little = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: little)
    with pytest.raises(StorageError, match="it takes 6 MiB and 1 MiB are free"):
        bake(run, expert, base, tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_adapter_of_other_shapes_is_refused(run: Run, base: Base) -> None:
    """Prevents: a traceback of torch about sizes, where an adapter only pretends to be of this base."""
    expert = read_jsonl(run.registry, Expert)[0]
    adapter = module.registry.read(run, expert, base)
    frozen = FrozenBase(base)
    a, b = adapter.pairs["model.layers.0.mlp.up_proj"]
    with pytest.raises(ModelError, match="does not fit its base"):
        module._merged(frozen.model, {"model.layers.0.mlp.up_proj": (a[:, :-1], b)}, expert, lambda layers: None)
    with pytest.raises(ModelError, match="no 4-bit layer"):
        module._merged(frozen.model, {"model.norm": (a, b)}, expert, lambda layers: None)
