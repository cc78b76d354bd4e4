"""The one configuration model. Profile < YAML file < command line; the resolved result is saved beside what it made.

    theme: lighthouses and the people who keep them
    author: {count: 8, nodes: 12}
    corpus: {pages: 500}
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from rostok.errors import ConfigError
from rostok.records import Record

EMBEDDED = "embedded"


class ModelSettings(Record):
    """Which models a run uses. `embedded` is what ships inside the installed packages."""

    base: str = Field(EMBEDDED, description="`embedded`, a GGUF file, a local folder, or a Hugging Face id")
    embedder: str = Field(EMBEDDED, description="`embedded`, a local sentence-transformers folder, or a Hugging Face id")
    engine: Literal["llama.cpp", "vllm", "server"] = Field(
        "llama.cpp", description="what runs the base: llama.cpp or vLLM in this process, or a server at models.server")
    server: str = Field("", description="address of an OpenAI-compatible server, such as http://127.0.0.1:8080/v1")
    threads: int = Field(0, ge=0, description="threads of the engine; 0 takes all cores this process may use")
    sequences: int = Field(64, ge=1, le=256, description="completions in flight at once, if the memory holds so many")
    context: int = Field(1024, ge=256, description="tokens of one sequence: prompt and completion together")

    @model_validator(mode="after")
    def _name_the_server(self) -> Self:
        if (self.engine == "server") != bool(self.server):
            raise ValueError("engine: server needs models.server=http://…, and models.server needs models.engine=server")
        return self


class AuthorSettings(Record):
    """How many seeds the agents write, and how hard they try."""

    count: int = Field(4, ge=1, le=1_000_000)
    nodes: int = Field(12, ge=8, le=20, description="nodes of one seed; chance of a probe is 1/(nodes-1)")
    candidates: int = Field(3, ge=1, le=32, description="best of so many for every field")
    batch: int = Field(16, ge=1, description="seeds drafted side by side before they are admitted")
    language: str = Field("en", pattern="^[a-z]{2}$", description="of the seeds: en, ru, or any with a file in agents/languages")
    deepen: int = Field(0, ge=0, le=20, description="questions that every seed is asked, to raise its tension")
    attempts: int = Field(4, ge=1, description="fresh drafts for one place in the library before it stays empty")


class Shares(Record):
    """Which part of a corpus is of which kind; they add up to 1."""

    written: float = Field(0.12, ge=0, le=1, description="by the model, from the seed's card")
    composed: float = Field(0.29, ge=0, le=1, description="by code, from the model's sentences and the seed's graph")
    dialogue: float = Field(0.29, ge=0, le=1, description="questions and answers in the base's chat template")
    rewritten: float = Field(0.0, ge=0, le=1, description="by the model, an accepted page in another form")
    replay: float = Field(0.30, ge=0, le=1, description="the base's own answers to general questions")

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = self.written + self.composed + self.dialogue + self.rewritten + self.replay
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the five shares must add up to 1, not {total:g}")
        if self.rewritten and not self.written + self.composed:
            raise ValueError("rewritten pages need written or composed ones that they rewrite")
        return self


class CorpusSettings(Record):
    """What a corpus holds, and when a page is refused."""

    pages: int = Field(200, ge=20, le=100_000)
    page_characters: int = Field(550, ge=350, le=2000)  # six steps do not fit into less, what a seed says does not fill more
    shares: Shares = Field(default_factory=lambda: Shares())  # type: ignore[call-arg]  # all fields have defaults
    depth: int = Field(3, ge=1, le=3, description="1 the seed's scene, 2 also scenes inside it, 3 also scenes inside those")
    written_forms: tuple[Literal["prose", "question and answer", "instructions"], ...] = Field(
        ("prose",), min_length=1, description="forms asked of the model; the embedded base writes prose whatever is asked")
    bank: int = Field(1, ge=0, le=20, description="sentences of each kind that the model writes beforehand per node and step")
    held_out: float = Field(0.08, gt=0, lt=0.5, description="share of pages that no expert is trained on")
    tries: int = Field(4, ge=1, le=20, description="fresh samples for one page before its plan line is given up")
    near_duplicate: float = Field(0.8, ge=0.6, le=1, description=(
        "Jaccard similarity on word 5-grams that is too near; not below 0.6, where the index begins to miss pairs"))


class SchoolSettings(Record):
    """What all experts of a run have read before their own corpus: pages about drills, which are seeds made by code."""

    drills: int = Field(4, ge=0, le=100, description="whose pages the school reads; 0 lets every expert begin from nothing")
    pages: int = Field(215, ge=20, le=10_000, description="of each drill, replay included")
    replay: float = Field(0.3, ge=0, lt=1, description="share of them that are the base's own answers to general questions")
    learning_rate: float = Field(2e-3, gt=0, description="of the school itself; experts take training.learning_rate")


class TrainingSettings(Record):
    """The QLoRA recipe. The defaults were found as docs/experiments.md tells."""

    rank: int = Field(16, ge=1, le=512)
    alpha: int = Field(32, ge=1)
    learning_rate: float = Field(1e-3, gt=0, description="of an expert that begins from the school; from nothing 2e-3 is better")
    warmup_steps: int = Field(8, ge=0)
    decay_share: float = Field(0.15, ge=0, le=1, description="last part of the steps, in which the rate falls to 0")
    epochs: float = Field(1.0, gt=0, le=100)
    pages_per_step: int = Field(4, ge=1)
    max_tokens: int = Field(320, ge=32, description="a page longer than this is cut for training")
    clip: float = Field(1.0, gt=0)
    layers: int | str = Field("all", description="layers that carry the adapter: all, or the last so many")
    stop_loss: float = Field(0.0, ge=0, description="end early once the mean loss of 8 steps is below it, in nats a token")
    objective: Literal["next-token", "distillation", "mixture"] = Field(
        "next-token", description="predict the pages, or do as the base does that has read the seed's card, or both")
    distillation_weight: float = Field(0.5, ge=0, le=1, description="share of a mixture's loss that is distillation")
    trainer: Literal["fused", "trl"] = Field(
        "fused", description="many experts in one step, or trl's SFTTrainer one after the other, the reference")
    together: int = Field(8, ge=1, le=256, description="experts that the fused trainer trains at once")

    @field_validator("layers", mode="before")
    @classmethod
    def _count_layers(cls, layers: object) -> object:
        if layers == "all" or (isinstance(layers, int) and not isinstance(layers, bool) and layers >= 1):
            return layers
        raise ValueError("give all, or how many of the last layers, 1 or more")

    @model_validator(mode="after")
    def _distil_in_the_fused_step(self) -> Self:
        if self.trainer == "trl" and self.distils:
            raise ValueError(f"the reference (trl) trains next-token only; objective: {self.objective} needs trainer: fused")
        return self

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed, which reads the seed's card."""
        return self.objective != "next-token"

    @property
    def teacher_share(self) -> float:
        """Share of the loss that is distillation."""
        return {"next-token": 0.0, "distillation": 1.0, "mixture": self.distillation_weight}[self.objective]

    @property
    def last_layers(self) -> int | None:
        """How many of the last layers carry the adapter; None is all."""
        return self.layers if isinstance(self.layers, int) else None

    def recipe(self) -> dict[str, Any]:
        """What an expert depends on: all but `together`, since an expert is the same in any company, and but a weight that
        its objective does not look at. Next-token goes unsaid, as in the recipes from before there was a choice."""
        unsaid = {"next-token": {"objective", "distillation_weight"}, "distillation": {"distillation_weight"}, "mixture": set()}
        return self.model_dump(mode="json", exclude={"together", *unsaid[self.objective]})


class SwarmSettings(Record):
    """Where experts are trained, and how often their training is put on disk. Nothing in an expert depends on it."""

    executor: Literal["local", "ray"] = Field("local", description="workers on this machine, or on a Ray cluster")
    address: str = Field("", description="of the Ray cluster, such as 10.0.0.5:6379; empty begins one on this machine")
    cpus: float = Field(2, gt=0, description="processors that a worker on the cluster takes")
    gpus: float = Field(0, ge=0, description="GPUs that a worker on the cluster takes")
    checkpoint_seconds: float = Field(120, ge=1, description="longest time between two checkpoints of an expert in training")
    checkpoint_steps: int = Field(0, ge=0, description="checkpoint every so many steps as well; 0 goes by time alone")


class ProbeSettings(Record):
    """How much of every seed is asked for after training."""

    chat_nodes: int = Field(6, ge=1, description="nodes of a seed asked for in the chat template, per wording")
    matrix_pages: int = Field(8, ge=1, description="held-out pages of a corpus that one cell of the matrix reads")
    others: int = Field(12, ge=0, description="other seeds that every expert is measured on; drawn when there are more")
    general: int = Field(12, ge=2, le=32, description="held-out general questions, for what the expert has forgotten")


StrategyName = Literal["evidence", "nearest", "arrow", "classifier", "tfidf", "keyword", "random"]
Mixing = Literal["one", "adapters", "tokens", "judge"]


class RouterSettings(Record):
    """How a question finds its expert."""

    strategy: StrategyName = Field("evidence", description="how the seeds are weighed against each other: docs/routing.md")
    neighbours: int = Field(16, ge=1, description="pages looked at for one question")
    nucleus: float = Field(0.9, gt=0, le=1, description="the fewest nearest neighbours that hold this share of the votes vote")
    temperature: float = Field(0.05, gt=0, description="of the soft-max over cosine similarities")
    keep: float = Field(0.95, gt=0, lt=1, description="share of the corpora's own sentences that must not be abstained")
    reject: float = Field(0.96, gt=0, lt=1, description="share of general questions to abstain from, where keep allows it")
    memories: int = Field(2, ge=0, le=8, description="remembered texts that an answer may read")


class EnsembleSettings(Record):
    """Who speaks, and what may lie in memory meanwhile."""

    mixing: Mixing = Field("one", description="one expert at full weight; several by weighted adapters, by their next-token "
                                              "distributions (tokens), or each answering and a judge choosing")
    experts: int = Field(2, ge=1, le=3, description="that speak together where mixing is not one")
    hot_mib: int = Field(160, ge=1, description="adapters that the engine keeps in memory at once, by their files' size")
    retrieval: bool = Field(True, description="whether an answer reads the nearest pages of its seed, and the memory")
    recall_all: bool = Field(False, description="whether words of other conversations are recalled too; notes always are")
    turn_half_life: float = Field(30, ge=0, description="days without use that halve the score of something said; 0: never")
    note_half_life: float = Field(365, ge=0, description="the same of a note")
    sequences: int = Field(16, ge=1, le=256, description="answers in the making at once under rostok serve")
    language: Literal["en", "ru"] = Field("en", description="of the interface of rostok chat and of the page")


class Settings(Record):
    """Everything a run depends on."""

    profile: Literal["demo", "night"] = "demo"
    theme: str = ""
    language: Literal["en"] = "en"
    random_seed: int = Field(7, ge=0, lt=2**31)
    tracking: Literal["none", "mlflow"] = Field("none", description="where the figures of every expert go, beside figures.json")
    models: ModelSettings = Field(default_factory=lambda: ModelSettings())  # type: ignore[call-arg]
    author: AuthorSettings = Field(default_factory=lambda: AuthorSettings())  # type: ignore[call-arg]
    corpus: CorpusSettings = Field(default_factory=lambda: CorpusSettings())  # type: ignore[call-arg]
    school: SchoolSettings = Field(default_factory=lambda: SchoolSettings())  # type: ignore[call-arg]
    training: TrainingSettings = Field(default_factory=lambda: TrainingSettings())  # type: ignore[call-arg]
    swarm: SwarmSettings = Field(default_factory=lambda: SwarmSettings())  # type: ignore[call-arg]
    probes: ProbeSettings = Field(default_factory=lambda: ProbeSettings())  # type: ignore[call-arg]
    router: RouterSettings = Field(default_factory=lambda: RouterSettings())  # type: ignore[call-arg]
    ensemble: EnsembleSettings = Field(default_factory=lambda: EnsembleSettings())  # type: ignore[call-arg]

    @field_validator("theme")
    @classmethod
    def _say_something(cls, theme: str) -> str:
        theme = " ".join(theme.split())
        unseen = next((letter for letter in theme if unicodedata.category(letter) in ("Cc", "Cf", "Co")), None)
        if unseen is not None and unseen not in "\u200d\ufe0f":  # which join emoji
            raise ValueError(f"the theme holds the control character U+{ord(unseen):04X}; leave it out")
        if not any(letter.isalpha() for letter in theme):
            what = "holds no letters" if theme.strip() else "is empty"
            raise ValueError(f'the theme {what}; give one in words, for example --theme "lighthouses and their keepers"')
        if len(theme) > 300:
            raise ValueError(f"the theme has {len(theme)} characters; 300 are enough for one")
        return theme


_SHOWN = 80  # characters of a refused value that are said again

PROFILES: dict[str, dict[str, Any]] = {
    "demo": {
        "theme": "a harbour town and the sea that feeds it",
        "author": {"count": 4},
        "corpus": {"pages": 200},
        "school": {"drills": 2, "pages": 200},  # of four experts it may take a third of the time
        "training": {"learning_rate": 2e-3},    # of 25,000 tokens 1e-3 learns too little (docs/experiments.md)
    },
    "night": {
        "theme": "a harbour town and the sea that feeds it",
        "author": {"count": 100},
        "corpus": {"pages": 1000},
    },
}


def resolve(
    *,
    profile: str | None = None,
    file: Path | None = None,
    saved: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    assignments: Iterable[str] = (),
) -> Settings:
    """The settings of a run.

    Args:
        profile: a name in `PROFILES`; with `saved`, None keeps what was saved.
        file: a YAML file over the profile.
        saved: the resolved settings of an existing run, which take the profile's place.
        options: nested values from the command line; None values are left out.
        assignments: `section.key=value` lines from `--set`, values read as YAML.

    Raises:
        ConfigError: unknown profile or key (with the nearest known one), or a value that does not fit.
    """
    if profile is not None and profile not in PROFILES:
        raise ConfigError(f"there is no profile '{profile}'{_nearest(profile, PROFILES)}. Known: {', '.join(PROFILES)}.")
    if saved is not None and profile in (None, saved.get("profile")):
        values = dict(saved)
    else:
        name = profile or "demo"
        values = {"profile": name, **PROFILES[name]}
    if file is not None:
        values = _merge(values, _read_yaml(file))
    values = _merge(values, _without_none(options or {}))
    for assignment in assignments:
        values = _merge(values, _assignment(assignment))
    _refuse_unknown(values, Settings)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in item["loc"])
        reason = item["msg"].removeprefix("Value error, ")
        shown = repr(item["input"])
        shown = f"{shown[:_SHOWN]}…" if len(shown) > _SHOWN else shown
        given = "" if isinstance(item["input"], dict | BaseModel) else f" (given: {shown})"
        raise ConfigError(f"setting '{where}': {reason}{given}.") from None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {file}. Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not valid YAML: {' '.join(str(error).split())}. Mend that line.") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{file} must hold keys and values, such as 'theme: …', not a {type(loaded).__name__}.")
    return loaded


def _assignment(text: str) -> dict[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set takes section.key=value, for example --set corpus.pages=300, not '{text}'.")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}: '{value}' is not a value that YAML can read.") from None
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return dict(nested)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for key, value in values.items():
        inner = _without_none(value) if isinstance(value, Mapping) else value
        if inner is not None and inner != {}:
            kept[key] = inner
    return kept


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def _refuse_unknown(values: Mapping[str, Any], model: type[BaseModel], path: str = "") -> None:
    for key, value in values.items():
        field = model.model_fields.get(str(key))
        if field is None:
            hint = _nearest(str(key), model.model_fields)
            raise ConfigError(f"unknown setting '{path}{key}'{hint or '. Known: ' + ', '.join(model.model_fields) + '.'}")
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if not isinstance(value, Mapping | BaseModel):
                raise ConfigError(f"setting '{path}{key}' holds keys and values ({', '.join(inner.model_fields)}).")
            if isinstance(value, Mapping):
                _refuse_unknown(value, inner, f"{path}{key}.")
