"""A run with small corpora and a tiny random base, and a process that trains its experts and nothing else.

    python -m tests.swarm.tiny_run RUN
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from rostok.config import EMBEDDED, Settings, resolve
from rostok.generator.records import Manifest, Page
from rostok.models import find_base, training_folder
from rostok.records import append_jsonl, digest, file_digest, write_atomic
from rostok.runs import Run
from rostok.swarm import school
from rostok.swarm.jobs import Order
from rostok.swarm.schedule import steps_of

WORDS = ("lamp", "oil", "keeper", "dawn", "ship", "debt", "moth", "glass", "watch", "silence", "rope", "tide")


def make_base(folder: Path, vocabulary: int = 49152, width: int = 64) -> Path:
    """A random Llama of two layers with the embedded base's tokenizer. One with a smaller vocabulary dies of rare words."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2, tie_word_embeddings=True)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for path in training_folder(find_base(EMBEDDED)).glob("*token*"):
        shutil.copy(path, folder)
    return folder


def make_run(folder: Path, base: Path, *, seeds: int = 8, pages: int = 24, **settings: Any) -> Run:
    """A run whose corpora are finished."""
    run = Run(folder)
    settings.setdefault("school", {"drills": 0})
    training = {"rank": 4, "pages_per_step": 2, "epochs": 2, "together": 4, "max_tokens": 64, **settings.pop("training", {})}
    resolved = resolve(options={"models": {"base": str(base)}, "training": training, **settings})
    with run.held("test"):
        run.start(resolved)
        found = find_base(str(base))
        run.note_model("base", found.name, found.sha256)
    for number in range(seeds):
        make_corpus(run, f"s-{number:04}", pages)
    return run


def make_school(run: Run, *, rank: int = 4, alpha: int = 8) -> str:
    """A school of random matrices, for a run whose settings have one. Returns the hash of its adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(9)
    base = find_base(run.read().settings.models.base)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base.source, dtype=torch.float32),
                           LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.copy_(torch.randn_like(weights) * 0.3)
    place, settings = school.folder(run), run.read().settings
    model.save_pretrained(place)
    sha256 = file_digest(place / "adapter_model.safetensors")
    write_atomic(place / "school.json", school.School(
        made_from="0" * 64, base_sha256=base.sha256, adapter_sha256=sha256, drills=("s-1",), written=settings.school,
        settings=settings.training.model_copy(update={"rank": rank, "alpha": alpha}), rostok="0.1.0", pages=10, tokens=100,
        steps=3, seconds=1.0, curve=()).line())
    return sha256


def make_corpus(run: Run, name: str, pages: int, rare: str = "") -> None:
    """A corpus of random sentences; every twelfth page is held out. `rare` closes every page."""
    dice = random.Random(name)
    path = run.corpora / name / "pages.jsonl"
    texts = [" ".join(f"The {a} feeds the {b}." for a, b in
                      (dice.sample(WORDS, 2) for _ in range(dice.randint(2, 6)))) + rare for _ in range(pages)]
    path.unlink(missing_ok=True)
    append_jsonl(path, [Page(spec=place, kind="composed", author="code", text=text, held_out=place % 12 == 11)
                        for place, text in enumerate(texts)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    manifest = Manifest(
        seed=name, title=f"The tale of {name}", made_from=digest(name), pages_sha256=file_digest(path),
        settings=Settings().corpus, model="0" * 64, rostok="0.1.0", pages=pages, held_out=pages // 12,
        characters=sum(map(len, texts)), by_kind={}, rejected={}, given_up=0, sampled_tokens=0, seconds=0.0)
    write_atomic(run.corpora / name / "manifest.json", manifest.line() + "\n")


def orders(run: Run) -> list[Order]:
    """All experts of such a run."""
    settings = run.read().settings
    found = []
    for folder in sorted(run.corpora.iterdir()):
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
        steps = steps_of(manifest.pages - manifest.held_out, settings.training)
        found.append(Order(name=folder.name, title=manifest.title, steps=steps, total=steps * 60,
                           made_from=digest(manifest.pages_sha256, settings.training.recipe(), settings.random_seed)))
    return found


def main(folder: Path, until: float | None = None) -> int:
    """Train; one line for everything that is told, and at the end the states."""
    from rostok.swarm.deadline import Deadline
    from rostok.swarm.execute import execute

    run = Run(folder)
    began = time.time()
    with run.held("tiny"):
        outcome = execute(run, orders(run), (), run.read().settings, tell=lambda text: print(text, flush=True),
                          until=Deadline(began + until) if until else None)
    for row in outcome.rows:
        print(f"= {row.name} {row.state} {row.reason}", flush=True)
    print(f"left {len(outcome.left)} {outcome.why} stopped {outcome.stopped}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(float, sys.argv[2:])))
