"""What an adapter costs the engine, and where: an expert's adapter whole, on fewer matrices, at a lower rank, in other formats.

    make bench-adapter ARGS="runs/mine/experts/s-1/adapter.gguf"

One answer at a time, all variants by turns: milliseconds to the first word and for each word after it, medians of twelve answers.
A cut adapter says other things; it is its time that is measured. Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rostok.environment import prepare

prepare()

import gguf  # noqa: E402
import numpy as np  # noqa: E402

from rostok.config import resolve  # noqa: E402
from rostok.engines.open import open_engine  # noqa: E402
from rostok.engines.protocol import Engine, Message, Request, Sampling  # noqa: E402
from rostok.models import find_base  # noqa: E402

ASKED = (Message("user", "I have come to the dark wood. What do I find then? Tell me all that you know about it."),)
DRAWN = Sampling(max_tokens=48, temperature=0.8, dry=0.8)
ROUNDS, WARM = 14, 2
F32 = gguf.GGMLQuantizationType.F32


def cut(source: Path, target: Path, keep: Callable[[str], bool] = lambda name: True, kind: Any = F32,
        rank: int | None = None) -> int:
    """A copy of the adapter with these tensors alone, in this format, at this rank. Returns how many matrices it changes."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(str(target), "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 32.0)
    tensors = [tensor for tensor in reader.tensors if keep(tensor.name)]
    for tensor in tensors:
        values = np.array(tensor.data).astype(np.float32)
        if rank is not None:
            values = np.ascontiguousarray(values[:rank] if tensor.name.endswith("lora_a") else values[:, :rank])
        writer.add_tensor(tensor.name, values if kind == F32 else gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return len(tensors) // 2


def from_layer(first: int) -> Callable[[str], bool]:
    """Whether a tensor is of this layer or a later one."""
    def of(name: str) -> bool:
        found = re.search(r"blk\.(\d+)", name)
        return found is not None and int(found[1]) >= first

    return of


def once(engine: Engine, adapter: str | None, seed: int) -> tuple[float, float]:
    """Milliseconds to the first word, and for each word after it."""
    told: list[float] = []
    started = time.perf_counter()
    engine.submit(Request(ASKED, DRAWN, adapter=adapter, seed=seed), lambda _: told.append(time.perf_counter())).result()
    return (told[0] - started) * 1000, (told[-1] - told[0]) * 1000 / max(1, len(told) - 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, help="an adapter for the embedded base, as GGUF")
    source = parser.parse_args().adapter
    kinds = gguf.GGMLQuantizationType
    variants: dict[str, dict[str, Any]] = {
        "whole": {}, "last 20 layers": {"keep": from_layer(10)}, "last 10 layers": {"keep": from_layer(20)},
        "attention": {"keep": lambda name: "attn" in name}, "downward": {"keep": lambda name: "ffn_down" in name},
        "rank 8": {"rank": 8}, "rank 4": {"rank": 4}, "F16": {"kind": kinds.F16}, "BF16": {"kind": kinds.BF16}}
    matrices: dict[str | None, int] = {None: 0}
    with tempfile.TemporaryDirectory() as scratch, open_engine(find_base("embedded"), resolve().models, sequences=8) as engine:
        for number, (name, how) in enumerate(variants.items()):
            target = Path(scratch) / f"{number}.gguf"
            matrices[name] = cut(source, target, **how)
            engine.add_adapter(name, target)
        engine.hold(len(variants))
        taken: dict[str | None, list[tuple[float, float]]] = {name: [] for name in matrices}
        for seed in range(ROUNDS):
            for worn, times in taken.items():
                times.append(once(engine, worn, seed))
    figures = {}
    for worn, times in taken.items():
        first, word = (round(statistics.median(column), 2) for column in zip(*times[WARM:], strict=True))
        figures[worn or "bare base"] = {"matrices": matrices[worn], "first_ms": first, "word_ms": word}
        print(f"{worn or 'bare base':16} {matrices[worn]:4} matrices   first word {first:6.1f} ms   each word {word:5.2f} ms")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
