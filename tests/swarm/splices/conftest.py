"""A run of two experts over a tiny random base, written through the real records, as training leaves one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from rostok import __version__
from rostok.config import resolve
from rostok.generator.records import Manifest, Page, Turn
from rostok.models import Base, base_config, find_base, training_folder
from rostok.records import append_jsonl, file_digest, read_jsonl, write_atomic
from rostok.runs import Run
from rostok.seeds.library import Library
from rostok.seeds.record import Seed
from rostok.swarm.adapter_gguf import export_adapter
from rostok.swarm.records import Expert, Figures, LossPoint
from tests.swarm.tiny_run import make_school

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WIDTH = 32  # of the keys: the narrowest layer


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All tests of splices."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with the embedded base's tokenizer."""
    folder, source = tmp_path_factory.mktemp("tiny") / "base", training_folder(find_base("embedded"))
    torch.manual_seed(5)
    config = LlamaConfig(vocab_size=49152, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, bos_token_id=1, eos_token_id=2, initializer_range=0.2, tie_word_embeddings=True)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def base(tiny: Path) -> Base:
    return find_base(str(tiny))


@pytest.fixture(scope="session")
def add_expert(base: Base) -> Callable[..., Expert]:
    """`add_expert(run, seed, random_seed, **lora)`: a random adapter, written and registered as training does it."""

    def add(run: Run, seed: Seed, random_seed: int, **lora: Any) -> Expert:
        folder = run.experts / seed.id
        torch.manual_seed(random_seed)
        values = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **lora}
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base.source, dtype=torch.float32), LoraConfig(**values))
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if "lora_B" in name:
                    weights.copy_(torch.randn_like(weights) * 0.3)
        model.save_pretrained(folder)
        export_adapter(folder, folder / "adapter.gguf", base_config(base))
        settings = run.read().settings
        figures = Figures(
            seed=seed.id, title=seed.title, made_from="0" * 64, base_sha256=base.sha256,
            adapter_sha256=file_digest(folder / "adapter_model.safetensors"), gguf_sha256=file_digest(folder / "adapter.gguf"),
            corpus_sha256="1" * 64, settings=settings.training, rostok=__version__, pages=16, tokens=1000, steps=3, seconds=1.5,
            held_out_loss_before=2.0, held_out_loss_after=1.0,
            curve=tuple(LossPoint(step=step, loss=3.0 / step, learning_rate=0.002) for step in (1, 2, 3)))
        write_atomic(folder / "figures.json", figures.model_dump_json(indent=1) + "\n")
        expert = Expert(id=f"{base.sha256[:6]}+{figures.adapter_sha256[:6]}", seed=seed.id, title=seed.title,
                        base_sha256=base.sha256, adapter_sha256=figures.adapter_sha256, gguf_sha256=figures.gguf_sha256,
                        folder=f"experts/{seed.id}")
        append_jsonl(run.registry, [expert])
        return expert

    return add


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, base: Base, make_seed: Callable[..., Seed],
             add_expert: Callable[..., Expert]) -> Path:
    """Two seeds, their corpora, and an expert of each: one of rank 4 and scale 2, one of rank 6 under rsLoRA."""
    run = Run(tmp_path_factory.mktemp("template") / "run")
    run.start(resolve(options={
        "models": {"base": str(base.source), "threads": 1, "context": 512, "sequences": 4}, "school": {"drills": 0},
        "training": {"rank": 4, "alpha": 8, "warmup_steps": 1}, "probes": {"chat_nodes": 1, "matrix_pages": 2, "general": 2}}))
    library = Library(run.seeds)
    for place, lora in enumerate(({}, {"r": 6, "lora_alpha": 5, "use_rslora": True})):
        seed = make_seed(place)
        library.admit(seed)
        _write_corpus(run, seed)
        add_expert(run, seed, place, **lora)
    return run.folder


@pytest.fixture
def run(template: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of the run, whose models are cached outside of the user's own cache."""
    monkeypatch.setenv("ROSTOK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    return Run(Path(shutil.copytree(template, tmp_path / "run")))


@pytest.fixture
def schooled(run: Run) -> Run:
    """The run as if both experts had begun from a school of rank 3."""
    raw = json.loads(run.file.read_text())
    raw["settings"]["school"]["drills"] = 1
    run.file.write_text(json.dumps(raw))
    sha256 = make_school(run, rank=3, alpha=6)
    lines = [one.model_copy(update={"school_sha256": sha256}) for one in read_jsonl(run.registry, Expert)]
    write_atomic(run.registry, "".join(one.line() + "\n" for one in lines))
    return run


def _write_corpus(run: Run, seed: Seed) -> None:
    """Ten pages, two of them held out."""
    pages = []
    for number in range(10):
        step = seed.transitions[number % len(seed.transitions)]
        one, two = seed.name(step.source), seed.name(step.target)
        turns = (Turn(role="user", content=f"What does the {one} feed?"), Turn(role="assistant", content=f"The {two}."))
        spoken = {"kind": "dialogue", "turns": turns} if number % 2 else {"kind": "composed"}
        pages.append(Page.model_validate({"spec": number, "author": "code", "text": f"The {one} feeds the {two}.",
                                          "held_out": number > 7, **spoken}))
    folder = run.corpora / seed.id
    append_jsonl(folder / "pages.jsonl", pages)
    write_atomic(folder / "manifest.json", Manifest(
        seed=seed.id, title=seed.title, made_from="0" * 64, pages_sha256=file_digest(folder / "pages.jsonl"),
        settings=run.read().settings.corpus, model="0" * 64, rostok=__version__, pages=10, held_out=2,
        characters=sum(len(page.text) for page in pages), by_kind={}, rejected={}, given_up=0, sampled_tokens=0,
        seconds=1.0).line())


def edit_json(path: Path, **changes: Any) -> None:
    """Change values of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
