"""The frozen base as plain matrices, run forward and backward by hand for the rows of many adapters at once.

`Stack(model)` takes the weights of a Llama-family model, in NF4 or not. `forward` runs a pass: rows of several adapters one
below the other, without padding. Every base matrix is multiplied once with all rows; every adapter adds its low-rank term
to its own rows, found by indexing. `backward` adds the adapters' gradients. The base has none, so that a frozen matrix
costs one product instead of two, and nothing is kept for it but what the adapters need.

By hand because autograd over the Hugging Face modules reaches about 30% of the machine's matrix-multiply rate; where the
time goes is in docs/experiments.md. The rows of a page see their own page alone: attention is computed page by page, which
is the block-diagonal mask of packed rows without its empty blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rostok.errors import ModelError
from rostok.swarm.lora import Adapter, Group
from rostok.swarm.matrix import Matrix, can_pack, dequantised

if TYPE_CHECKING:
    from torch import Tensor

FAMILIES = ("llama", "qwen2", "mistral")  # tests compare each with its Hugging Face model and PEFT
_ROPES = ("default", "linear", "llama3")  # rotations that do not depend on the length of the text
_KEPT_SCORES = 512                        # soft-maxes of longer pages are computed again instead of kept
_MEMORY_SHARE = 0.15                      # of the memory at hand that one copy of the dequantised weights may take


@dataclass(frozen=True)
class Block:
    """Rows [start, end) of a pass belong to this adapter."""

    adapter: Adapter
    start: int
    end: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.end)


@dataclass(frozen=True)
class Prefix:
    """A text that the base has read before a page: keys, rotated, and values of every layer, (key heads, tokens, head width)."""

    tokens: int
    keys: Sequence[Tensor]
    values: Sequence[Tensor]


@dataclass(frozen=True)
class Rows:
    """What one pass computes.

    Attributes:
        tokens: (rows,), page after page.
        pages: [start, end) of each page.
        blocks: the adapters' rows; a page lies inside one block.
        after: what was read before each page, None for nothing; given only without blocks, since it has no backward pass.
    """

    tokens: Tensor
    pages: Sequence[tuple[int, int]]
    blocks: Sequence[Block]
    after: Sequence[Prefix | None] = ()


@dataclass
class _Kept:
    """What the backward pass of one layer reads of its forward pass. `lows` are the adapters' A · rows, by group."""

    x: Tensor
    heads: list[Tensor]
    shares: list[Tensor | None]
    attended: Tensor
    middle: Tensor
    gate_up: Tensor
    lows: dict[str, list[Tensor | None]]


@dataclass
class Tape:
    """What `backward` reads of a `forward`."""

    rows: Rows
    rotation: tuple[Tensor, Tensor]
    top: Tensor
    layers: list[_Kept] = field(default_factory=list)


@dataclass(frozen=True)
class _Layer:
    qkv: Matrix
    out: Matrix
    up: Matrix
    down: Matrix
    norm_in: Tensor
    norm_middle: Tensor


class Stack:
    """The frozen base in the dtype of its products.

    Args:
        model: a Llama-family model from transformers, its linear layers in NF4 (bitsandbytes) or plain.
        dtype: of rows and products; bf16 unless said otherwise.
        base: hash of the base, for checkpoints.
        keep: whether the dequantised weights stay in memory (0.5 GB for 135M parameters, since each lies there in two
            layouts). They are, bit for bit, what bitsandbytes multiplies with. Otherwise each layer is dequantised when a
            pass comes to it. None decides by the memory at hand.

    Raises:
        ModelError: the model has a part that this step does not compute.
    """

    def __init__(self, model: Any, *, base: str = "", dtype: Any = None, keep: bool | None = None) -> None:
        import torch

        reason = unsupported(model)
        if reason:
            raise ModelError(f"the fused trainer cannot train on this base: {reason}. Use --trainer trl.")
        self.dtype = dtype or torch.bfloat16
        self.fingerprint = f"{base} {self.dtype}"
        self._model = model
        config = model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width: int = config.hidden_size
        self.head_width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.layers: int = config.num_hidden_layers
        self.eps: float = config.rms_norm_eps
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        self.groups = {
            "qkv": Group(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), (queries, keys, keys), self.width),
            "out": Group(("self_attn.o_proj",), (self.width,), queries),
            "up": Group(("mlp.gate_proj", "mlp.up_proj"), (config.intermediate_size,) * 2, self.width),
            "down": Group(("mlp.down_proj",), (self.width,), config.intermediate_size)}
        with torch.no_grad():
            self.embedding: Tensor = model.get_input_embeddings().weight.detach().to(self.dtype)
            self._norm_top: Tensor = model.model.norm.weight.detach().to(self.dtype)
            if keep is None:
                keep = self._bytes() < _MEMORY_SHARE * _available()
            packed = keep and can_pack(self.dtype)
            self.head = Matrix(model.get_output_embeddings().weight.detach().to(self.dtype), packed=packed)
            self._kept = [self._read(layer, packed=packed) for layer in range(self.layers)] if keep else None
        self._future: Tensor = torch.empty(0, 0, dtype=self.dtype)

    def check(self, rank: int, trained: int | None) -> None:
        """Raises `ModelError` when no such adapter fits this base: too many layers, or a rank above a layer's width."""
        if trained is not None and trained > self.layers:
            raise ModelError(f"training.layers is {trained}, but this base has {self.layers} layers. "
                             f"Set training.layers to {self.layers} or less, or to all.")
        narrowest = min(min(group.inputs, *group.outputs) for group in self.groups.values())
        if rank > narrowest:
            raise ModelError(f"training.rank is {rank}, but the narrowest linear layer of this base is {narrowest} wide. "
                             f"Set training.rank to {narrowest} or less.")

    def adapter(self, rank: int, alpha: float, trained: int | None = None) -> Adapter:
        """An empty adapter for this base; `trained` is the number of last layers that carry it, None all. Raises like `check`."""
        self.check(rank, trained)
        return Adapter(self.groups, self.layers, rank, alpha, trained or self.layers, self.dtype)

    def disagreement(self) -> float:
        """How far the losses of some random tokens are from the model's own, on average and relative to the mean loss.

        What makes a base a verified one. Rounding in bf16 gives 0.7% on the embedded base.
        """
        import torch

        tokens = torch.randint(len(self.embedding), (48,), generator=torch.Generator().manual_seed(0))
        pages = [(0, 20), (20, 48)]
        with torch.no_grad():
            mine = self.head.forward(self.forward(Rows(tokens, pages, []))[0])
            off, total = 0.0, 0.0
            for start, end in pages:
                own = self._model(input_ids=tokens[None, start:end], use_cache=False).logits[0]
                a, b = (torch.nn.functional.cross_entropy(logits[:-1].float(), tokens[start + 1 : end], reduction="none")
                        for logits in (mine[start:end], own))
                off, total = off + float((a - b).abs().sum()), total + float(b.sum())
        return off / total

    # ── forward ─────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, tokens: Sequence[int]) -> Prefix:
        """Read a text, for pages that come after it: `Rows.after`."""
        import torch

        rows = Rows(torch.tensor(tokens), [(0, len(tokens))], [])
        keys, values = [], []
        with torch.no_grad():
            x, rotation = self.embedding[rows.tokens], self._rotation(rows)
            for number in range(self.layers):
                x, kept = self._layer_forward(number, x, rows, rotation, keep=True)
                assert kept is not None
                _, k, v = self._split(kept.heads[0])
                keys.append(k.clone())
                values.append(v.clone())
        return Prefix(len(tokens), keys, values)

    def forward(self, rows: Rows) -> tuple[Tensor, Tape]:
        """Outputs of the final norm, (rows, width), and what `backward` needs. Layers that nobody trains keep nothing."""
        import torch

        with torch.no_grad():
            x = self.embedding[rows.tokens]
            rotation = self._rotation(rows)
            lowest = min((block.adapter.first for block in rows.blocks), default=self.layers)
            tape = Tape(rows, rotation, x)
            for number in range(self.layers):
                x, kept = self._layer_forward(number, x, rows, rotation, keep=number >= lowest)
                if kept is not None:
                    tape.layers.append(kept)
            tape.top = x
            return self._norm(x, self._norm_top)[0], tape

    def _layer_forward(self, number: int, x: Tensor, rows: Rows, rotation: tuple[Tensor, Tensor], *,
                       keep: bool) -> tuple[Tensor, _Kept | None]:

        layer, blocks = self._weights(number), rows.blocks
        lows: dict[str, list[Tensor | None]] = {}
        normed = self._norm(x, layer.norm_in)[0]
        qkv = layer.qkv.forward(normed)
        lows["qkv"] = _add_low_rank(normed, qkv, blocks, number, "qkv")
        self._rotate(qkv, rotation)
        attended, heads, shares = self._attend(qkv, rows, number)
        middle = layer.out.forward(attended, add=x)
        lows["out"] = _add_low_rank(attended, middle, blocks, number, "out")
        normed = self._norm(middle, layer.norm_middle)[0]
        gate_up = layer.up.forward(normed)
        lows["up"] = _add_low_rank(normed, gate_up, blocks, number, "up")
        inner = _gated(gate_up)
        result = layer.down.forward(inner, add=middle)
        lows["down"] = _add_low_rank(inner, result, blocks, number, "down")
        return result, _Kept(x, heads, shares, attended, middle, gate_up, lows) if keep else None

    # ── backward ────────────────────────────────────────────────────────────────────────────────────────────────

    def backward(self, tape: Tape, gradient: Tensor) -> None:
        """Add to every adapter the gradient of its loss, given that with respect to `forward`'s outputs. Uses the tape up."""
        import torch

        with torch.no_grad():
            d = self._norm_backward(gradient, tape.top, self._norm(tape.top, self._norm_top)[1], self._norm_top)
            lowest = self.layers - len(tape.layers)
            for number in range(self.layers - 1, lowest - 1, -1):
                d = self._layer_backward(number, d, tape.layers.pop(), tape, last=number == lowest)

    def _layer_backward(self, number: int, d: Tensor, kept: _Kept, tape: Tape, *, last: bool) -> Tensor:
        """Gradient with respect to the layer's input, from that with respect to its output; `last` leaves it out."""
        import torch

        layer, blocks = self._weights(number), tape.rows.blocks
        width = kept.gate_up.shape[1] // 2
        gate, up = kept.gate_up[:, :width], kept.gate_up[:, width:]
        opened = torch.nn.functional.silu(gate)
        inner = opened * up
        d_inner = layer.down.backward(d)
        _low_rank_backward(d, inner, d_inner, kept.lows["down"], blocks, number, "down")
        d_gate_up = torch.empty_like(kept.gate_up)
        torch.mul(d_inner, opened, out=d_gate_up[:, width:])
        d_inner.mul_(up)
        torch.ops.aten.silu_backward.grad_input(d_inner, gate, grad_input=d_gate_up[:, :width])
        del opened, inner, d_inner
        d_normed = layer.up.backward(d_gate_up)
        normed, inverse = self._norm(kept.middle, layer.norm_middle)
        _low_rank_backward(d_gate_up, normed, d_normed, kept.lows["up"], blocks, number, "up")
        del d_gate_up
        d = d + self._norm_backward(d_normed, kept.middle, inverse, layer.norm_middle)
        d_attended = layer.out.backward(d)
        _low_rank_backward(d, kept.attended, d_attended, kept.lows["out"], blocks, number, "out")
        d_qkv = self._attend_backward(d_attended, kept, tape.rows.pages)
        self._rotate(d_qkv, tape.rotation, back=True)
        normed, inverse = self._norm(kept.x, layer.norm_in)
        d_rows = None if last else layer.qkv.backward(d_qkv)
        _low_rank_backward(d_qkv, normed, d_rows, kept.lows["qkv"], blocks, number, "qkv")
        return d if d_rows is None else d.add_(self._norm_backward(d_rows, kept.x, inverse, layer.norm_in))

    # ── parts of a layer ────────────────────────────────────────────────────────────────────────────────────────

    def _norm(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """RMS norm as transformers computes it (fp32, rounded before the weight), and 1 / root mean square, (rows, 1)."""
        import torch

        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = size.square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()
        return (x * inverse).to(x.dtype).mul_(weight), inverse

    def _norm_backward(self, d: Tensor, x: Tensor, inverse: Tensor, weight: Tensor) -> Tensor:
        """Gradient of the RMS norm: r·w·d - x · r³/n · Σ(w·d·x), with r = `inverse`.

        torch's backward of the layer norm, told that the mean is 0, is this less r/n · Σ(w·d), and one pass over the rows.
        """
        import torch

        dx = torch.ops.aten.native_layer_norm_backward(
            d, x, [x.shape[-1]], torch.zeros_like(inverse), inverse, weight.float(), None, [True, False, False])[0]
        missing = (d @ weight[:, None]).float().mul_(inverse).div_(x.shape[-1])
        return dx.add_(missing.to(dx.dtype))  # type: ignore[no-any-return]

    def _rotation(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines for queries and keys, (rows, heads + kv_heads, head width); queries carry the scale."""
        import torch

        firsts = [0 if prefix is None else prefix.tokens for prefix in rows.after] or [0] * len(rows.pages)
        positions = torch.cat([torch.arange(end - start) + first for (start, end), first in zip(rows.pages, firsts, strict=True)])
        cosine, sine = self._model.model.rotary_emb(self.embedding[:1].float(), positions[None])
        sine = sine.clone()
        sine[..., : self.head_width // 2].neg_()
        scale = torch.ones(self.heads + self.kv_heads, 1)
        scale[: self.heads] = self.head_width**-0.5
        return tuple((part[0][:, None].float() * scale).to(self.dtype) for part in (cosine, sine))  # type: ignore[return-value]

    def _rotate(self, qkv: Tensor, rotation: tuple[Tensor, Tensor], *, back: bool = False) -> None:
        """Rotate queries and keys by their positions, in place; backward turns the other way."""
        import torch

        count = self.heads + self.kv_heads
        turned = qkv[:, : count * self.head_width].unflatten(1, (count, self.head_width))
        half = self.head_width // 2
        swapped = torch.empty(turned.shape, dtype=qkv.dtype)
        swapped[..., :half].copy_(turned[..., half:])
        swapped[..., half:].copy_(turned[..., :half])
        turned.mul_(rotation[0]).addcmul_(swapped, rotation[1], value=-1 if back else 1)

    def _attend(self, qkv: Tensor, rows: Rows, layer: int) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
        """Causal attention inside every page, and to what was read before it.

        Plain products instead of torch's flash kernel, whose backward on the CPU takes 5.7 ms for 4 pages of 140 tokens.
        The query heads that share a key head are stacked, so that grouped attention needs no copies of keys.
        """
        import torch

        attended = torch.empty(len(qkv), self.heads * self.head_width, dtype=qkv.dtype)
        heads: list[Tensor] = []
        kept: list[Tensor | None] = []
        for (start, end), prefix in zip(rows.pages, rows.after or [None] * len(rows.pages), strict=True):
            size = end - start
            page = qkv[start:end].view(size, -1, self.head_width).transpose(0, 1).contiguous()
            q, k, v = self._split(page)
            if prefix is not None:
                k, v = torch.cat([prefix.keys[layer], k], dim=1), torch.cat([prefix.values[layer], v], dim=1)
            shares = self._shares(q, k, size)
            mixed = torch.bmm(shares, v).view(self.heads, size, self.head_width)
            attended[start:end].view(size, self.heads, self.head_width).copy_(mixed.transpose(0, 1))
            heads.append(page)
            kept.append(shares if size <= _KEPT_SCORES else None)
        return attended, heads, kept

    def _attend_backward(self, d_attended: Tensor, kept: _Kept, pages: Sequence[tuple[int, int]]) -> Tensor:
        import torch

        d_qkv = torch.empty(len(d_attended), (self.heads + 2 * self.kv_heads) * self.head_width, dtype=d_attended.dtype)
        for (start, end), page, shares in zip(pages, kept.heads, kept.shares, strict=True):
            size = end - start
            q, k, v = self._split(page)
            if shares is None:
                shares = self._shares(q, k, size)
            d_mixed = (d_attended[start:end].view(size, self.heads, self.head_width).transpose(0, 1).contiguous()
                       .view(self.kv_heads, -1, self.head_width))
            d_page = torch.empty_like(page)
            d_q, d_k, d_v = self._split(d_page)
            torch.bmm(shares.transpose(1, 2), d_mixed, out=d_v)
            d_scores = torch.ops.aten._softmax_backward_data(torch.bmm(d_mixed, v.transpose(1, 2)), shares, -1, shares.dtype)
            torch.bmm(d_scores, k, out=d_q)
            torch.bmm(d_scores.transpose(1, 2), q, out=d_k)
            d_qkv[start:end].view(size, -1, self.head_width).copy_(d_page.transpose(0, 1))
        return d_qkv

    def _shares(self, q: Tensor, k: Tensor, size: int) -> Tensor:
        """Soft-max over the tokens before, (key heads, query heads of each · size, keys); the last `size` keys are the page's."""
        import torch

        if len(self._future) < size:
            self._future = torch.full((size, size), -torch.inf, dtype=self.dtype).triu_(1)
        scores = torch.bmm(q, k.transpose(1, 2))
        scores.view(self.heads, size, -1)[..., -size:].add_(self._future[:size, :size])
        return torch.softmax(scores, dim=-1)

    def _split(self, page: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (key heads, query heads of each · size, width), keys and values (key heads, size, width) of a page."""
        q, k, v = page.split((self.heads, self.kv_heads, self.kv_heads))
        return q.view(self.kv_heads, -1, self.head_width), k, v

    # ── weights ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _weights(self, layer: int) -> _Layer:
        return self._kept[layer] if self._kept is not None else self._read(layer)

    def _read(self, number: int, *, packed: bool = False) -> _Layer:
        """The weights of a layer, dequantised."""
        import torch

        layer = self._model.model.layers[number]

        def matrix(group: str) -> Matrix:
            parts = [layer.get_submodule(name) for name in self.groups[group].modules]
            weights = [dequantised(part).to(self.dtype) for part in parts]
            biases = [part.bias.detach().to(self.dtype) for part in parts if part.bias is not None]
            return Matrix(torch.cat(weights) if len(parts) > 1 else weights[0], torch.cat(biases) if biases else None,
                          packed=packed)

        return _Layer(matrix("qkv"), matrix("out"), matrix("up"), matrix("down"),
                      layer.input_layernorm.weight.detach().to(self.dtype),
                      layer.post_attention_layernorm.weight.detach().to(self.dtype))

    def _bytes(self) -> int:
        """Of all dequantised linear layers, in one layout."""
        values: int = sum(group.inputs * sum(group.outputs) for group in self.groups.values())
        return int(self.layers * values * self.dtype.itemsize)


def unsupported(model: Any) -> str | None:
    """What of this model the fused step does not compute, or has not been compared on; None when all is well."""
    config = model.config
    if config.model_type not in FAMILIES:
        return f"its family is {config.model_type}, verified are {', '.join(FAMILIES)}"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}, not silu"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope not in _ROPES:
        return f"its rotary embedding is of type {rope}, verified are {', '.join(_ROPES)}"
    if getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        return "its linear layers have biases"
    sliding = getattr(config, "sliding_window", None)
    if sliding and getattr(config, "use_sliding_window", True):
        return f"its attention slides over {sliding} tokens"
    if next(model.parameters()).device.type != "cpu":
        return "it lies on a GPU, where the fused step was not run"
    return None


def _available() -> int:
    from rostok.machine import available_memory

    return available_memory()


def _gated(gate_up: Tensor) -> Tensor:
    """silu(gate) · up."""
    import torch

    width = gate_up.shape[1] // 2
    return torch.nn.functional.silu(gate_up[:, :width]).mul_(gate_up[:, width:])


def _add_low_rank(x: Tensor, y: Tensor, blocks: Sequence[Block], layer: int, group: str) -> list[Tensor | None]:
    """Add B · A · x to y, each adapter to its own rows, and return every A · x."""
    lows: list[Tensor | None] = []
    for block in blocks:
        pair = block.adapter.pair(layer, group)
        if pair is None:
            lows.append(None)
            continue
        low = x[block.rows] @ pair[0].t()
        y[block.rows].addmm_(low, pair[1].t())
        lows.append(low)
    return lows


def _low_rank_backward(d: Tensor, x: Tensor, d_x: Tensor | None, lows: Sequence[Tensor | None], blocks: Sequence[Block],
                       layer: int, group: str) -> None:
    """Add the low-rank terms' gradients: to each adapter's own, and to d_x."""
    for block, low in zip(blocks, lows, strict=True):
        pair = block.adapter.pair(layer, group)
        if pair is None or low is None:
            continue
        mine = d[block.rows]
        d_low = mine @ pair[1]
        block.adapter.add_gradient(layer, group, d_low.t() @ x[block.rows], mine.t() @ low)
        if d_x is not None:
            d_x[block.rows].addmm_(d_low, pair[0])
