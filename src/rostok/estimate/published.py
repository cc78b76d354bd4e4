"""Figures of machines and of training that others have published, with their sources. Nothing in here was measured by Rostok.

FLOP/s are dense bf16 with fp32 accumulation, as the makers state them; a machine reaches a part of that.
"""

from __future__ import annotations

from typing import Literal

from rostok.records import Record

_ADA = "https://images.nvidia.com/aem-dam/Solutions/Data-Center/l4/nvidia-ada-gpu-architecture-whitepaper-v2.1.pdf"
_GA102 = "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.pdf"
_A100 = "https://www.nvidia.com/en-us/data-center/a100/"
_H100 = "https://www.nvidia.com/en-us/data-center/h100/"
_TORCHTUNE = "https://github.com/pytorch/torchtune/blob/main/README.md#memory-and-training-speed"
_QWEN = "https://github.com/QwenLM/Qwen#profiling-of-memory-and-speed"
_NEMO = "https://github.com/NVIDIA-NeMo/Automodel/blob/main/docs/performance-summary.md"


class Machine(Record):
    """A machine: FLOP/s, bytes per second of its memory (0: unknown), and gigabytes of it."""

    name: str
    flops: float
    bandwidth: float
    memory_gb: float
    source: str


class Training(Record):
    """One published training speed.

    Attributes:
        method: LoRA or QLoRA, on all linear layers or nearly so; one GPU.
        pass_tokens: that go through the model at once.
        layers: of the model. memory_gib: highest, 0 where it was not told.
    """

    model: str
    parameters: float
    layers: int
    machine: str
    method: Literal["LoRA", "QLoRA"]
    pass_tokens: int
    tokens_s: float
    memory_gib: float
    source: str


MACHINES = (
    Machine(name="RTX 3090", flops=71e12, bandwidth=936e9, memory_gb=24, source=_GA102),
    Machine(name="RTX A6000", flops=154.8e12, bandwidth=768e9, memory_gb=48, source=_GA102),
    Machine(name="A40", flops=149.7e12, bandwidth=696e9, memory_gb=48, source=_GA102),
    Machine(name="RTX 4090", flops=165.2e12, bandwidth=1008e9, memory_gb=24, source=_ADA),
    Machine(name="RTX 6000 Ada", flops=364.2e12, bandwidth=960e9, memory_gb=48, source=_ADA),
    Machine(name="A100", flops=312e12, bandwidth=2039e9, memory_gb=80, source=_A100),
    Machine(name="H100", flops=989e12, bandwidth=3350e9, memory_gb=80, source=_H100),
)

# torchtune's row of an A6000 is left out: its 4,699 tokens/s would be 97% of that card's FLOP/s.
# Qwen's table gives seconds per iteration of 8 passes: tokens/s = 8 · length / seconds.
TRAINING = (
    Training(model="Llama-3.1-8B", parameters=8.03e9, layers=32, machine="RTX 4090", method="QLoRA", pass_tokens=4096,
             tokens_s=2413, memory_gib=7.4, source=_TORCHTUNE),
    Training(model="Llama-3.1-8B", parameters=8.03e9, layers=32, machine="RTX 4090", method="LoRA", pass_tokens=4096,
             tokens_s=3083, memory_gib=16.2, source=_TORCHTUNE),
    Training(model="Qwen-7B", parameters=7.72e9, layers=32, machine="A100", method="QLoRA", pass_tokens=2048,
             tokens_s=2341, memory_gib=13.9, source=_QWEN),
    Training(model="Qwen-7B", parameters=7.72e9, layers=32, machine="A100", method="QLoRA", pass_tokens=256,
             tokens_s=683, memory_gib=11.5, source=_QWEN),
    Training(model="Qwen-1.8B", parameters=1.84e9, layers=24, machine="A100", method="QLoRA", pass_tokens=2048,
             tokens_s=8192, memory_gib=7.8, source=_QWEN),
    Training(model="Qwen-1.8B", parameters=1.84e9, layers=24, machine="A100", method="QLoRA", pass_tokens=256,
             tokens_s=1463, memory_gib=5.8, source=_QWEN),
    Training(model="Llama-3-8B", parameters=8.03e9, layers=32, machine="H100", method="LoRA", pass_tokens=8192,
             tokens_s=12473, memory_gib=0, source=_NEMO),
)
