"""Pages and dialogues composed by code."""

from __future__ import annotations

import re

from rostok.config import CorpusSettings
from rostok.generator import compose, wordings
from rostok.generator.plan import plan
from rostok.seeds.record import REGISTERS, Seed
from rostok.swarm import probes


def test_composed_pages_state_the_path_as_the_seed_has_it(seed: Seed) -> None:
    """Prevents: a page that teaches a step which the seed does not have."""
    follows = {seed.name(step.source): seed.name(step.target) for step in seed.cycle()}
    for spec in plan(seed, CorpusSettings(pages=200), 7):
        if spec.kind == "composed":
            text = compose.compose(spec, seed, 550, 0, 7)
            assert "{" not in text
            for x, y in re.findall(r"The (\w+ \w+) leads to the (\w+ \w+)\.", text):
                assert follows[x] == y


def test_composed_pages_have_about_the_asked_length(seed: Seed) -> None:
    """Prevents: corpora that are far smaller than their page count says."""
    sizes = [len(compose.compose(spec, seed, 550, 0, 7)) for spec in plan(seed, CorpusSettings(pages=200), 7)
             if spec.kind == "composed"]
    assert 430 < sum(sizes) / len(sizes) < 640
    assert max(sizes) < 1000


def test_dialogues_alternate_and_answer_with_the_following_node(seed: Seed) -> None:
    """Prevents: a dialogue that answers with the wrong node, or two turns of the same speaker in a row."""
    for spec in plan(seed, CorpusSettings(pages=200), 7):
        if spec.kind == "dialogue":
            turns = compose.converse(spec, seed, 550, 0, 7)
            assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
            for k, key in enumerate(spec.path[1:]):
                assert seed.name(key) in turns[2 * k + 1].content


def test_pages_of_a_branching_seed_name_the_operation_at_a_fork(branching: Seed) -> None:
    """Prevents: a corpus that answers "what follows?" once so and once so; empty paragraphs where a path ends early."""
    forks = {step.source for step in branching.transitions} - {step.source for step in branching.sole_steps()}
    assert {branching.name(key) for key in forks} == {"salt jar", "grey heron"}
    for spec in plan(branching, CorpusSettings(pages=200), 7):
        if spec.kind == "composed":
            text = compose.compose(spec, branching, 550, 0, 7)
            assert "{" not in text and not re.search(r"\n\s*\n\s*\n", text) and text == text.strip()
        elif spec.kind == "dialogue":
            turns = compose.converse(spec, branching, 550, 0, 7)
            for k, key in enumerate(spec.path[:-1]):
                assert branching.name(spec.path[k + 1]) in turns[2 * k + 1].content
                if key in forks:
                    steps = {step.target: step.operation for step in branching.transitions if step.source == key}
                    assert steps[spec.path[k + 1]] in turns[2 * k].content


def test_probes_ask_only_what_has_one_answer(branching: Seed) -> None:
    """Prevents: an expert marked down for naming the other branch."""
    asked = {about for _, about, _ in probes.questions(branching, 12)}
    assert asked == {branching.name(step.source) for step in branching.sole_steps()}
    assert "salt jar" not in asked and branching.name("n12") not in asked


def test_another_attempt_is_another_text(seed: Seed) -> None:
    """Prevents: a refused page composed again word for word until its tries are used up."""
    spec = next(spec for spec in plan(seed, CorpusSettings(pages=50), 7) if spec.kind == "composed")
    assert compose.compose(spec, seed, 550, 0, 7) != compose.compose(spec, seed, 550, 1, 7)


def test_probes_use_no_wording_of_any_page() -> None:
    """Prevents: probes that only ask for what stands in the corpus word for word."""
    def grams(text: str) -> set[tuple[str, ...]]:
        found = re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text.casefold()))
        return {tuple(found[i : i + 4]) for i in range(len(found) - 3)}

    pages = [*wordings.STEPS, *wordings.QUESTIONS, *wordings.ANSWERS, *wordings.ABOUT,
             *(text for pair in wordings.REGISTERS.values() for side in pair for text in side)]
    known = set().union(*(grams(text) for text in pages))
    for probe in (*probes.COMPLETIONS, *probes.QUESTIONS):
        assert not grams(probe) & known, probe
        assert not any(page.split("{x}")[0].strip() and probe.startswith(page.split("{x}")[0]) for page in wordings.QUESTIONS)


def test_every_register_has_its_wordings() -> None:
    """Prevents: a register that the seeds may name and the generator does not know."""
    assert set(REGISTERS) == set(wordings.REGISTERS) == set(wordings.WRITTEN_FORMS)
