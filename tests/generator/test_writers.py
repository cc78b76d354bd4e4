"""What the model is asked for, and what is made of its answer."""

from __future__ import annotations

from itertools import islice

from rostok.config import CorpusSettings
from rostok.generator import writers
from rostok.generator.groups import told
from rostok.generator.plan import specifications
from rostok.generator.records import PageSpec
from rostok.seeds.record import Seed

SETTINGS = CorpusSettings(written_forms=("prose", "question and answer", "instructions"))


def test_a_prompt_names_its_steps_and_shares_its_brief(seed: Seed) -> None:
    """Prevents: pages whose prompts differ in their beginning, so that the engine computes it again for each."""
    specs = list(islice(specifications(seed, "written", 7, SETTINGS), 60))
    asked = [writers.request(spec, seed, 550, 1) for spec in specs]
    assert len({request.messages[0].content for request in asked}) == 1 and all(request.shared == 1 for request in asked)
    for spec, request in zip(specs, asked, strict=True):
        task = request.messages[1].content
        assert all(seed.name(key) in task for step in told(spec.path, seed) for key in (step.source, step.target))
        assert "{" not in task
    assert len({request.messages[1].content for request in asked}) > 50


def test_a_longer_page_may_take_more_tokens(seed: Seed) -> None:
    """Prevents: a page length that only the gates know of, so that they refuse every page as too short."""
    spec = next(specifications(seed, "written", 7, SETTINGS))
    short, long = (writers.request(spec, seed, characters, 1).sampling.max_tokens for characters in (550, 1100))
    assert short == 170 and long == 340


def test_a_page_ends_with_its_last_whole_sentence(seed: Seed) -> None:
    """Prevents: pages cut off in the middle of a sentence, and a rewriting that has lost the words it was begun with."""
    spec = PageSpec(number=3, kind="rewritten", form="instructions", source=1, path=("n01", "n06"))
    request = writers.request(spec, seed, 550, 1, "The gate was open.")
    assert request.messages[0].content.startswith("The gate was open.\n\n")
    assert writers.page(spec, request, "Open the gate.\n2. Take the ro") == ("1. Open the gate.", ())
    replay = PageSpec(number=4, kind="replay", form="chat", variant=2)
    text, turns = writers.page(replay, writers.request(replay, seed, 550, 1), "Paris. It lies on the")
    assert text == "Paris." and [turn.role for turn in turns] == ["user", "assistant"]


def test_a_rewriting_that_changes_the_order_of_things_is_refused(seed: Seed) -> None:
    """Prevents: a page that teaches a step which the seed does not have."""
    step, other = seed.walk()[0], seed.walk()[5]
    x, y, z = seed.name(step.source), seed.name(step.target), seed.name(other.target)
    assert writers.another_order(f"The {x} stood there. Then came the {y}, and after the {x} the {y}.", seed) is None
    assert writers.another_order(f"The {x} is old.\nThe {z} is new.", seed) is None
    assert writers.another_order(f"The {x} leads to the {z}.", seed) == ("another order", f"{x}, {z}")
