"""The engine in this process: the contract, and what only it can get wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from rostok.engines.llamacpp import LlamaCppEngine
from rostok.engines.protocol import Engine, Sampling
from rostok.errors import AdapterError, ModelError
from tests.engines.contract import SECONDS, EngineContract, answer, ask


class TestLlamaCpp(EngineContract):
    """llama.cpp multiplies one row with other code than many, which rounds in another way: a text may change with the size of
    its batch, but not when the same batch is computed again."""

    promises = frozenset({"same batch", "alone"})

    @pytest.fixture(scope="class")
    def engine(self, base_gguf: Path) -> Iterator[Engine]:
        # One thread: two that wait for each other on a busy machine crawl.
        with LlamaCppEngine(base_gguf, sequences=self.slots, context=384, threads=1, queue=self.queue) as engine:
            yield engine

    @pytest.fixture(scope="class")
    def adapters(self, gguf_adapters: dict[str, Path]) -> dict[str, Path]:
        return gguf_adapters

    @pytest.fixture
    def another(self, base_gguf: Path) -> Iterator[Engine]:
        with LlamaCppEngine(base_gguf, sequences=self.slots, context=384, threads=1) as engine:
            yield engine


def test_more_adapters_than_memory_holds_answer_as_the_first_did(engine: LlamaCppEngine, gguf_adapters: dict[str, Path]) -> None:
    """Prevents: an expert that answers as another after it was put out of memory, or a hundred that make every change slow."""
    names = [f"x{number}" for number in range(12)]
    for number, name in enumerate(names):
        engine.add_adapter(name, gguf_adapters["ab"[number % 2]])
    texts = [answer(engine, ask(adapter=name)).text for name in (*names, *names)]
    assert len(engine._shelf.hot) <= 8
    assert texts == texts[:2] * 12 and texts[0] != texts[1]
    for name in names:
        engine.remove_adapter(name)


def test_an_adapter_that_changed_under_its_name_is_refused(
    engine: LlamaCppEngine, gguf_adapters: dict[str, Path], tmp_path: Path
) -> None:
    """Prevents: an expert trained again whose new weights speak under the old registration."""
    path = tmp_path / "adapter.gguf"
    path.write_bytes(gguf_adapters["a"].read_bytes())
    engine.add_adapter("mine", tmp_path)
    for number in range(9):  # puts it out of memory
        engine.add_adapter(f"x{number}", gguf_adapters["b"])
    path.write_bytes(gguf_adapters["b"].read_bytes())
    with pytest.raises(AdapterError, match="'mine' was changed or removed since it was registered"):
        answer(engine, ask(adapter="mine"))
    path.unlink()
    with pytest.raises(AdapterError, match="'mine' was changed or removed"):
        answer(engine, ask(adapter="mine"))
    assert answer(engine, ask(adapter="x0")).text
    for name in ("mine", *(f"x{number}" for number in range(9))):
        engine.remove_adapter(name)


def test_an_adapter_of_another_base_is_refused(engine: LlamaCppEngine, gguf_adapters: dict[str, Path], tmp_path: Path) -> None:
    """Prevents: an expert of another architecture or another width, which llama.cpp must refuse by a reason, not a crash."""
    import gguf
    import numpy as np

    for family, width, words in (("qwen2", 576, "qwen2|arch"), ("llama", 64, "dimension|shape|lora_a")):
        path = tmp_path / f"{family}.gguf"
        writer = gguf.GGUFWriter(path, family)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 16.0)
        writer.add_tensor("blk.0.attn_q.weight.lora_a", np.zeros((8, width), np.float32))
        writer.add_tensor("blk.0.attn_q.weight.lora_b", np.zeros((width, 8), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(AdapterError, match=words):
            engine.add_adapter("stranger", path)
    assert answer(engine, ask()).text


def test_a_template_inside_the_file_is_never_rendered(base_gguf: Path, tmp_path: Path) -> None:
    """Prevents: code of a stranger that runs with the first prompt (CVE-2024-34359)."""
    import gguf

    reader = gguf.GGUFReader(base_gguf)
    place = reader.fields.get("tokenizer.chat_template", None)
    data = bytearray(base_gguf.read_bytes())
    mark = tmp_path / "ran"
    hostile = "{{ ''.__class__.__mro__[1].__subclasses__() }}{% for x in () %}" + f"touch {mark}"
    if place is not None:  # overwritten in place, to the same length
        old = bytes(place.parts[-1])
        data = data.replace(old, hostile.encode()[: len(old)].ljust(len(old)), 1)
    path = tmp_path / "hostile.gguf"
    path.write_bytes(data)
    assert place is not None and hostile.encode()[:40] in data
    with LlamaCppEngine(path, sequences=1, context=256, threads=1) as engine:
        assert engine.prompt(ask("Hi")) == engine.template.render(ask("Hi").messages)
        assert answer(engine, ask("Hi")).text
    assert not mark.exists()


def test_a_new_version_of_an_adapter_answers_at_once(engine: LlamaCppEngine, gguf_adapters: dict[str, Path]) -> None:
    """Prevents: shared prefixes of the old version under an expert's name, and a request in flight that changes its expert."""
    engine.add_adapter("b", gguf_adapters["b"])
    cold = answer(engine, ask(adapter="b", shared=1)).text
    engine.add_adapter("changing", gguf_adapters["a"])
    old = answer(engine, ask(adapter="changing", shared=1)).text
    late = engine.submit(ask(adapter="changing"))
    engine.add_adapter("changing", gguf_adapters["b"])
    assert answer(engine, ask(adapter="changing", shared=1)).text == cold != old
    assert late.result(SECONDS).text == old
    for name in ("b", "changing"):
        engine.remove_adapter(name)
    with pytest.raises(AdapterError, match="changing"):
        answer(engine, ask(adapter="changing"))


def test_requests_are_answered_side_by_side(engine: LlamaCppEngine) -> None:
    """Prevents: a new request that is answered to its end before the others go on, so that nothing is batched."""
    order: list[str] = []
    sampling = Sampling(max_tokens=16, temperature=0)
    futures = [
        engine.submit(ask(text, sampling=sampling), lambda _, name=text: order.append(name))  # type: ignore[misc]
        for text in ("Why is the sky blue?", "Tell a story about a lamp.")
    ]
    for future in futures:
        future.result(SECONDS)
    assert sum(one != two for one, two in pairwise(order)) > 8


def test_a_model_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Prevents: a crash inside llama.cpp for a mistyped path."""
    with pytest.raises(ModelError, match=r"no model file .*absent\.gguf"):
        LlamaCppEngine(tmp_path / "absent.gguf")


def test_a_file_that_is_no_gguf_is_told(tmp_path: Path) -> None:
    """Prevents: safetensors or a download's error page given to llama.cpp."""
    path = tmp_path / "model.gguf"
    path.write_text("<html>404</html>")
    with pytest.raises(ModelError, match="is not a GGUF file"):
        LlamaCppEngine(path)


@pytest.mark.parametrize("share", [0.0001, 0.5])
def test_a_gguf_that_was_cut_is_told(tmp_path: Path, base_gguf: Path, share: float) -> None:
    """Prevents: a broken download that crashes the process or answers noise."""
    path = tmp_path / "model.gguf"
    with base_gguf.open("rb") as file:
        path.write_bytes(file.read(max(int(base_gguf.stat().st_size * share), 64)))
    with pytest.raises(ModelError, match=r"model\.gguf cannot be loaded.*It may be cut short"):
        LlamaCppEngine(path)


def test_a_closed_engine_refuses(base_gguf: Path) -> None:
    """Prevents: a late request that aborts the whole process; hence a process of its own."""
    code = """
import sys
from pathlib import Path
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.engines.protocol import Message, Request
from rostok.errors import ModelError
engine = LlamaCppEngine(Path(sys.argv[1]), sequences=1, context=256, threads=1)
engine.close()
try:
    engine.submit(Request((Message("user", "Hi"),)))
except ModelError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(base_gguf)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    assert "is closed" in done.stdout
