"""A vLLM server, held to the contract. Run by `make test-vllm`, which has vLLM's environment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM lives in an environment of its own: make test-vllm")

from rostok.config import EMBEDDED
from rostok.engines.protocol import Engine
from rostok.engines.server import ServerEngine
from rostok.models import find_base, training_folder
from tests.engines.contract import EngineContract
from tests.engines.llama_server_process import free_port

SETTINGS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a vLLM server with the embedded base, eight sequences and three adapters at once."""
    port, log = free_port(), tmp_path_factory.mktemp("vllm") / "log.txt"
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server",  # `vllm serve` wants a package of just that name
             "--model", str(training_folder(find_base(EMBEDDED))), "--host", "127.0.0.1", "--port", str(port),
             "--served-model-name", "SmolLM2-135M-Instruct", "--max-model-len", "384", "--max-num-seqs", "8", "--enforce-eager",
             "--enable-lora", "--max-loras", "3", "--max-lora-rank", "8",
             # with adapters of the vocabulary's two ends, vLLM on a CPU dies of prompt_logprobs
             "--lora-target-modules", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            env={**os.environ, **SETTINGS}, stdout=out, stderr=out)
    try:
        until = time.monotonic() + 300
        while True:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, log.read_text(errors="replace")[-3000:]
                assert time.monotonic() < until, log.read_text(errors="replace")[-3000:]
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


class TestVllmServer(EngineContract):
    """Cached prefixes and neighbours change how a product is rounded, so that no text is promised twice."""

    slots = 8
    takes_scale = False

    @pytest.fixture(scope="class")
    def engine(self, vllm_server: str) -> Iterator[Engine]:
        with ServerEngine(vllm_server, parallel=16, queue=self.queue) as engine:
            assert engine.kind == "vLLM server"
            yield engine

    @pytest.fixture(scope="class")
    def adapters(self, peft_adapters: dict[str, Path]) -> dict[str, Path]:
        return peft_adapters

    @pytest.fixture
    def another(self, vllm_server: str) -> Iterator[Engine]:
        with ServerEngine(vllm_server) as engine:
            yield engine
