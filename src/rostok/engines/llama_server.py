"""llama-server, asked at its own `/completion` with token ids: all that the engine in this process can do, over HTTP."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rostok.engines.dialects import ChatServer, border, gbnf_of
from rostok.engines.protocol import Completion, OnText, Request, Score
from rostok.engines.speech import Speech
from rostok.engines.wire import Refusal, Wire
from rostok.errors import AdapterError, ModelError, ServerError

_FORCE = 1e4     # nats that make a token certain whatever the model thinks
_FLOOR = -104.0  # nats of the smallest float above 0; llama-server tells -3.4e38 for what is below
_TOP = 1000      # candidates of the first look for a token that cannot be drawn


class LlamaServer(ChatServer):
    """A llama-server, recognised by its `/props`.

    Its adapters are those it was started with. With a list that leaves one out, servers of different age give it scale 1
    or 0, so every request lists all of them. The keys and values of another adapter's prompt may be taken for this one's
    (ggml-org/llama.cpp#26207), so nothing is taken from the cache where there are adapters.
    """

    kind = "llama-server"
    tells_context = tells_parallel = True
    leaves_out = ()

    def __init__(self, wire: Wire, model: str, props: Mapping[str, Any], loras: Sequence[Mapping[str, Any]]) -> None:
        settings = props["default_generation_settings"]
        super().__init__(wire, model, context=int(settings["n_ctx"]), parallel=int(props.get("total_slots", 1)))
        self._files = {int(lora["id"]): Path(str(lora["path"])) for lora in loras}
        self._ids: dict[str, int] = {}

    async def complete(self, request: Request, on_text: OnText | None) -> Completion:
        """The completion of one request. Raises like `Engine.submit`'s future."""
        grammar = gbnf_of(request)
        body = self._body(request.adapter, request.scale)
        prompt = await self.tokenize(
            (self.template.render(request.messages) if request.messages else "") + request.prefill)
        self.check_fits(len(prompt), request.sampling.max_tokens)
        body |= _sampling(request) | {"prompt": prompt, "dry_penalty_last_n": self.context}
        if grammar is not None:
            body["grammar"] = grammar
        if request.logprobs:
            body |= {"n_probs": 1, "return_tokens": True}
        # A stream has no word of tokens that end inside a character, so with logprobs the text comes in one piece.
        stream = on_text is not None and not request.logprobs
        speech, last, entries = Speech(request.sampling.stop, on_text), {}, []
        cut = False
        try:
            async with self.wire.parts("/completion", body, stream=stream) as parts:
                async for last in parts:
                    entries += last.get("completion_probabilities", ())
                    if cut := speech.take(last.get("content", "")):
                        break
        except Refusal as refusal:
            raise self.translated(refusal, grammar is not None) from None
        if not last.get("stop") and not cut:
            raise ServerError(f"the answer of the llama-server at {self.wire.url} ended too soon. Is it still "
                              "running? Ask again.")
        ended = last.get("stop_type") == "eos"  # its token is counted, and is no part of the text
        drawn = int(last["tokens_predicted"]) - ended
        logprobs: list[float] = []
        if request.logprobs:
            tokens = last["tokens"][:drawn]
            logprobs = [_nats(entry) for entry in entries[:drawn]]
            if [entry["id"] for entry in entries[:drawn]] != tokens:  # without those of the stop string, or of split characters
                logprobs = await self._forced(prompt, tokens, request.adapter, request.scale)
        finish = "length" if last.get("stop_type") == "limit" and not cut else "stop"
        return Completion(speech.end(), finish, len(prompt), drawn, tuple(logprobs), request.tag)

    async def score(self, prompt: str, continuation: str, adapter: str | None, scale: float) -> Score:
        """Log-probability of the continuation after the raw prompt."""
        head, pieces = await self.tokenize(prompt), await self._pieces(prompt + continuation)
        whole = [token for token, _ in pieces]
        first = border(head, whole)
        self.check_fits(len(whole), 0)
        told = _whole_characters([piece for _, piece in pieces[first:]])
        logprobs = await self._forced(whole[:first], whole[first:], adapter, scale, told)
        return Score(sum(logprobs), len(logprobs))

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of the text, with the beginning-of-sequence token where the model wants one."""
        answer = await self.wire.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return [int(token) for token in answer["tokens"]]

    async def add_adapter(self, name: str, path: Path) -> None:
        """Give a name to an adapter that the server was started with: the one of this path, or the only one of this file name."""
        if not path.is_file():
            raise AdapterError(f"adapter {path} does not fit {self.name}: the file is missing. Train it again for this base.")
        found = [id_ for id_, file in self._files.items() if file == path or file.resolve() == path.resolve()]
        found = found or [id_ for id_, file in self._files.items() if file.name == path.name]
        if len(found) != 1:
            raise AdapterError(f"adapter {path} does not fit {self.name}: the llama-server at {self.wire.url} was not started "
                               f"with it, and cannot load one later. Start it again with `--lora {path}`.")
        self._ids[name] = found[0]

    async def remove_adapter(self, name: str) -> None:
        """Forget the name; the server keeps the adapter."""
        if self._ids.pop(name, None) is None:
            raise self.no_adapter(name)

    def _body(self, adapter: str | None, scale: float) -> dict[str, Any]:
        """What every request says about adapters and the cache."""
        if adapter is not None and adapter not in self._ids:
            raise self.no_adapter(adapter)
        if not self._files:
            return {"cache_prompt": True}
        at_work = self._ids[adapter] if adapter is not None else None
        return {"cache_prompt": False, "lora": [{"id": id_, "scale": scale if id_ == at_work else 0.0} for id_ in self._files]}

    # ── teacher forcing ─────────────────────────────────────────────────────────────────────────────────────

    async def _forced(self, prompt: Sequence[int], tokens: Sequence[int], adapter: str | None, scale: float,
                      told: Sequence[int] | None = None) -> list[float]:
        """Log-probability of every given token after those before it.

        A grammar of token ids lets the server draw just these, all in one request, and it tells the log-probabilities from
        before the grammar. It is silent about tokens that end inside a character, and fails over some of them and over
        those that end a turn: what is not told is looked up token by token.

        Args:
            told: indices of the tokens that the server will not be silent about; all, where that is not known.
        """
        told = range(len(tokens)) if told is None else told
        found: dict[int, float] = {}
        if len(told) > 1:
            body = self._body(adapter, scale) | {
                "prompt": list(prompt), "n_predict": len(tokens), "temperature": 0.0, "n_probs": 1,
                "grammar": "root ::= " + " ".join(f"<[{token}]>" for token in tokens)}
            try:
                answer = await self.wire.post("/completion", body, retries=0)
            except ServerError:
                answer = {}  # if it was more than the grammar, the next request will say so
            entries = answer.get("completion_probabilities", ())
            if [entry["id"] for entry in entries] == [tokens[i] for i in told]:
                found = dict(zip(told, map(_nats, entries), strict=True))
        for i, token in enumerate(tokens):
            if i not in found:
                found[i] = await self._looked_up([*prompt, *tokens[:i]], token, adapter, scale)
        return [found[i] for i in range(len(tokens))]

    async def _looked_up(self, prompt: Sequence[int], token: int, adapter: str | None, scale: float) -> float:
        """Log-probability of one next token."""
        body = self._body(adapter, scale) | {"prompt": list(prompt), "n_predict": 1, "temperature": 0.0}
        answer = await self.wire.post("/completion", body | {"n_probs": 1, "logit_bias": [[token, _FORCE]]})
        for entry in answer.get("completion_probabilities", ()):
            if entry["id"] == token:
                return _nats(entry)
        plain = (await self.tokenize("a"))[-1]  # the list comes with a token that is told of; the bias does not act on it
        for count in (_TOP, 1_000_000):
            answer = await self.wire.post("/completion", body | {"n_probs": count, "logit_bias": [[plain, _FORCE]]})
            for entry in answer["completion_probabilities"][0]["top_logprobs"]:
                if entry["id"] == token:
                    return _nats(entry)
        raise ModelError(f"the llama-server at {self.wire.url} does not tell the probability of token {token}. "
                         "Use a newer one.")

    async def _pieces(self, text: str) -> list[tuple[int, bytes]]:
        """The tokens of the text, each with what it writes."""
        answer = await self.wire.post("/tokenize", {"content": text, "add_special": True, "parse_special": True,
                                                    "with_pieces": True})
        return [(int(token["id"]), token["piece"].encode() if isinstance(token["piece"], str) else bytes(token["piece"]))
                for token in answer["tokens"]]


def _sampling(request: Request) -> dict[str, Any]:
    """The same chain of samplers as the engine in this process."""
    sampling = request.sampling
    return {
        "n_predict": sampling.max_tokens, "temperature": max(sampling.temperature, 0.0), "min_p": sampling.min_p,
        "top_p": sampling.top_p, "top_k": 100, "repeat_penalty": sampling.repetition_penalty, "repeat_last_n": 64,
        "dry_multiplier": sampling.dry, "dry_base": 1.75, "dry_allowed_length": 2,
        "dry_sequence_breakers": ["\n", ":", '"', "*"], "seed": request.seed & 0x7FFFFFFF, "stop": list(sampling.stop),
        "samplers": ["top_k", "penalties", "dry", "min_p", "top_p", "temperature"]}


def _whole_characters(pieces: Sequence[bytes]) -> list[int]:
    """Indices of the tokens behind which no character is cut in two."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    sure = []
    for i, piece in enumerate(pieces):
        decoder.decode(piece)
        if not decoder.getstate()[0]:
            sure.append(i)
    return sure


def _nats(entry: Mapping[str, Any]) -> float:
    return min(0.0, max(float(entry["logprob"]), _FLOOR))
