"""The embedded base, tiny random ones of the verified families in fp32, and pages for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from rostok.config import TrainingSettings
from rostok.models import find_base
from rostok.swarm.base import FrozenBase
from rostok.swarm.training import Job

VOCABULARY = 211


@pytest.fixture(scope="session")
def frozen() -> FrozenBase:
    """The embedded base in 4 bits."""
    return FrozenBase(find_base("embedded"))


@pytest.fixture(scope="session")
def tiny(frozen: FrozenBase) -> Any:
    """A random llama of two layers with the embedded tokenizer, in fp32: its sums are exact enough to compare."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(frozen.tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, initializer_range=0.4)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tiny_base() -> Callable[[str], Any]:
    """`tiny_base(family)`: a random model of three layers, grouped attention, untied head, in fp32."""
    import transformers

    def make(family: str = "Llama") -> Any:
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(
            vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, initializer_range=0.2, tie_word_embeddings=False)
        config.sliding_window = None
        return getattr(transformers, f"{family}ForCausalLM")(config).eval()

    return make


@pytest.fixture(scope="session")
def make_job() -> Callable[..., Job]:
    """`make_job(name, seed, **settings)`: a job of 10 random pages of unequal length."""

    def make(name: str, seed: int = 1, count: int = 10, **settings: Any) -> Job:
        dice = torch.Generator().manual_seed(seed)
        pages = [torch.randint(VOCABULARY, (int(torch.randint(5, 30, (), generator=dice)),), generator=dice).tolist()
                 for _ in range(count)]
        values = {"rank": 4, "alpha": 8, "epochs": 2, "pages_per_step": 3, "warmup_steps": 2, "learning_rate": 1e-2, **settings}
        return Job(name, pages, TrainingSettings(**values), seed)

    return make
