"""Sums and cuts of low-rank terms: what adapters are merged and split by.

The singular values of B·A are those of the small core R_B·R_Aᵀ of two QR decompositions, so a sum of rank 32 costs a
decomposition of 32 × 32 a module, in float64. TIES and DARE work on whole matrices and cost one of out × in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch

from rostok.errors import ModelError
from rostok.swarm.adapters import Adapter, Pair

Consensus = Literal["ties", "dare"]


def add(parts: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """The exact weighted sum: A's on top of each other, B's side by side; the rank is the sum of the ranks.

    Raises:
        ModelError: the parts change different modules, or modules of different shapes.
    """
    _same_modules(parts)
    pairs = {}
    for module in parts[0].pairs:
        a = torch.cat([part.pairs[module][0] for part in parts], dim=0)
        b = torch.cat([part.pairs[module][1] * weight for part, weight in zip(parts, weights, strict=True)], dim=1)
        pairs[module] = (a, b)
    return replace(parts[0], pairs=pairs)


def cut(adapter: Adapter, first: int, last: int) -> tuple[Adapter, float]:
    """Singular directions `first` to `last` (not included) of every module, the strongest being 0.

    Directions 0 to k are the best approximation of rank k (Eckart and Young 1936).

    Returns:
        The adapter of rank last - first, and its share of the squared singular values of all modules.
    """
    pairs, kept, total = {}, 0.0, 0.0
    for module, (a, b) in adapter.pairs.items():
        q_b, r_b = torch.linalg.qr(b.double())
        q_a, r_a = torch.linalg.qr(a.double().T)
        u, s, vh = torch.linalg.svd(r_b @ r_a.T)
        pairs[module] = _balanced(q_b @ u, s, vh @ q_a.T, first, last)
        kept += float((s[first:last] ** 2).sum())
        total += float((s**2).sum())
    return replace(adapter, pairs=pairs), kept / total if total else 1.0


def widen(adapter: Adapter, rank: int, random_seed: int) -> Adapter:
    """The same terms in more directions, for further training: the new A's are drawn as torch's Linear is, their B's are 0."""
    dice = torch.Generator().manual_seed(random_seed)
    pairs = {}
    for module, (a, b) in adapter.pairs.items():
        more = rank - a.shape[0]
        bound = a.shape[1] ** -0.5
        drawn = torch.empty(more, a.shape[1]).uniform_(-bound, bound, generator=dice)
        pairs[module] = (torch.cat([a, drawn]), torch.cat([b, torch.zeros(b.shape[0], more)], dim=1))
    return replace(adapter, pairs=pairs)


def agree(parts: Sequence[Adapter], weights: Sequence[float], method: Consensus, density: float, rank: int, random_seed: int,
          on_module: Callable[[], None] = lambda: None, onto: Adapter | None = None) -> tuple[Adapter, float]:
    """A merge that thins the terms first, cut to `rank`.

    With `onto`, what the parts differ from it by is thinned and merged, and put onto it: the task vectors of both papers are
    differences to what both began from.

    TIES (arXiv 2306.01708) keeps the largest share `density` of each term's numbers and averages those that have the sign
    of the majority. DARE (2311.03099) drops all but a random share and scales up the rest, then adds. Both are PEFT's
    functions, on the whole terms: on A and B apart, as `add_weighted_adapter("ties")` has it, they are not those of the papers.

    Returns:
        The adapter, and the share of the squared singular values that the cut has kept.
    """
    from peft.utils.merge_utils import dare_linear, ties

    _same_modules([*parts, onto] if onto is not None else parts)
    combine = {"ties": ties, "dare": dare_linear}[method]
    pairs, kept, total = {}, 0.0, 0.0
    with torch.random.fork_rng(devices=[]):  # DARE draws from the global generator
        torch.manual_seed(random_seed)
        for module in parts[0].pairs:
            terms = [part.pairs[module][1] @ part.pairs[module][0] for part in parts]
            begun = onto.pairs[module][1] @ onto.pairs[module][0] if onto is not None else torch.zeros_like(terms[0])
            merged = begun + combine([term - begun for term in terms], torch.tensor(weights, dtype=torch.float32), density)
            u, s, vh = torch.linalg.svd(merged, full_matrices=False)
            pairs[module] = _balanced(u, s, vh, 0, rank)
            kept += float((s[:rank] ** 2).sum())
            total += float((s**2).sum())
            on_module()
    return replace(parts[0], pairs=pairs), kept / total if total else 1.0


def _balanced(u: torch.Tensor, s: torch.Tensor, vh: torch.Tensor, first: int, last: int) -> Pair:
    """u·diag(s)·vh between the directions as (A, B), each with the root of the singular values."""
    root = s[first:last].sqrt()
    return (root[:, None] * vh[first:last]).float(), (u[:, first:last] * root).float()


def _same_modules(parts: Sequence[Adapter]) -> None:
    first = parts[0].pairs
    for part in parts[1:]:
        differing = sorted(first.keys() ^ part.pairs.keys())
        if differing:
            few = ", ".join(differing[:2]) + (f" and {len(differing) - 2} more" if len(differing) > 2 else "")
            raise ModelError(f"the adapters change different modules: only one of them has {few}. Train both with the same "
                             "target modules.")
        for module, (a, b) in part.pairs.items():
            ours = first[module][1].shape[0], first[module][0].shape[1]
            theirs = b.shape[0], a.shape[1]
            if ours != theirs:
                raise ModelError(f"the adapters do not fit each other: {module} is {ours[0]} × {ours[1]} in one and "
                                 f"{theirs[0]} × {theirs[1]} in the other. They belong to different bases.")
