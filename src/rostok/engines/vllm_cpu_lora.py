"""Adapters of a mixed batch on a CPU, one matrix product per adapter instead of vLLM's gathered copies.

vLLM's own operations for the CPU copy an adapter's matrices once for every token (seconds for one prompt), and they take
"no adapter" (-1) for the last one loaded, so that in a mixed batch the base answers with an expert's voice
(vllm-project/vllm#48421). On a GPU its kernels do neither, and this file is not used.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU


class GroupedAdapters(PunicaWrapperCPU):  # type: ignore[misc]
    """vLLM asks for `y += scale · x Aᵀ` and `y += x Bᵀ`, token by token with its own adapter; x, y: [tokens, width]."""

    def update_metadata(self, *arguments: Any, **options: Any) -> None:
        """Which tokens of the coming step belong to which adapter; those of the base belong to none."""
        super().update_metadata(*arguments, **options)
        slots = self.token_lora_indices
        self._groups = [(slot, (slots == slot).nonzero().flatten()) for slot in slots.unique().tolist() if slot >= 0]

    def _apply_shrink(self, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, scale: float) -> None:
        """`w_t_all`: A of all adapters, [adapters, 1, rank, width]. `y` comes as zeros."""
        for slot, tokens in self._groups:
            y[tokens] = (x[tokens] @ w_t_all[slot].squeeze(0).T).to(y.dtype) * scale

    def _apply_expand(self, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, y_offset: int, y_slice_size: int,
                      add_inputs: bool = True) -> None:
        """`w_t_all`: B of all adapters, [adapters, 1, width, rank]; its product goes to a part of `y`'s columns."""
        part = y[:, y_offset : y_offset + y_slice_size]
        for slot, tokens in self._groups:
            product = x[tokens].to(y.dtype) @ w_t_all[slot].squeeze(0).T
            part[tokens] = part[tokens] + product if add_inputs else product
