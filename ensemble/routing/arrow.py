"""Arrow (arXiv 2405.11157): the adapters' own spectra route; no pages are looked at, and no training is needed.

The prototype of an expert at a module is the first right singular vector of B·A, the direction of inputs that the adapter
changes most; an input that lies along it is the expert's. Ranks may differ, since only the first direction counts. Here
the cosines are averaged over the question's tokens, set against those of questions that belong to nobody (the base's few huge
directions would otherwise decide), and averaged over the modules.

It needs the inputs of every module, which llama.cpp does not give: the base is loaded into torch beside it, 270 MB in bf16
for 135M parameters, and one question costs a pass through it (docs/routing.md has the figures).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rostok.ensemble.routing import kept
from rostok.ensemble.routing.router import Question, Strategy
from rostok.errors import ModelError
from rostok.models import Base, training_folder
from rostok.swarm import lowrank
from rostok.swarm.adapters import Adapter, Pair, read_adapter

_SHARP = 4.0  # of the soft-max over standardised cosines


def prototypes(folders: Mapping[str, Path], begun: Adapter | None = None) -> dict[str, NDArray[np.float16]]:
    """{module: unit vectors [experts, inputs]} of the adapters in these folders; zeros where an expert leaves a module alone.

    Args:
        begun: what all of them began from, which says nothing of any and is taken out.
    """
    found: dict[str, NDArray[np.float16]] = {}
    for place, folder in enumerate(folders.values()):
        adapter = read_adapter(folder)
        own = adapter if begun is None else lowrank.add([adapter, begun], (1.0, -1.0))
        for module, pair in own.pairs.items():
            rows = found.setdefault(module, np.zeros((len(folders), pair[0].shape[1]), np.float16))
            rows[place] = _first_direction(pair)
    return found


def _first_direction(pair: Pair) -> NDArray[np.float32]:
    """The first right singular vector of B·A, by way of the small core of two QR decompositions."""
    import torch

    a, b = pair
    q_a, r_a = torch.linalg.qr(a.T)
    _, _, right = torch.linalg.svd(torch.linalg.qr(b)[1] @ r_a.T)
    vector: NDArray[np.float32] = (q_a @ right[0]).numpy()
    return vector


class Inputs:
    """The base in torch, asked for the inputs of its modules. Loaded when it is first asked.

    Raises (when asked):
        ModelError: the base cannot be loaded into torch.
    """

    def __init__(self, base: Base) -> None:
        self._base = base

    def cosines(self, text: str, directions: Mapping[str, Any]) -> NDArray[np.float32]:
        """Mean over the text's tokens of |cos(input, direction)|, shape [modules, experts]."""
        import torch

        tokenizer, model = self._loaded
        modules = dict(model.named_modules())
        found: dict[str, Any] = {}

        def listen(name: str) -> Callable[[Any, tuple[Any, ...]], None]:
            def hook(_: Any, inputs: tuple[Any, ...]) -> None:
                x = torch.nn.functional.normalize(inputs[0][0].float(), dim=-1)
                found[name] = (x @ directions[name].T).abs().mean(dim=0)
            return hook

        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)["input_ids"]
        with _listening([(modules[name], listen(name)) for name in directions]), torch.inference_mode():
            model.model(input_ids=ids, use_cache=False)
        return np.stack([found[name].numpy() for name in directions])

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = training_folder(self._base)
        try:
            return (AutoTokenizer.from_pretrained(folder, local_files_only=True),
                    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True).eval())
        except (OSError, ValueError) as error:
            raise ModelError(f"the base in {folder} cannot be loaded for Arrow: {error}. "
                             "Set router.strategy to another one.") from None


@contextmanager
def _listening(hooks: Sequence[tuple[Any, Any]]) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def fit(folders: Mapping[str, Path], inputs: Inputs, nobodys: Sequence[str], begun: Adapter | None = None) -> kept.Arrays:
    """Prototypes of the experts, as `prototypes` has them, and mean and spread of nobody's questions at each of them."""
    found = prototypes(folders, begun)
    directions = _tensors(found)
    seen = np.stack([inputs.cosines(text, directions) for text in nobodys])
    return {"experts": kept.joined(list(folders)), "modules": kept.joined(list(found)), "mean": seen.mean(axis=0),
            "spread": seen.std(axis=0) + 1e-6, **{f"at {module}": rows for module, rows in found.items()}}


class Arrow(Strategy):
    """Scores by the arrays of `fit`."""

    name = "arrow"

    def __init__(self, arrays: Mapping[str, NDArray[Any]], inputs: Inputs) -> None:
        self._experts, self._inputs = kept.split(arrays["experts"]), inputs
        self._directions = _tensors({module: arrays[f"at {module}"] for module in kept.split(arrays["modules"])})
        self._mean, self._spread = arrays["mean"], arrays["spread"]

    def scores(self, question: Question) -> dict[str, float]:
        """{seed: e to the standardised cosine}, the mean over the modules."""
        seen = self._inputs.cosines(question.text, self._directions)
        mean = ((seen - self._mean) / self._spread).mean(axis=0)
        return {name: float(np.exp(_SHARP * value)) for name, value in zip(self._experts, mean, strict=True)}


def _tensors(found: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    import torch

    return {module: torch.from_numpy(np.asarray(rows, np.float32)) for module, rows in found.items()}
