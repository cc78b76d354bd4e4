"""One adapter as the fused trainer holds it: one flat fp32 vector, and the copies that the products read.

The q, k and v projections of a layer read the same rows, and so do gate and up. Their A matrices lie one below the other,
so that one product serves them, and their B matrices on the diagonal of one matrix: of the 42 thin products of a layer,
forward and backward, 24 remain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rostok.errors import AdapterError, writing

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Group:
    """Linear layers of a decoder layer that read the same rows.

    Attributes:
        modules: their names inside the decoder layer, such as `self_attn.q_proj`.
        outputs: their widths, in the same order.
        inputs: the width of the rows.
    """

    modules: tuple[str, ...]
    outputs: tuple[int, ...]
    inputs: int


@dataclass(frozen=True)
class _Place:
    """Where the matrices of a group lie in the flat vector: A (members · rank, inputs) first, then every B (output, rank)."""

    a: int
    b: tuple[int, ...]
    end: int


class Adapter:
    """LoRA (Hu et al. 2021, 2106.09685) on every linear layer of the last layers of a base.

    Args:
        groups: of every decoder layer, by name.
        layers: decoder layers of the base.
        rank, alpha: the low-rank term is alpha / rank · B · A.
        trained: how many of the last layers carry it.
        dtype: of the products.

    Attributes:
        parameters: all matrices, fp32, as one vector; what the optimizer changes.
    """

    def __init__(self, groups: Mapping[str, Group], layers: int, rank: int, alpha: float, trained: int, dtype: Any) -> None:
        import torch

        self.groups, self.rank, self.alpha = dict(groups), rank, alpha
        self.layers, self.first = layers, layers - trained
        self._places: dict[tuple[int, str], _Place] = {}
        at = 0
        for layer in range(self.first, layers):
            for name, group in self.groups.items():
                start = at
                at += len(group.modules) * rank * group.inputs
                starts = []
                for width in group.outputs:
                    starts.append(at)
                    at += width * rank
                self._places[layer, name] = _Place(start, tuple(starts), at)
        self.parameters = torch.nn.Parameter(torch.zeros(at))
        self._begun: set[tuple[int, str]] = set()  # what the gradient holds already, of this step
        self._copy = torch.zeros(at, dtype=dtype)
        self._diagonals = {(layer, name): torch.zeros(sum(group.outputs), len(group.modules) * rank, dtype=dtype)
                           for layer in range(self.first, layers) for name, group in self.groups.items()}

    def draw(self, generator: Generator) -> None:
        """Fresh matrices: A uniform as torch's Linear draws its weights, B zero, so that the adapter changes nothing yet."""
        import torch

        with torch.no_grad():
            for (layer, name), place in self._places.items():
                bound = 1 / math.sqrt(self.groups[name].inputs)
                self._a(self.parameters, layer, name).uniform_(-bound, bound, generator=generator)
                self.parameters[place.b[0] : place.end].zero_()
        self.refresh()

    def refresh(self) -> None:
        """Bring the copies that the products read up to date with `parameters`; B is scaled by alpha / rank."""
        import torch

        with torch.no_grad():
            self._copy.copy_(self.parameters)
            scaled = self.parameters * (self.alpha / self.rank)
            for (layer, name), diagonal in self._diagonals.items():
                for block, b in zip(self._blocks(diagonal, name), self._bs(scaled, layer, name), strict=True):
                    block.copy_(b)

    def pair(self, layer: int, name: str) -> tuple[Tensor, Tensor] | None:
        """A (members · rank, inputs) and the scaled B (outputs, members · rank) of a group; None below the trained layers."""
        if layer < self.first:
            return None
        return self._a(self._copy, layer, name), self._diagonals[layer, name]

    def begin(self, gradient: Tensor) -> None:
        """Let the gradients of the next step be gathered in this vector, whatever it holds."""
        self.parameters.grad = gradient
        self._begun.clear()

    def release(self) -> Tensor:
        """Give the vector of `begin` back."""
        gradient = self.parameters.grad
        assert gradient is not None
        self.parameters.grad = None
        return gradient

    def add_gradient(self, layer: int, name: str, a: Tensor, b: Tensor) -> None:
        """Add the gradients with respect to the two matrices that `pair` gave, b's without the scale in it."""
        gradient = self.parameters.grad
        assert gradient is not None
        first = (layer, name) not in self._begun
        self._begun.add((layer, name))
        into = self._a(gradient, layer, name)
        into.copy_(a) if first else into.add_(a)
        scale = self.alpha / self.rank
        for part, block in zip(self._bs(gradient, layer, name), self._blocks(b, name), strict=True):
            part.copy_(block).mul_(scale) if first else part.add_(block, alpha=scale)

    def tensors(self) -> dict[str, Tensor]:
        """The matrices under the names that PEFT gives them, fp32."""
        found = {}
        values = self.parameters.detach()
        for layer, name in self._places:
            group = self.groups[name]
            stacked = self._a(values, layer, name).split(self.rank)
            for module, a, b in zip(group.modules, stacked, self._bs(values, layer, name), strict=True):
                prefix = f"base_model.model.model.layers.{layer}.{module}"
                found[f"{prefix}.lora_A.weight"] = a.clone()
                found[f"{prefix}.lora_B.weight"] = b.clone()
        return found

    def fit(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises `AdapterError` when these are not all matrices of an adapter of the same shape."""
        mine = {name: value.shape for name, value in self.tensors().items()}
        other = {name: value.shape for name, value in tensors.items()}
        if mine != other:
            name = next(name for name in sorted({*mine, *other}) if mine.get(name) != other.get(name))
            raise AdapterError(f"the adapter has {name} of shape {tuple(other.get(name, ()))}, asked for is "
                               f"{tuple(mine.get(name, ()))}. Set training.rank and training.layers as it was trained.")

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the matrices of an adapter of the same shape. Raises as `fit` does."""
        import torch

        self.fit(tensors)
        with torch.no_grad():
            for layer, name in self._places:
                group = self.groups[name]
                prefix = f"base_model.model.model.layers.{layer}."
                stacked = self._a(self.parameters, layer, name).split(self.rank)
                for module, a, b in zip(group.modules, stacked, self._bs(self.parameters, layer, name), strict=True):
                    a.copy_(tensors[f"{prefix}{module}.lora_A.weight"])
                    b.copy_(tensors[f"{prefix}{module}.lora_B.weight"])
        self.refresh()

    def save(self, folder: Path, base: str) -> None:
        """An ordinary PEFT folder: adapter_config.json and adapter_model.safetensors.

        Args:
            base: name or folder of the base, for `base_model_name_or_path`.
        """
        from peft import LoraConfig
        from safetensors.torch import save_file

        whole = self.first == 0
        modules = sorted(module.rpartition(".")[2] for group in self.groups.values() for module in group.modules)
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", inference_mode=True,
            target_modules=modules, base_model_name_or_path=base,
            layers_to_transform=None if whole else list(range(self.first, self.layers)))
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            save_file(self.tensors(), folder / "adapter_model.safetensors", metadata={"format": "pt"})
            config.save_pretrained(folder)

    def _a(self, flat: Tensor, layer: int, name: str) -> Tensor:
        place, group = self._places[layer, name], self.groups[name]
        return flat[place.a : place.b[0]].view(len(group.modules) * self.rank, group.inputs)

    def _bs(self, flat: Tensor, layer: int, name: str) -> list[Tensor]:
        place, group = self._places[layer, name], self.groups[name]
        return [flat[start : start + width * self.rank].view(width, self.rank)
                for start, width in zip(place.b, group.outputs, strict=True)]

    def _blocks(self, diagonal: Tensor, name: str) -> list[Tensor]:
        top, found = 0, []
        for member, width in enumerate(self.groups[name].outputs):
            found.append(diagonal[top : top + width, member * self.rank : (member + 1) * self.rank])
            top += width
        return found
