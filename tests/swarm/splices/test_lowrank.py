"""Sums and cuts of low-rank terms against dense matrices, and against PEFT's own merging."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict

from rostok.errors import ModelError
from rostok.swarm.adapters import Adapter
from rostok.swarm.lowrank import add, agree, cut, widen


def adapter(random_seed: int, rank: int, shapes: dict[str, tuple[int, int]]) -> Adapter:
    generator = torch.Generator().manual_seed(random_seed)
    return Adapter({module: (torch.randn(rank, inner, generator=generator), torch.randn(outer, rank, generator=generator))
                    for module, (outer, inner) in shapes.items()}, {"r": rank})


def terms(one: Adapter) -> dict[str, torch.Tensor]:
    return {module: b.double() @ a.double() for module, (a, b) in one.pairs.items()}


SHAPES = {"up": (24, 10), "down": (10, 24), "keys": (8, 10)}


def test_a_sum_is_the_sum_of_the_terms() -> None:
    """Prevents: A's and B's that are added each on their own, which adds the products of one's A and the other's B."""
    one, two = adapter(1, 3, SHAPES), adapter(2, 2, SHAPES)
    both = add([one, two], (0.5, -2.0))
    assert both.rank == 5
    for module, term in terms(both).items():
        assert torch.allclose(term, 0.5 * terms(one)[module] - 2 * terms(two)[module], atol=1e-6)


def test_a_cut_is_the_best_of_its_rank() -> None:
    """Prevents: directions that are kept in another order than that of their strength."""
    whole = add([adapter(1, 3, SHAPES), adapter(2, 2, SHAPES)], (1.0, 1.0))
    less, kept = cut(whole, 0, 2)
    lost = total = 0.0
    for module, term in terms(whole).items():
        values = torch.linalg.svdvals(term)
        error = torch.linalg.norm(term - terms(less)[module]) ** 2
        assert float(error) == pytest.approx(float((values[2:] ** 2).sum()), rel=1e-5)
        lost, total = lost + float(error), total + float((values**2).sum())
    assert kept == pytest.approx(1 - lost / total, rel=1e-6)


@settings(max_examples=40)
@given(rank=st.integers(2, 8), at=st.integers(1, 7), scale=st.sampled_from([1e-4, 1.0, 1e3]), random_seed=st.integers(0, 999))
def test_two_halves_are_the_whole(rank: int, at: int, scale: float, random_seed: int) -> None:
    """Prevents: a split whose parts overlap or leave a direction out, or lose small numbers beside large ones."""
    at = min(at, rank - 1)
    whole = add([adapter(random_seed, rank, SHAPES)], (scale,))
    (leading, more), (trailing, less) = cut(whole, 0, at), cut(whole, at, rank)
    assert (leading.rank, trailing.rank) == (at, rank - at)
    assert more + less == pytest.approx(1)
    for module, term in terms(whole).items():
        error = torch.linalg.norm(terms(leading)[module] + terms(trailing)[module] - term)
        assert float(error / torch.linalg.norm(term)) < 1e-6


class _Layers(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(10, 24, bias=False), torch.nn.Linear(24, 10, bias=False)


@pytest.mark.parametrize(("ours", "theirs"), [("sum", "cat"), ("ties", "ties_svd")])
def test_merges_are_those_of_peft(ours: str, theirs: str) -> None:
    """Prevents: a scale, weight or density that means something else here than in the library people know."""
    torch.manual_seed(0)
    lora = LoraConfig(r=3, lora_alpha=6, target_modules=["up", "down"])
    model: Any = get_peft_model(_Layers(), lora, adapter_name="one")
    model.add_adapter("two", lora)
    parts = []
    for name in ("one", "two"):
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if f".{name}." in key:
                    weight.copy_(torch.randn_like(weight))
        state = {key.removeprefix("base_model.model."): value for key, value in get_peft_model_state_dict(
            model, adapter_name=name).items()}
        parts.append(Adapter({module: (state[f"{module}.lora_A.weight"], state[f"{module}.lora_B.weight"] * 2)
                              for module in ("up", "down")}, {}))
    more = {} if theirs == "cat" else {"density": 0.4, "svd_rank": 10}
    model.add_weighted_adapter(["one", "two"], [1.0, 0.5], "both", combination_type=theirs, **more)
    merged = add(parts, (1.0, 0.5)) if ours == "sum" else agree(parts, (1.0, 0.5), "ties", 0.4, 10, 7)[0]
    for module, term in terms(merged).items():
        layer = getattr(model.base_model.model, module)
        assert torch.allclose(term.float(), layer.get_delta_weight("both"), atol=1e-4)


def test_dare_draws_from_its_own_dice() -> None:
    """Prevents: a merge that cannot be repeated, or that changes what is drawn after it."""
    parts = [adapter(1, 3, SHAPES), adapter(2, 2, SHAPES)]
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    one, again, other = (terms(agree(parts, (1.0, 1.0), "dare", 0.5, 8, seed)[0]) for seed in (7, 7, 8))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[module], again[module]) for module in SHAPES)
    assert not torch.allclose(one["up"], other["up"])


def test_dare_is_right_on_average() -> None:
    """Prevents: what is left after the dropping not being scaled up, so that the merge is too weak."""
    parts = [adapter(1, 3, SHAPES), adapter(2, 2, SHAPES)]
    drawn = [terms(agree(parts, (1.0, 1.0), "dare", 0.5, 8, seed)[0])["keys"] for seed in range(300)]
    exact = terms(add(parts, (1.0, 1.0)))["keys"]
    error = torch.linalg.norm(torch.stack(drawn).mean(0) - exact) / torch.linalg.norm(exact)
    assert float(error) < 0.15  # about 1 / root of 300 draws; without the scaling up it is 0.5


@pytest.mark.parametrize(("shapes", "reason"), [
    ({"up": (24, 10), "down": (10, 24)}, "only one of them has keys"),
    ({**SHAPES, "keys": (8, 12)}, "keys is 8 × 10 in one and 8 × 12 in the other"),
])
def test_terms_of_different_places_are_not_added(shapes: dict[str, tuple[int, int]], reason: str) -> None:
    """Prevents: a merge that quietly takes what both have, or a traceback of torch about sizes."""
    parts = [adapter(1, 3, SHAPES), adapter(2, 2, shapes)]
    with pytest.raises(ModelError, match=reason):
        add(parts, (1.0, 1.0))
    with pytest.raises(ModelError, match=reason):
        agree(parts, (1.0, 1.0), "ties", 0.5, 4, 7)


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_what_both_began_from_is_not_thinned(method: Any) -> None:
    """Prevents: a common start that a merge of two experts thins, or has twice."""
    keys = {"keys": SHAPES["keys"]}  # 8 wide, so that rank 8 cuts nothing off
    begun, one, two = adapter(1, 3, keys), adapter(2, 2, keys), adapter(3, 2, keys)
    merged, kept = agree([begun, begun], (1.0, 1.0), method, 0.5, 3, 7, onto=begun)
    assert kept == pytest.approx(1)
    for module, term in terms(merged).items():
        assert torch.allclose(term, terms(begun)[module], atol=1e-4)
    grown = [add([begun, part], (1.0, 1.0)) for part in (one, two)]
    apart, _ = agree([one, two], (1.0, 1.0), method, 0.5, 8, 7)
    merged, _ = agree(grown, (1.0, 1.0), method, 0.5, 8, 7, onto=begun)
    for module, term in terms(merged).items():
        assert torch.allclose(term, terms(apart)[module] + terms(begun)[module], atol=1e-3)


def test_a_wider_adapter_says_the_same() -> None:
    """Prevents: fresh directions that change what an adapter adds before any training, or that could never learn."""
    one = adapter(1, 3, SHAPES)
    wide = widen(one, 7, 5)
    assert wide.rank == 7
    for module, term in terms(wide).items():
        assert torch.equal(term, terms(one)[module])
        assert float(wide.pairs[module][0][3:].abs().min()) > 0
