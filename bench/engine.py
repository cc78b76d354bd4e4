"""Tokens per second of the engine beside one-at-a-time `Llama.create_chat_completion`, in one run on the same prompts.

    make bench-engine

64 prompts with a shared prefix of about 200 tokens and 40 of their own, up to 96 new tokens, sampling on. Prints a table
and, as its last line, JSON. vLLM, adapter switching and the streamed first token are not measured yet (null).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import Future

from rostok.environment import prepare

prepare()

import torch  # noqa: E402
from llama_cpp import Llama  # noqa: E402

from rostok.engines.llamacpp import LlamaCppEngine  # noqa: E402
from rostok.engines.protocol import Completion, Message, Request, Sampling  # noqa: E402
from rostok.machine import usable_cores  # noqa: E402
from rostok.models import find_base, serving_file  # noqa: E402
from rostok.runs import PeakMemory  # noqa: E402

NEW = 96
PARAMETERS = 134_515_008  # of SmolLM2-135M, the tied embedding counted once
CARD = "You are a patient writer. " + "The old harbour has a lamp, a rope, and a gate that never quite closes. " * 11
TASKS = [f"Write scene number {number}: a keeper meets a stranger at the gate, the rope is wet, the lamp is low, and one of "
         "them has to decide before the tide turns what to do with the letter." for number in range(64)]


def one_at_a_time(count: int) -> float:
    """Tokens/s of the high-level call on the shipped file, as its users run it."""
    llama = Llama(str(find_base("embedded").source), n_ctx=1024, n_threads=usable_cores(), verbose=False)
    tokens, started = 0, time.perf_counter()
    for number, task in enumerate(TASKS[:count]):
        answer = llama.create_chat_completion(
            [{"role": "system", "content": CARD}, {"role": "user", "content": task}], max_tokens=NEW, temperature=0.8,
            min_p=0.05, seed=number)
        tokens += answer["usage"]["completion_tokens"]
    return tokens / (time.perf_counter() - started)


def timed(engine: LlamaCppEngine, requests: Sequence[Request]) -> float:
    """Tokens/s of all requests together."""
    started = time.perf_counter()
    futures: list[Future[Completion]] = engine.submit_all(requests)
    return sum(future.result().tokens for future in futures) / (time.perf_counter() - started)


def ceiling() -> float:
    """bf16 matrix-multiply rate of this machine, as tokens/s of this model at 2 FLOPs a parameter."""
    a, b = torch.randn(1024, 1536).bfloat16(), torch.randn(1536, 1536).bfloat16()
    for _ in range(3):
        a @ b
    started, rounds = time.perf_counter(), 60
    for _ in range(rounds):
        a @ b
    return 2 * 1024 * 1536 * 1536 * rounds / (time.perf_counter() - started) / (2 * PARAMETERS)


def main() -> None:
    """Measure and print."""
    slow = one_at_a_time(8)
    sampling = Sampling(max_tokens=NEW, temperature=0.8, min_p=0.05)
    requests = [Request((Message("system", CARD), Message("user", task)), sampling, seed=number, shared=1)
                for number, task in enumerate(TASKS)]
    grammar = "root ::= [A-Za-z ,.']+"
    constrained = [Request(request.messages, sampling, seed=request.seed, shared=1, grammar=grammar) for request in requests]
    with PeakMemory() as peak, LlamaCppEngine(serving_file(find_base("embedded")), sequences=32, context=512) as engine:
        timed(engine, requests[:8])  # warm
        fast, held = timed(engine, requests), timed(engine, constrained)
    top = ceiling()
    figures = {
        "rostok_tok_s": round(fast, 1), "one_at_a_time_tok_s": round(slow, 1), "vllm_tok_s": None, "ceiling_tok_s": round(top, 1),
        "ratio_one_at_a_time": round(fast / slow, 2), "ratio_vllm": None, "ceiling_fraction": round(fast / top, 3),
        "constrained_fraction": round(held / fast, 2), "adapter_switch_ms": None, "peak_mib": peak.mib,
    }
    for name, value in figures.items():
        print(f"{name:24} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
