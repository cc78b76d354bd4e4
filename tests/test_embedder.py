"""The embedder's quick way gives the vectors of the slow one."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from rostok.embedder import Embedder
from rostok.models import find_embedder

TEXTS = ("", "?", "a lamp", "Which item succeeds the tin plate?", "The ferryman counts the lamps. " * 9, "word " * 700,
         "Ёлка и 灯塔 🚢", "line one\nline two\n\n> quoted")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(find_embedder("embedded"))


@pytest.mark.parametrize("text", TEXTS)
def test_quick_vectors_are_those_of_the_model(embedder: Embedder, text: str) -> None:
    """A forward pass of our own that forgets a mask, a bias or the limit of 256 tokens: every store would be worthless."""
    quick, slow = embedder.quick([text])[0], embedder.embed([text])[0]
    assert quick.dtype == np.float32 and np.linalg.norm(quick) == pytest.approx(1, abs=1e-5)
    assert float(quick @ slow) > 0.9995


def test_quick_way_is_taken_and_batches_change_nothing(embedder: Embedder) -> None:
    """A vector that depends on its company; or a fallback that nobody notices but by its slowness."""
    assert embedder._lean is not None
    together = embedder.quick(TEXTS)
    assert together.shape == (len(TEXTS), 384) and embedder.quick([]).shape == (0, 384)
    for text, vector in zip(TEXTS, together, strict=True):
        assert np.array_equal(embedder.quick([text])[0], vector)


def test_another_kind_of_model_goes_the_slow_way(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedder with other pooling or another architecture, read as if it were this one."""
    from rostok.lean_bert import lean

    class Other:
        max_seq_length, tokenizer = 256, embedder._model.tokenizer

        def __getitem__(self, place: int) -> object:
            return embedder._model[place]

        def encode(self, texts: list[str], **_: object) -> np.ndarray:
            return -embedder.embed(texts)

    assert lean(Other()) is None and lean(object()) is None
    monkeypatch.setattr(embedder, "_lean", None)
    assert np.allclose(embedder.quick(["a lamp"]), embedder.embed(["a lamp"]), atol=1e-6)


def test_many_threads_at_once_leave_torch_as_it_was(embedder: Embedder) -> None:
    """The number of threads belongs to the process: two that put it back in the wrong order would leave it at one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    found: dict[int, np.ndarray] = {}
    try:
        threads = [threading.Thread(target=lambda n=n: found.update({n: embedder.quick([f"text {n % 3}"] * 3)}))
                   for n in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(found) == 9 and all(np.array_equal(found[n], found[n % 3]) for n in found)
