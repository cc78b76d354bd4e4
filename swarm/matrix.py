"""A frozen matrix of the base, dequantised, in the layouts in which it is multiplied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_PACKED_ROWS = 1024  # for so many rows oneDNN chooses the layout


class Matrix:
    """A frozen matrix (outputs, inputs), and its product with rows in both directions.

    Args:
        packed: keep it in the two layouts in which oneDNN multiplies, instead of having it rearranged for every product:
            1,060-1,120 instead of 770-970 GFLOP/s on two cores at 1,157 to 2,048 rows. Twice the memory; the products are
            the same bit for bit.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, packed: bool = False) -> None:
        import torch

        self._bias, self._packed = bias, packed
        if packed:
            pack = torch.ops.mkldnn._reorder_linear_weight
            self._forward, self._backward = pack(weight, _PACKED_ROWS), pack(weight.t().contiguous(), _PACKED_ROWS)
        else:
            self._forward = self._backward = weight

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """x · Wᵀ + bias, or + `add`."""
        import torch

        if self._packed and add is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(x, add, self._forward, self._bias, "add")  # type: ignore[no-any-return]
        if self._packed:
            return torch.ops.mkldnn._linear_pointwise(x, self._forward, self._bias, "none", [], "")  # type: ignore[no-any-return]
        add = self._bias if add is None else add
        return x @ self._forward.t() if add is None else torch.addmm(add, x, self._forward.t())

    def backward(self, d: Tensor) -> Tensor:
        """d · W."""
        import torch

        if self._packed:
            return torch.ops.mkldnn._linear_pointwise(d, self._backward, None, "none", [], "")  # type: ignore[no-any-return]
        return d @ self._backward


def can_pack(dtype: Any) -> bool:
    """Whether oneDNN packs matrices of this dtype on this processor."""
    import torch

    return dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def dequantised(module: Any) -> Tensor:
    """The weight of a linear layer, (outputs, inputs), of an NF4 one as bitsandbytes multiplies with it."""
    state = getattr(module.weight, "quant_state", None)
    if state is None:
        return module.weight.detach()  # type: ignore[no-any-return]
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(module.weight.data, state)  # type: ignore[no-any-return]
