"""Tokens per second of the engine beside what people would run otherwise, in one run on the same prompts.

    make bench-engine

64 prompts with a shared prefix of about 200 tokens and 40 of their own, up to 160 new tokens, sampling on:
(a) `Llama.create_chat_completion` one at a time on the shipped file, (b) this engine, (c) vLLM on the same weights where
`make test-vllm` has built its environment, (d) the machine's bf16 matrix-multiply rate as tokens/s of this model. Prints
a table and, as its last line, JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from rostok.environment import prepare

prepare()

import psutil  # noqa: E402
import torch  # noqa: E402
from llama_cpp import Llama  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from rostok.engines.llamacpp import LlamaCppEngine  # noqa: E402
from rostok.engines.protocol import Completion, Message, Request, Sampling  # noqa: E402
from rostok.machine import processor, usable_cores  # noqa: E402
from rostok.models import base_config, find_base, serving_file, training_folder  # noqa: E402
from rostok.runs import PeakMemory  # noqa: E402
from rostok.swarm.adapter_gguf import export_adapter  # noqa: E402

NEW, PROMPTS, SEQUENCES, CONTEXT, ALONE = 160, 64, 64, 512, 12
ADAPTERS, RANK = 100, 16
PARAMETERS = 134_515_008  # of SmolLM2-135M, the tied embedding counted once
VLLM = Path(".venv-vllm/bin/python")
CARD = "You are a patient writer. " + "The old harbour has a lamp, a rope, and a gate that never quite closes. " * 11
TASKS = [f"Write scene number {number}: a keeper meets a stranger at the gate, the rope is wet, the lamp is low, and one of "
         "them has to decide before the tide turns what to do with the letter." for number in range(PROMPTS)]
SAMPLING = Sampling(max_tokens=NEW, temperature=0.8, min_p=0.05)
FIELD = {"type": "object", "properties": {"scene": {"type": "string", "minLength": 40, "maxLength": 600}},
         "required": ["scene"], "additionalProperties": False}


def requests(**fields: Any) -> list[Request]:
    """The prompts of the comparison."""
    return [Request((Message("system", CARD), Message("user", task)), SAMPLING, seed=number, shared=1, **fields)
            for number, task in enumerate(TASKS)]


def one_at_a_time() -> float:
    """(a) Tokens/s of the high-level call on the shipped file, as its users run it."""
    llama = Llama(str(find_base("embedded").source), n_ctx=1024, n_threads=usable_cores(), verbose=False)
    tokens, started = 0, time.perf_counter()
    for number, task in enumerate(TASKS[:ALONE]):
        answer = llama.create_chat_completion(
            [{"role": "system", "content": CARD}, {"role": "user", "content": task}], max_tokens=NEW, temperature=0.8,
            min_p=0.05, seed=number)
        tokens += answer["usage"]["completion_tokens"]
    return tokens / (time.perf_counter() - started)


def timed(engine: LlamaCppEngine, asked: Sequence[Request]) -> float:
    """(b) Tokens/s of all requests together."""
    started = time.perf_counter()
    futures: list[Future[Completion]] = engine.submit_all(asked)
    return sum(future.result().tokens for future in futures) / (time.perf_counter() - started)


def vllm(prompts: Sequence[str]) -> dict[str, Any] | None:
    """(c) What `bench/vllm_side.py` measures in vLLM's own environment, or None where that was not built."""
    if not VLLM.exists():
        return None
    job = {"model": str(training_folder(find_base("embedded"))), "prompts": list(prompts), "max_tokens": NEW,
           "temperature": SAMPLING.temperature, "min_p": SAMPLING.min_p, "seed": 0}
    done = subprocess.run([str(VLLM), "bench/vllm_side.py"], input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"vLLM failed:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def ceiling() -> float:
    """(d) bf16 matrix-multiply rate of this machine, as tokens/s of this model at 2 FLOPs a parameter."""
    a, b = torch.randn(1024, 1536).bfloat16(), torch.randn(1536, 1536).bfloat16()
    for _ in range(3):
        a @ b
    started, rounds = time.perf_counter(), 60
    for _ in range(rounds):
        a @ b
    return 2 * 1024 * 1536 * 1536 * rounds / (time.perf_counter() - started) / (2 * PARAMETERS)


def first_token(engine: LlamaCppEngine, load: Sequence[Request]) -> float:
    """Milliseconds to the first piece of text of a new request while `load` is being answered."""
    busy = engine.submit_all(load)
    time.sleep(2.0 if load else 0.0)
    times: list[float] = []
    for number in range(5):
        started = time.perf_counter()
        pieces: list[float] = []
        engine.submit(Request((Message("user", f"Tell me about rope number {number} and the tide."),), Sampling(max_tokens=4)),
                      lambda _, pieces=pieces: pieces.append(time.perf_counter())).result()  # type: ignore[misc]
        times.append(1000 * (pieces[0] - started))
    for future in busy:
        future.cancel()
    return statistics.median(times)


def adapter(folder: Path, seed: int) -> Path:
    """A random rank-16 adapter on all linear layers, written as PEFT would and converted as Rostok converts it."""
    config = base_config(find_base("embedded"))
    wide, inner = config["hidden_size"], config["intermediate_size"]
    keys = config["num_key_value_heads"] * (wide // config["num_attention_heads"])
    shapes = {"self_attn.q_proj": (wide, wide), "self_attn.k_proj": (keys, wide), "self_attn.v_proj": (keys, wide),
              "self_attn.o_proj": (wide, wide), "mlp.gate_proj": (inner, wide), "mlp.up_proj": (inner, wide),
              "mlp.down_proj": (wide, inner)}
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, (out, into) in shapes.items():
            at = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{at}.lora_A.weight"] = (torch.randn(RANK, into, generator=random) * 0.02).half()
            tensors[f"{at}.lora_B.weight"] = (torch.randn(out, RANK, generator=random) * 0.02).half()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK}))
    path = folder / f"{seed}.gguf"
    export_adapter(folder, path, config)
    return path


def switch_ms(engine: LlamaCppEngine) -> float:
    """What a change of adapter costs beyond computing the prompt again: one-token answers of A, A, B, B, A, A …

    Every second request changes the adapter, so that both kinds are measured under the same weather.
    """
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(48):
        request = Request((Message("user", TASKS[number]),), Sampling(max_tokens=1), adapter=f"a{number // 2 % 2}")
        started = time.perf_counter()
        engine.submit(request).result()
        times[number % 2 == 0].append(1000 * (time.perf_counter() - started))
    return statistics.median(times[True]) - statistics.median(times[False])


def adapters(engine: LlamaCppEngine) -> tuple[float, float, float]:
    """MiB that each of a hundred registered adapters costs, milliseconds to load one, and of a change between two."""
    with tempfile.TemporaryDirectory() as name:
        paths = [adapter(Path(name), seed) for seed in range(2)]
        process = psutil.Process()
        before, started = process.memory_info().rss, time.perf_counter()
        for number in range(ADAPTERS):
            engine.add_adapter(f"a{number}", paths[number % 2])
        load = 1000 * (time.perf_counter() - started) / ADAPTERS
        each = (process.memory_info().rss - before) / 2**20 / ADAPTERS
        return each, load, switch_ms(engine)


def main() -> None:
    """Measure and print."""
    slow = one_at_a_time()
    base = find_base("embedded")
    with PeakMemory() as peak:
        with LlamaCppEngine(serving_file(base), sequences=SEQUENCES, context=CONTEXT) as engine:
            timed(engine, requests()[:8])  # warm
            fast, held = timed(engine, requests()), timed(engine, requests(schema=FIELD))
            idle, loaded = first_token(engine, []), first_token(engine, requests())
            prompts = [engine.prompt(request) for request in requests()]
            sequences = engine.sequences
        engine_mib = peak.mib
    with LlamaCppEngine(serving_file(base), sequences=4, context=CONTEXT) as engine:
        each, load, switch = adapters(engine)
    other = vllm(prompts)
    top = ceiling()
    figures = {
        "rostok_tok_s": round(fast, 1), "one_at_a_time_tok_s": round(slow, 1),
        "vllm_tok_s": other and round(other["tok_s"], 1), "ceiling_tok_s": round(top, 1),
        "ratio_one_at_a_time": round(fast / slow, 2), "ratio_vllm": other and round(fast / other["tok_s"], 2),
        "ceiling_fraction": round(fast / top, 3), "constrained_fraction": round(held / fast, 2),
        "adapter_switch_ms": round(switch, 2), "adapter_load_ms": round(load, 1), "adapter_mib": round(each, 2),
        "peak_mib": engine_mib, "first_token_idle_ms": round(idle, 1), "first_token_loaded_ms": round(loaded, 1),
        "vllm_peak_mib": other and round(other["peak_mib"]), "sequences": sequences,
        "weights": serving_file(base).name, "cores": usable_cores(), "processor": processor(),
    }
    for name, value in figures.items():
        print(f"{name:24} {'not measured' if value is None else value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
