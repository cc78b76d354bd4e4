"""Tokens per second of the fused trainer beside trl's SFTTrainer, in one run on the same corpora and settings.

    make bench-swarm
    make bench-swarm ARGS="--flat 100 --tokens 20000"     # time and memory from the first adapter to the last (35 minutes)

Eight seeds made by code, each unfolded into composed pages and dialogues as `rostok corpus build` does it. (a) trl trains
three of them one after another in one process, (b) two of them in fresh processes as a shell loop would, (c) this trainer
trains all eight at once. (a) and (b) take part of the jobs because they are slow; rates are per token. All begin with the same
matrices and read the pages in the same order, so that the held-out losses differ by the trainer alone. Every way runs in a
process of its own, whose highest resident memory is told. Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rostok.environment import prepare

prepare()

from made import composed  # noqa: E402  # bench/made.py

from rostok.config import CorpusSettings, Shares, TrainingSettings  # noqa: E402
from rostok.generator.drills import drill  # noqa: E402
from rostok.generator.records import Page  # noqa: E402
from rostok.models import base_config, find_base  # noqa: E402

JOBS, TRL_JOBS, FRESH_JOBS, PAGES = 8, 3, 2, 104
SETTINGS = TrainingSettings(learning_rate=2e-3)  # of adapters that begin from nothing
CORPUS = CorpusSettings(pages=PAGES, shares=Shares(written=0, composed=0.65, dialogue=0.35, replay=0))
PARAMETERS = 134_515_008  # of SmolLM2-135M, the tied embedding counted once


def corpus(place: int) -> tuple[list[Page], list[Page]]:
    """Training pages and held-out pages of a seed, composed by code."""
    pages = composed(drill(place), CORPUS, place)
    trained = [page for page in pages if not page.held_out]
    whole = len(trained) // SETTINGS.pages_per_step * SETTINGS.pages_per_step  # so that both trainers read the same
    return trained[:whole], [page for page in pages if page.held_out]


def work(mode: str, numbers: Sequence[int], folder: Path) -> None:
    """Train these jobs in this process by `trl` or `fused`, and print tokens, seconds and memory as JSON."""
    import torch

    from rostok.swarm.base import FrozenBase
    from rostok.swarm.reference import train_reference
    from rostok.swarm.stack import Stack
    from rostok.swarm.train import train
    from rostok.swarm.training import Job, Start, Trained

    frozen = FrozenBase(find_base("embedded"))
    jobs = [Job(str(place), frozen.page_tokens(corpus(place)[0], SETTINGS.max_tokens), SETTINGS, 100 + place)
            for place in numbers]
    tokens = sum(len(page) for job in jobs for page in job.pages)
    if mode == "trl":
        import datasets  # noqa: F401
        import trl  # noqa: F401

        starts = []
        for job in jobs:
            adapter = Stack(frozen.model, keep=False).adapter(SETTINGS.rank, SETTINGS.alpha)
            adapter.draw(torch.Generator().manual_seed(job.random_seed))
            starts.append(adapter.tensors())
        began = time.perf_counter()
        for job, start in zip(jobs, starts, strict=True):
            train_reference(frozen, replace(job, start=Start(start, "drawn")), folder / f"{mode}-{job.name}")
    else:
        began = time.perf_counter()
        for ended in train(frozen, jobs, SETTINGS, lambda job: folder / f"{mode}-{job.name}", tell=print):
            assert isinstance(ended, Trained), ended
            assert ended.tokens == sum(map(len, ended.job.pages))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"tokens": tokens, "seconds": seconds, "peak_mib": peak}))


def losses(folder: Path, numbers: Sequence[int]) -> dict[str, list[float]]:
    """Held-out nats per token of both trainers' adapters and of the base, corpus by corpus."""
    from rostok.swarm.base import FrozenBase
    from rostok.swarm.measure import nats

    frozen = FrozenBase(find_base("embedded"))
    found: dict[str, list[float]] = {"base": [], "trl": [], "fused": []}
    for place in numbers:
        rows = [(page, 1) for page in frozen.page_tokens(corpus(place)[1], SETTINGS.max_tokens)]
        count = sum(len(page) - 1 for page, _ in rows)
        found["base"].append(sum(nats(frozen.model, rows)) / count)
        for mode in ("trl", "fused"):
            model = frozen.wear(folder / f"{mode}-{place}")
            found[mode].append(sum(nats(model, rows)) / count)
            frozen.take_off(model)
    return found


def ceiling() -> float:
    """bf16 matrix-multiply rate of this machine in FLOP/s: the best of some large products."""
    import torch

    best = 0.0
    for size in (2048, 4096):
        a, b = torch.randn(size, size).bfloat16(), torch.randn(size, size).bfloat16()
        a @ b
        for _ in range(4):
            started = time.perf_counter()
            a @ b
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def flops_per_token(pages: Sequence[Sequence[int]]) -> float:
    """4 FLOPs a frozen parameter, 6 for attention (times layers, width and mean length) and 6 a parameter of the adapter."""
    config = base_config(find_base("embedded"))
    width, layers, inner = config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    length = sum(len(page) ** 2 for page in pages) / sum(map(len, pages))
    adapter = layers * SETTINGS.rank * (4 * width + 2 * (width + keys) + 3 * (width + inner))
    return float(4 * PARAMETERS + 6 * layers * width * length + 6 * adapter)


def child(mode: str, numbers: Sequence[int], folder: Path) -> dict[str, float]:
    """`work` in a process of its own; `wall` is its whole time, from the start of Python to its end."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, "--work", mode, "--jobs", *map(str, numbers), "--folder", str(folder)],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{mode} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**figures, "wall": time.perf_counter() - began}


def flat(adapters: int, tokens: int) -> None:
    """Train so many adapters on so many tokens each, and tell tokens a second and resident memory, ten by ten.

    A machine that is shared has faster and slower minutes, so each row also has what a large bf16 product reached just then.
    """
    import psutil

    from rostok.swarm.base import FrozenBase
    from rostok.swarm.train import train
    from rostok.swarm.training import Job, Trained

    frozen = FrozenBase(find_base("embedded"))

    def jobs() -> Iterator[Job]:
        for place in range(adapters):
            pages = frozen.page_tokens(corpus(place)[0], SETTINGS.max_tokens)
            epochs = tokens / sum(map(len, pages))
            yield Job(str(place), pages, SETTINGS.model_copy(update={"epochs": epochs}), 100 + place)

    rows: list[dict[str, float]] = []
    read, seconds = 0, 0.0  # of the adapters that ended since the last row; a step's time is shared by what each read in it
    with tempfile.TemporaryDirectory() as scratch:
        for number, ended in enumerate(train(frozen, jobs(), SETTINGS, lambda job: Path(scratch) / job.name), start=1):
            assert isinstance(ended, Trained), ended
            read, seconds = read + ended.tokens, seconds + ended.seconds
            if number % 10 == 0 or number == adapters:
                rows.append({"adapters": number, "tok_s": round(read / seconds, 1), "gflop_s": round(ceiling() / 1e9, 1),
                             "mib": psutil.Process().memory_info().rss >> 20})
                print(f"{number:4d} adapters   {rows[-1]['tok_s']:7.0f} tokens/s   {rows[-1]['mib']:6.0f} MiB   "
                      f"{rows[-1]['gflop_s']:6.0f} GFLOP/s of a bf16 product", flush=True)
                read, seconds = 0, 0.0
    rates, shares = [row["tok_s"] for row in rows], [row["tok_s"] / row["gflop_s"] for row in rows]
    print(json.dumps({"adapters": adapters, "tokens": tokens, "rows": rows,
                      "spread": round(max(rates) / min(rates) - 1, 3), "last_to_first": round(rates[-1] / rates[0], 3),
                      "last_to_first_of_the_product": round(shares[-1] / shares[0], 3)}))


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flat", type=int, default=0, metavar="ADAPTERS", help="train so many by this trainer alone")
    parser.add_argument("--tokens", type=int, default=20_000, help="of each adapter, with --flat")
    parser.add_argument("--work", choices=("trl", "fused"))
    parser.add_argument("--jobs", type=int, nargs="*", default=[])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.jobs, arguments.folder)
        return
    if arguments.flat:
        flat(arguments.flat, arguments.tokens)
        return
    from rostok.machine import processor, usable_cores

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        first = ceiling()
        fused = child("fused", range(JOBS), folder)
        trl = child("trl", range(TRL_JOBS), folder)
        fresh = [child("trl", [place], folder) for place in range(FRESH_JOBS)]
        peak_rate = max(first, ceiling())
        held_out = losses(folder, range(TRL_JOBS))
    from rostok.swarm.base import FrozenBase

    pages = FrozenBase(find_base("embedded")).page_tokens(corpus(0)[0], SETTINGS.max_tokens)
    mean = {name: sum(values) / len(values) for name, values in held_out.items()}
    rate, rate_trl = fused["tokens"] / fused["seconds"], trl["tokens"] / trl["seconds"]
    rate_fresh = sum(one["tokens"] for one in fresh) / sum(one["wall"] for one in fresh)
    per_token = flops_per_token(pages)
    figures: dict[str, Any] = {
        "rostok_tok_s": round(rate, 1), "trl_tok_s": round(rate_trl, 1), "trl_processes_tok_s": round(rate_fresh, 1),
        "ratio_trl": round(rate / rate_trl, 2), "ratio_processes": round(rate / rate_fresh, 2),
        "peak_mib": int(fused["peak_mib"]), "trl_peak_mib": int(fresh[0]["peak_mib"]),
        "heldout_difference": round(mean["fused"] / mean["trl"] - 1, 4),
        "ceiling_fraction": round(rate * per_token / peak_rate, 3), "ceiling_gflop_s": round(peak_rate / 1e9),
        "mflop_per_token": round(per_token / 1e6, 1), "heldout": {name: round(value, 4) for name, value in mean.items()},
        "tokens": int(fused["tokens"]), "jobs": JOBS, "processor": processor(), "cores": usable_cores()}
    print(f"{figures['processor']}, {figures['cores']} cores, rank {SETTINGS.rank}, {SETTINGS.pages_per_step} pages a step, "
          f"{fused['tokens'] / JOBS:.0f} tokens an adapter\n")
    share = f"{figures['ceiling_fraction']:8.1%} of {peak_rate / 1e9:.0f} GFLOP/s"
    rows = [
        (f"(a) trl, one after another ({TRL_JOBS} of {JOBS} jobs)", f"{rate_trl:8.0f} tokens/s"),
        (f"(b) trl, fresh processes ({FRESH_JOBS} of {JOBS})", f"{rate_fresh:8.0f} tokens/s, {fresh[0]['peak_mib']:.0f} MiB"),
        (f"(c) rostok, {JOBS} at once", f"{rate:8.0f} tokens/s, {fused['peak_mib']:.0f} MiB"),
        ("(c) beside (a), (b)", f"{figures['ratio_trl']:8.2f}×, {figures['ratio_processes']:.2f}×  (asked for: 2, 2.5)"),
        ("memory, 8 at once beside one of trl", f"{fused['peak_mib'] / fresh[0]['peak_mib']:8.2f}×  (at most 1.5)"),
        ("of the bf16 matrix-multiply rate", f"{share} (asked for: 55%)"),
        ("held-out nats a token: base, trl, rostok", f"{mean['base']:8.3f}, {mean['trl']:.3f}, {mean['fused']:.3f}"),
    ]
    for name, value in rows:
        print(f"{name:44s}{value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
