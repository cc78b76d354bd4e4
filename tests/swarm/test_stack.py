"""The hand-written step, against transformers and PEFT with autograd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from rostok.errors import ModelError
from rostok.swarm.loss import next_token_loss
from rostok.swarm.matrix import Matrix, can_pack
from rostok.swarm.stack import FAMILIES, Block, Rows, Stack, unsupported

PAGES = [(0, 17), (17, 40), (40, 43)]


def _by_hand(stack: Stack, adapter: Any, tokens: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of three pages by the hand-written step, as PEFT names them."""
    adapter.begin(torch.full_like(adapter.parameters, torch.nan).detach())
    hidden, tape = stack.forward(Rows(tokens, PAGES, [Block(adapter, 0, len(tokens))]))
    places = torch.tensor([place for start, end in PAGES for place in range(start, end - 1)])
    loss, d = next_token_loss(hidden[places], tokens[places + 1], stack.head)
    gradient = torch.zeros_like(hidden)
    gradient[places] = d
    stack.backward(tape, gradient)
    values = adapter.parameters.detach().clone()
    adapter.parameters.data.copy_(adapter.parameters.grad)
    named = adapter.tensors()
    adapter.parameters.data.copy_(values)
    return float(loss), named


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Mistral"])
@pytest.mark.parametrize("trained", [None, 2])
def test_loss_and_every_gradient_are_those_of_autograd(tiny_base: Callable[[str], Any], family: str, trained: int | None,
                                                       tmp_path: Path) -> None:
    """Prevents: a wrong term in the hand-written backward pass, a page that sees another, a rotation or a mask off by one, a
    folder that PEFT reads otherwise than it was trained, and trained layers where none were asked for."""
    model = tiny_base(family)
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value)
    stack = Stack(model, dtype=torch.float32)
    adapter = stack.adapter(4, 6, trained)
    adapter.draw(torch.Generator().manual_seed(1))
    adapter.parameters.data.add_(0.05 * torch.randn(len(adapter.parameters)))
    adapter.refresh()
    adapter.save(tmp_path, "base")
    tokens = torch.randint(211, (43,))
    loss, gradients = _by_hand(stack, adapter, tokens)

    peft = PeftModel.from_pretrained(model, tmp_path, is_trainable=True)
    losses = [torch.nn.functional.cross_entropy(peft(input_ids=tokens[None, start:end]).logits[0, :-1], tokens[start + 1 : end],
                                                reduction="sum") for start, end in PAGES]
    wanted = sum(losses) / (len(tokens) - len(PAGES))
    wanted.backward()
    wanted = wanted.detach()
    named = {name.replace(".default", ""): value.grad for name, value in peft.named_parameters() if value.grad is not None}
    assert loss == pytest.approx(float(wanted), rel=1e-5)
    assert named.keys() == gradients.keys()
    assert len(named) == 14 * (trained or 3)
    for name, value in named.items():
        assert torch.allclose(gradients[name], value, rtol=1e-3, atol=1e-5 * float(value.abs().max() + 1)), name


def test_the_loss_of_chunks_is_that_of_all_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a chunk's gradient in another's place, a mean over chunks of unequal length, a token so unlikely that its
    loss is infinite, and a NaN that the soft-max hides."""
    import rostok.swarm.loss

    monkeypatch.setattr(rostok.swarm.loss, "_CHUNK", 7)
    monkeypatch.setattr(rostok.swarm.loss, "_BLOCK", 3)
    hidden, head = torch.randn(23, 16, requires_grad=True), torch.randn(50, 16)
    targets = torch.randint(50, (23,))
    wanted = torch.nn.functional.cross_entropy(hidden @ head.t(), targets)
    wanted.backward()
    with torch.no_grad():
        loss, gradient = next_token_loss(hidden, targets, Matrix(head))
        assert float(loss) == pytest.approx(float(wanted), rel=1e-5)
        assert torch.allclose(gradient, hidden.grad, atol=1e-6)
        assert torch.isfinite(next_token_loss(hidden * 1e4, targets, Matrix(head))[0])
        hidden[3] = torch.nan
        assert torch.isnan(next_token_loss(hidden, targets, Matrix(head))[0])


@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="oneDNN has no bf16 products on this processor")
def test_packed_products_are_the_plain_ones_bit_for_bit_however_many_rows() -> None:
    """Prevents: another rounding on the fast way, and rows whose result depends on how many there are."""
    rows = 37
    weight, bias = torch.randn(96, 64).bfloat16(), torch.randn(96).bfloat16()
    x, d, add = torch.randn(rows, 64).bfloat16(), torch.randn(rows, 96).bfloat16(), torch.randn(rows, 96).bfloat16()
    plain, packed = Matrix(weight, bias), Matrix(weight, bias, packed=True)
    bare = Matrix(weight), Matrix(weight, packed=True)
    assert torch.equal(plain.forward(x), packed.forward(x))
    assert torch.equal(bare[0].forward(x, add), bare[1].forward(x, add))
    assert torch.equal(plain.backward(d), packed.backward(d))
    for part in (slice(0, 1), slice(5, 36)):
        assert torch.equal(packed.forward(x)[part], packed.forward(x[part]))
        assert torch.equal(packed.backward(d)[part], packed.backward(d[part]))


def test_weights_read_again_at_every_layer_give_the_same(tiny_base: Callable[[str], Any]) -> None:
    """Prevents: a base too large for a copy that trains on other weights than one that is not."""
    model, tokens = tiny_base("Llama"), torch.randint(211, (43,))
    found = []
    for keep in (True, False):
        stack = Stack(model, dtype=torch.float32, keep=keep)
        adapter = stack.adapter(4, 8)
        adapter.draw(torch.Generator().manual_seed(1))
        found.append(_by_hand(stack, adapter, tokens))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])


def test_long_pages_whose_soft_max_is_not_kept_train_the_same(tiny_base: Callable[[str], Any],
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a soft-max that is computed again for the backward pass, but not the same."""
    import rostok.swarm.stack

    model, tokens, found = tiny_base("Llama"), torch.randint(211, (43,)), []
    for limit in (512, 4):
        monkeypatch.setattr(rostok.swarm.stack, "_KEPT_SCORES", limit)
        stack = Stack(model, dtype=torch.float32)
        adapter = stack.adapter(4, 8)
        adapter.draw(torch.Generator().manual_seed(1))
        found.append(_by_hand(stack, adapter, tokens)[1])
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "gemma3"}, "its family is gemma3"),
        ({"hidden_act": "gelu"}, "its activation is gelu"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "of type dynamic"),
        ({"mlp_bias": True}, "have biases"),
        ({"sliding_window": 128}, "slides over 128 tokens"),
    ],
)
def test_what_the_step_does_not_compute_is_refused(tiny_base: Callable[[str], Any], change: dict[str, Any], reason: str) -> None:
    """Prevents: a base whose special part is silently left out of training."""
    model = tiny_base("Llama")
    assert unsupported(model) is None
    assert model.config.model_type in FAMILIES
    for name, value in change.items():
        setattr(model.config, name, value)
    with pytest.raises(ModelError, match=f"{reason}.*--trainer trl"):
        Stack(model)


def test_a_base_that_computes_something_else_is_noticed(tiny_base: Callable[[str], Any]) -> None:
    """Prevents: a base of a known family with a part that its configuration does not tell of."""
    model = tiny_base("Llama")
    assert Stack(model, dtype=torch.float32).disagreement() < 1e-5
    assert Stack(model.bfloat16()).disagreement() < 0.03
    model = tiny_base("Llama")
    model.model.layers[1].mlp.act_fn = torch.nn.GELU()
    assert Stack(model, dtype=torch.float32).disagreement() > 0.01


def test_an_adapter_that_does_not_fit_is_refused(tiny_base: Callable[[str], Any]) -> None:
    """Prevents: a rank that the narrowest layer cannot have, and more trained layers than there are."""
    stack = Stack(tiny_base("Llama"), dtype=torch.float32)
    with pytest.raises(ModelError, match="training.rank is 33, but the narrowest linear layer of this base is 32 wide"):
        stack.adapter(33, 8)
    with pytest.raises(ModelError, match="training.layers is 4, but this base has 3 layers"):
        stack.adapter(4, 8, 4)
