"""A small run of three seeds on distinct subjects, written through the real records, as the stages leave one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rostok import __version__
from rostok.config import Settings, resolve
from rostok.embedder import Embedder
from rostok.ensemble.conversation import Ensemble, open_ensemble
from rostok.ensemble.recall.index import index
from rostok.ensemble.recall.memory import Memory
from rostok.ensemble.routing.calibrate import open_router
from rostok.generator.records import Manifest, Page, Turn
from rostok.models import Base, find_base, find_embedder
from rostok.records import append_jsonl, file_digest, write_atomic
from rostok.runs import Run
from rostok.seeds.library import Library
from rostok.seeds.record import Contradiction, Lineage, Node, Seed, Transition
from rostok.swarm.adapter_gguf import export_adapter
from rostok.swarm.records import Expert

TOPICS = {
    "The Hive That Kept Accounts": {
        "queen bee": "the queen bee lays her eggs in the wax and never leaves the hive",
        "honeycomb": "the honeycomb stores the summer in six-sided cells",
        "smoker": "the beekeeper's smoker calms the guards at the entrance",
        "nectar ledger": "the nectar ledger counts every flower the foragers have visited",
        "swarm": "the swarm hangs from the branch and waits for its scouts",
        "drone": "the drone eats and sings and is thrown out in autumn",
        "royal jelly": "royal jelly turns a common larva into a ruler",
        "winter cluster": "the winter cluster of bees shivers to keep its heart warm",
    },
    "The Clock Without a Maker": {
        "escapement": "the escapement lets time through one tooth after another",
        "mainspring": "the mainspring hides its strength in a coil of blue steel",
        "pendulum": "the pendulum swings between two walls it may not touch",
        "dial": "the dial shows the hours to everybody and understands none",
        "winding key": "the winding key gives the watchmaker's morning to the wheels",
        "brass gear": "the brass gear turns the other way and so moves its brother",
        "chime": "the chime strikes the quarter even when the room is empty",
        "loupe": "the watchmaker's loupe makes a grain of dust a mountain",
    },
    "The Bread That Remembers": {
        "sourdough": "the sourdough starter is older than the baker who feeds it",
        "oven": "the stone oven keeps yesterday's fire in its walls",
        "flour sack": "the flour sack empties itself a white handful at a time",
        "yeast": "the yeast breathes inside the dough and lifts it in the dark",
        "crust": "the crust breaks with a sound that tells whether the loaf is done",
        "rye field": "the rye field bends in the wind long before it is bread",
        "salt": "salt slows the dough down and teaches it patience",
        "kneading trough": "the kneading trough remembers every pair of hands",
    },
}
HELD_OUT_GENERAL = ("What is the boiling point of water?", "Who painted the Mona Lisa?", "How do airplanes fly?",
                    "What is a good exercise for the back?", "Why do we have leap years?",
                    "What is a telescope?")


def _seed(place: int, title: str, things: dict[str, str]) -> Seed:
    nodes = tuple(Node(key=f"n{number:02d}", name=name, gloss=gloss)
                  for number, (name, gloss) in enumerate(things.items(), start=1))
    ring = [*nodes[1:], nodes[0]]
    steps = tuple(Transition(source=a.key, operation="feeds", target=b.key, tension=0.4,
                             sentence=f"The {a.name} feeds the {b.name} and is not thanked.")
                  for a, b in zip(nodes, ring, strict=True))
    clash = Contradiction(a="n01", b="n05", sentence=f"The {nodes[0].name} wants what the {nodes[4].name} spends.")
    return Seed(
        title=title, scene=f"In the morning {nodes[0].gloss}. In the evening {nodes[3].gloss}, and nobody agrees.",
        nodes=nodes, transitions=steps, contradictions=(clash,), registers=("parable",),
        lineage=Lineage(theme="crafts", place=place, random_seed=place, model="0" * 64, rostok=__version__))


def _pages(seed: Seed) -> list[Page]:
    """Twelve pages to train on, four held out, and one of replay, which is about no seed."""
    nodes, pages = seed.nodes, []
    for number in range(16):
        one, two = nodes[number % 8], nodes[(number + 1 + number // 8) % 8]
        held_out = number % 4 == 3
        if number % 2:
            turns = (Turn(role="user", content=f"What does the {one.name} have to do with the {two.name}?"),
                     Turn(role="assistant", content=f"They say that {one.gloss}, and that {two.gloss}."))
            text = "\n\n".join(turn.content for turn in turns)
            pages.append(Page(spec=number, kind="dialogue", author="code", text=text, turns=turns,
                              held_out=held_out))
        else:
            text = f"{two.gloss.capitalize()}. Beside it {one.gloss}. The {one.name} feeds the {two.name}."
            pages.append(Page(spec=number, kind="written", author="model", text=text, held_out=held_out))
    replay = (Turn(role="user", content="What is tea?"), Turn(role="assistant", content="Tea is a hot drink."))
    text = "\n\n".join(turn.content for turn in replay)
    return [*pages, Page(spec=16, kind="replay", author="model", turns=replay, text=text)]


def write_corpus(run: Run, seed: Seed, pages: list[Page], settings: Settings) -> None:
    """The corpus folder of a seed, in place of an older one."""
    folder = run.corpora / seed.id
    (folder / "pages.jsonl").unlink(missing_ok=True)
    append_jsonl(folder / "pages.jsonl", pages)
    write_atomic(folder / "manifest.json", Manifest(
        seed=seed.id, title=seed.title, made_from="0" * 64, pages_sha256=file_digest(folder / "pages.jsonl"),
        settings=settings.corpus, model="0" * 64, rostok=__version__, pages=len(pages),
        held_out=sum(page.held_out for page in pages), characters=sum(len(page.text) for page in pages),
        by_kind={}, rejected={}, given_up=0, sampled_tokens=0, seconds=1.0).line())


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two threads that wait for each other on a busy machine take ten times as long as one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def settings() -> Settings:
    return resolve(options={"models": {"threads": 1, "context": 512}, "router": {"neighbours": 8}})


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder(find_embedder("embedded"))


@pytest.fixture(scope="session")
def held_out_general() -> tuple[str, ...]:
    """Questions about no seed that the threshold has not seen."""
    return HELD_OUT_GENERAL


@pytest.fixture(scope="session")
def base() -> Base:
    return find_base("embedded")


@pytest.fixture(scope="session")
def seeds() -> list[Seed]:
    return [_seed(place, title, things) for place, (title, things) in enumerate(TOPICS.items())]


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter that fits the embedded base and changes what it says."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(3)
    tensors = {}
    for layer in range(0, 30, 3):
        name = f"base_model.model.model.layers.{layer}.self_attn.v_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(4, 576) * 0.05
        tensors[f"{name}.lora_B.weight"] = torch.randn(192, 4) * 0.1
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}')
    export_adapter(folder, folder / "adapter.gguf", {
        "model_type": "llama", "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "hidden_size": 576, "tie_word_embeddings": True})
    return folder / "adapter.gguf"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, settings: Settings, seeds: list[Seed], base: Base,
             adapter: Path, embedder: Embedder) -> Path:
    """A finished run folder, which the tests copy: corpora, experts, memory and calibrated router."""
    run = Run(tmp_path_factory.mktemp("template") / "run")
    run.start(settings)
    library = Library(run.seeds)
    for place, seed in enumerate(seeds):
        library.admit(seed)
        write_corpus(run, seed, _pages(seed), settings)
        write_atomic(run.experts / seed.id / "adapter.gguf", adapter.read_bytes())
        append_jsonl(run.registry, [Expert(
            id=f"{base.sha256[:6]}+{place:06d}", seed=seed.id, title=seed.title, base_sha256=base.sha256,
            adapter_sha256="0" * 64, gguf_sha256=file_digest(adapter), folder=f"experts/{seed.id}")])
    index(run, seeds, embedder)
    with Memory(run.memory, embedder) as memory:
        open_router(run, settings, memory, seeds)
    return run.folder


@pytest.fixture
def ready(template: Path, tmp_path: Path) -> Run:
    """A run that can be talked to."""
    return Run(Path(shutil.copytree(template, tmp_path / "run")))


@pytest.fixture
def fresh(ready: Run) -> Run:
    """The same before its memory was built."""
    shutil.rmtree(ready.memory)
    (ready.seeds / "map.json").unlink()
    return ready


@pytest.fixture
def memory(ready: Run, embedder: Embedder) -> Iterator[Memory]:
    """The open memory of `ready`."""
    with Memory(ready.memory, embedder) as memory:
        yield memory


@pytest.fixture(scope="module")
def ensemble(template: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """An ensemble that a module's tests share, each in threads of its own."""
    run = Run(Path(shutil.copytree(template, tmp_path_factory.mktemp("shared") / "run")))
    with open_ensemble(run, settings, max_tokens=8) as ensemble:
        yield ensemble
