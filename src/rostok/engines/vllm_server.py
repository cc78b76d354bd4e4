"""A vLLM server, asked at `/v1/completions` with token ids."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rostok.engines.dialects import BOTH, ChatServer, border
from rostok.engines.protocol import Completion, OnText, Request, Score
from rostok.engines.schema import check
from rostok.engines.vllm_terms import DRY_PENALTY
from rostok.engines.wire import Refusal, Wire
from rostok.errors import AdapterError, GrammarError

_versions = itertools.count()


class VllmServer(ChatServer):
    """A vLLM server, recognised by its `/version`.

    Adapters act at the scale they were trained with, or not at all. DRY, which vLLM does not have, becomes a repetition
    penalty as in the engine in this process.
    """

    kind = "vLLM server"
    tells_context = True
    leaves_out = ("dry",)

    def __init__(self, wire: Wire, model: str, card: Mapping[str, Any]) -> None:
        super().__init__(wire, model, context=int(card.get("max_model_len") or 4096), parallel=64)
        self._end: list[int] | None = None
        self._served: dict[str, str] = {}  # our name of an adapter: the server's

    async def complete(self, request: Request, on_text: OnText | None) -> Completion:
        """The completion of one request. Raises like `Engine.submit`'s future."""
        model, form = self._model(request.adapter, request.scale), _form(request)
        prompt = await self.tokenize(
            (self.template.render(request.messages) if request.messages else "") + request.prefill)
        sampling = request.sampling
        self.check_fits(len(prompt), sampling.max_tokens)
        penalty = sampling.repetition_penalty
        if sampling.dry > 0 and penalty == 1.0:
            penalty = DRY_PENALTY
        body: dict[str, Any] = {
            "model": model, "prompt": prompt, "max_tokens": sampling.max_tokens, "temperature": max(sampling.temperature, 0.0),
            "top_p": sampling.top_p, "min_p": sampling.min_p, "repetition_penalty": penalty,
            "seed": request.seed & 0x7FFFFFFF, "stop": list(sampling.stop), "stop_token_ids": await self._turn_end()}
        if form is not None:
            body["structured_outputs"] = form
        if request.logprobs:
            body["logprobs"] = 0  # of the drawn token alone
        done = await self._ask("/v1/completions", body, request, on_text)
        return Completion(done.text, done.finish, len(prompt), done.tokens, done.logprobs, done.tag)

    async def score(self, prompt: str, continuation: str, adapter: str | None, scale: float) -> Score:
        """Log-probability of the continuation after the raw prompt."""
        model = self._model(adapter, scale)
        head, whole = await self.tokenize(prompt), await self.tokenize(prompt + continuation)
        first = border(head, whole)
        self.check_fits(len(whole), 1)  # it draws one token whether it is wanted or not
        answer = await self.wire.post("/v1/completions", {
            "model": model, "prompt": whole, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0})
        told = answer["choices"][0]["prompt_logprobs"]
        logprobs = [min(0.0, float(told[i][str(token)]["logprob"])) for i, token in enumerate(whole) if i >= first]
        return Score(sum(logprobs), len(logprobs))

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of the text, with the beginning-of-sequence token where the model wants one."""
        answer = await self.wire.post("/tokenize", {"model": self.model, "prompt": text, "add_special_tokens": True})
        return [int(token) for token in answer["tokens"]]

    async def add_adapter(self, name: str, path: Path) -> None:
        """Have the server load the adapter's folder, under a name of its own for every version.

        Under the same name it would take the old one's cached prefixes for the new one's (vllm-project/vllm#42125).
        """
        if not path.exists():
            raise AdapterError(f"adapter {path} does not fit {self.name}: the folder is missing. Train it again for this base.")
        served = f"{name}-{next(_versions)}"
        try:
            await self.wire.tell("/v1/load_lora_adapter", {"lora_name": served, "lora_path": str(path.resolve())}, retries=0)
        except Refusal as refusal:
            if refusal.status == 404 and "lora" not in str(refusal).lower():
                raise AdapterError(f"the vLLM server at {self.wire.url} loads no adapters. Start it with --enable-lora and "
                                   "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1.") from None
            raise AdapterError(f"adapter {path} does not fit {self.name}: {refusal}") from None
        old = self._served.pop(name, None)
        self._served[name] = served
        if old is not None:
            await self.wire.tell("/v1/unload_lora_adapter", {"lora_name": old})

    async def remove_adapter(self, name: str) -> None:
        """Have the server forget the adapter."""
        if name not in self._served:
            raise self.no_adapter(name)
        await self.wire.tell("/v1/unload_lora_adapter", {"lora_name": self._served.pop(name)})

    async def _turn_end(self) -> list[int]:
        """The token that ends a turn in this family; a model's settings do not always name it as its end of text."""
        if self._end is None:
            tokens = (await self.tokenize(self.template.ending))[int(self.adds_bos) :]
            self._end = tokens if len(tokens) == 1 else []
        return self._end

    def _model(self, adapter: str | None, scale: float) -> str:
        """The server's name of base or adapter."""
        if adapter is None:
            return self.model
        if adapter not in self._served:
            raise self.no_adapter(adapter)
        if scale == 0.0:
            return self.model
        if scale != 1.0:
            raise AdapterError(f"a vLLM server runs an adapter at the scale it was trained with; {scale:g} is not possible. "
                               "Use 1, or llama-server.")
        return self._served[adapter]


def _form(request: Request) -> dict[str, Any] | None:
    """Grammar or schema, as the engine in this process gives them to vLLM."""
    if request.schema is not None and request.grammar is not None:
        raise GrammarError(BOTH)
    if request.schema is not None:
        check(request.schema)
        return {"json": dict(request.schema), "disable_any_whitespace": True}
    if request.grammar is not None and "::=" not in request.grammar:  # vLLM would read it as another language
        raise GrammarError("the grammar cannot be compiled: it has no rule. Write GBNF, beginning with 'root ::='.")
    return None if request.grammar is None else {"grammar": request.grammar}
