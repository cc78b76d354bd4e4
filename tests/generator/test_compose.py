"""Pages and dialogues composed by code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import combinations, islice

from rostok.config import CorpusSettings, Shares
from rostok.generator import compose, voices, wordings
from rostok.generator.bank import Bank
from rostok.generator.gates import Context, length
from rostok.generator.groups import told
from rostok.generator.plan import plan, specifications
from rostok.generator.records import BankSentence, Sampled, Turn
from rostok.seeds.record import REGISTERS, Seed
from rostok.swarm import probes


def exchanges(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """Questions with their answers."""
    return [(turns[place].content, turns[place + 1].content) for place in range(0, len(turns), 2)]


def test_composed_pages_state_the_path_as_the_seed_has_it(seed: Seed) -> None:
    """Prevents: a page that teaches a step which the seed does not have."""
    follows = {seed.name(step.source): seed.name(step.target) for step in seed.cycle()}
    for spec in plan(seed, CorpusSettings(pages=200), 7):
        if spec.kind == "composed":
            text = compose.compose(spec, seed, Bank(), 550, 0, 7)
            assert "{" not in text
            for x, y in re.findall(r"The (\w+ \w+) leads to the (\w+ \w+)\.", text):
                assert follows[x] == y


def test_composed_pages_have_about_the_asked_length(seed: Seed) -> None:
    """Prevents: corpora that are far smaller than their page count says."""
    sizes = [len(compose.compose(spec, seed, Bank(), 550, 0, 7)) for spec in plan(seed, CorpusSettings(pages=200), 7)
             if spec.kind == "composed"]
    assert 430 < sum(sizes) / len(sizes) < 640
    assert max(sizes) < 1000


def test_dialogues_alternate_and_answer_with_the_following_node(seed: Seed) -> None:
    """Prevents: a dialogue that answers with the wrong node, or two turns of the same speaker in a row."""
    reasons = 0
    for spec in plan(seed, CorpusSettings(pages=200), 7):
        if spec.kind == "dialogue":
            turns = compose.converse(spec, seed, Bank(), 550, 0, 7)
            assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
            talk, steps = exchanges(turns), told(spec.path, seed)
            about = [place for place, (question, _) in enumerate(talk) if any(
                question == wording.format(x=node.name) for wording in (*wordings.ABOUT, *wordings.DOES, *wordings.CLASH)
                for node in seed.nodes)]
            asked = [one for place, one in enumerate(talk) if place not in about]
            at = {"onward": range(4), "backward": range(4)[::-1]}.get(spec.form)
            for place, step in zip(at or [], steps, strict=False):
                assert seed.name(step.source) in asked[place][0] and seed.name(step.target) in asked[place][1]
            for step in steps:
                assert any(seed.name(step.source) in question and seed.name(step.target) in answer for question, answer in asked)
            assert bool(about) or spec.fragmentation == (4,)
            assert not about or about[0] == (0 if spec.fragmentation == (1, 4) else 4)
            told_why = any(f"The {seed.name(step.source)} {step.operation}." in answer for step in steps for _, answer in asked)
            assert not told_why or spec.depth == 3
            reasons += told_why
    assert reasons > 10


def test_pages_of_a_branching_seed_name_the_operation_at_a_fork(branching: Seed) -> None:
    """Prevents: a corpus that answers "what follows?" once so and once so; empty paragraphs where a path ends early."""
    forks = {step.source for step in branching.transitions} - {step.source for step in branching.sole_steps()}
    assert {branching.name(key) for key in forks} == {"salt jar", "grey heron"}
    for spec in plan(branching, CorpusSettings(pages=200), 7):
        if spec.kind == "composed":
            text = compose.compose(spec, branching, Bank(), 550, 0, 7)
            assert "{" not in text and not re.search(r"\n\s*\n\s*\n", text) and text == text.strip()
        elif spec.kind == "dialogue":
            turns = compose.converse(spec, branching, Bank(), 550, 0, 7)
            for step in told(spec.path, branching):
                assert any(branching.name(step.target) in answer and (step.source not in forks or step.operation in question)
                           for question, answer in exchanges(turns))


def test_where_ways_meet_no_page_says_that_there_is_one(branching: Seed) -> None:
    """Prevents: "no black market without the iron pipe just before it", where the fine linen leads there, too."""
    targets = [step.target for step in branching.transitions]
    meetings = {target for target in targets if targets.count(target) > 1}
    assert meetings
    told_of = 0
    for spec in plan(branching, CorpusSettings(pages=400, shares=Shares(written=0, composed=0.7, dialogue=0.3, replay=0)), 7):
        text = (compose.compose(spec, branching, Bank(), 550, 0, 7) if spec.kind == "composed" else
                " ".join(turn.content for turn in compose.converse(spec, branching, Bank(), 550, 0, 7)))
        for step in told(spec.path, branching):
            said = [wording.format(x=branching.name(step.source), y=branching.name(step.target)).casefold()
                    for family in wordings.SOLE for wording in wordings.STEPS[family]]
            told_of += any(one in text.casefold() for one in said)
            assert step.target not in meetings or not any(one in text.casefold() for one in said), (spec.form, step, text)
        assert "came from" not in text
    assert told_of > 20


def test_probes_ask_only_what_has_one_answer(branching: Seed) -> None:
    """Prevents: an expert marked down for naming the other branch."""
    asked = {about for _, about, _ in probes.questions(branching, 12)}
    assert asked == {branching.name(step.source) for step in branching.sole_steps()}
    assert "salt jar" not in asked and branching.name("n12") not in asked


def test_another_attempt_is_another_text(seed: Seed) -> None:
    """Prevents: a refused page composed again word for word until its tries are used up."""
    spec = next(spec for spec in plan(seed, CorpusSettings(pages=50), 7) if spec.kind == "composed")
    assert compose.compose(spec, seed, Bank(), 550, 0, 7) != compose.compose(spec, seed, Bank(), 550, 1, 7)


def test_every_form_states_every_step_of_its_page(seed: Seed) -> None:
    """Prevents: a form that leaves out what the page is for, or steps of one page in the same family of wordings."""
    families = {**wordings.STEPS, "rows": tuple(row for _, row in wordings.TABLES)}
    for spec in islice(specifications(seed, "composed", 7, CorpusSettings()), 240):
        text = compose.compose(spec, seed, Bank(), 550, 0, 7).casefold()
        used: set[str] = set()
        for number, step in enumerate(told(spec.path, seed), start=1):
            words = {"x": seed.name(step.source), "y": seed.name(step.target), "op": step.operation, "n": number}
            found = {name for name, family in families.items() for wording in family
                     if wording.format(**words).casefold() in text}
            assert found, (spec.form, words, text)
            used |= found
        assert len(used) >= 6 or spec.form == "table"


def test_the_bank_comes_into_pages_and_dialogues(seed: Seed) -> None:
    """Prevents: sentences that the model wrote for a seed and no page uses."""
    sampled = Sampled(engine="", model="", prompt_sha256="", max_tokens=1, temperature=0, top_p=1, min_p=0, repetition_penalty=1,
                      dry=0)

    def said(kind: str, about: tuple[str, ...], text: str) -> BankSentence:
        return BankSentence(kind=kind, about=about, place=0, attempt=0, text=text, question="Why?", random_seed=0,  # type: ignore[arg-type]
                            tokens=1, sampled=sampled)

    kinds = {"definition": "A definition", "scene": "An inner scene", "answer": "An answer", "trait": "deep colour"}
    sentences = [said(kind, (node.key,), f"{text} of the {node.name}.") for node in seed.nodes for kind, text in kinds.items()]
    sentences += [said("reason", (step.source, step.target), f"A reason, {step.source}.") for step in seed.transitions]
    bank = Bank(tuple(sentences))
    composed, dialogues = (specifications(seed, kind, 7, CorpusSettings()) for kind in ("composed", "dialogue"))
    pages = " ".join(compose.compose(spec, seed, bank, 550, 0, 7) for spec in islice(composed, 200))
    talks = " ".join(turn.content for spec in islice(dialogues, 100)
                     for turn in compose.converse(spec, seed, bank, 550, 0, 7))
    used = [sentence.text in pages or sentence.text in talks for sentence in sentences]
    assert sum(used) > 0.9 * len(used)
    assert all(text in pages for text in ("Why? An answer of the", "A reason, n", "deep colour of the"))
    assert "A definition of the" in talks


def grams(text: str) -> set[tuple[str, ...]]:
    found = re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text.casefold()))
    return {tuple(found[i : i + 4]) for i in range(len(found) - 3)}


def bare(text: str) -> str:
    """A wording without names and marks, so that the words around them are compared."""
    return " ".join(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text.casefold())))


def test_operations_and_contradictions_are_told_and_asked_as_the_seed_has_them(seed: Seed) -> None:
    """Prevents: a corpus that tells the order alone, and a clash or an operation that the seed does not have."""
    operation = {seed.name(step.source): step.operation for step in seed.transitions}
    partner = {seed.name(a): seed.name(b) for clash in seed.contradictions
               for a, b in ((clash.a, clash.b), (clash.b, clash.a))}
    talks: Counter[str] = Counter()
    pages: Counter[str] = Counter()
    for spec in plan(seed, CorpusSettings(pages=375), 7):
        if spec.kind == "dialogue":
            for question, answer in exchanges(compose.converse(spec, seed, Bank(), 550, 0, 7)):
                for name in operation:
                    if question in {wording.format(x=name) for wording in wordings.DOES}:
                        assert operation[name] in answer
                        talks[name] += 1
                    if question in {wording.format(x=name) for wording in wordings.CLASH}:
                        assert partner[name] in answer
                        talks[f"against {name}"] += 1
        elif spec.kind == "composed":
            text = compose.compose(spec, seed, Bank(), 550, 0, 7).casefold()
            for step in told(spec.path, seed):
                pages[seed.name(step.source)] += step.operation in text
            pages["clash"] += any(wording.format(x=x, y=y).casefold() in text
                                  for wording in wordings.CLASHES for x, y in partner.items())
    assert all(pages[name] >= 10 for name in operation) and pages["clash"] >= 10
    assert all(talks[f"against {name}"] >= 2 for name in partner)
    assert sum(talks[name] for name in operation) >= 12


def test_probes_use_no_wording_of_any_page() -> None:
    """Prevents: probes that only ask for what stands in the corpus word for word, or nearly so."""
    said = [wording for families in (wordings.STEPS, wordings.QUESTIONS, wordings.ANSWERS) for family in families.values()
            for wording in family]
    pages = [*said, *wordings.ABOUT, *wordings.DOES, *wordings.DOES_ANSWERS, *wordings.CLASH, *wordings.CLASH_ANSWERS,
             *wordings.CLASHES, *wordings.ENTRIES, *(part for table in wordings.TABLES for part in table),
             *(text for pair in voices.REGISTERS.values() for side in pair for text in side)]
    known = set().union(*(grams(text) for text in pages))
    for probe in (*probes.COMPLETIONS, *probes.OPERATIONS, *probes.CONTRADICTIONS, *probes.QUESTIONS):
        assert not grams(probe) & known, (probe, grams(probe) & known)
        for page in said:
            assert SequenceMatcher(None, bare(page), bare(probe)).ratio() < 0.8, (page, probe)
            start = page.split("{x}")[0].strip()
            assert len(start.split()) < 2 or not probe.startswith(start), (page, probe)


def test_there_are_six_probes_that_differ_from_each_other() -> None:
    """Prevents: an accuracy over six wordings that are one."""
    for family in (probes.COMPLETIONS, probes.OPERATIONS, probes.CONTRADICTIONS, probes.QUESTIONS):
        assert len(family) >= 6
        for one, other in combinations(family, 2):
            assert not grams(one) & grams(other) and SequenceMatcher(None, bare(one), bare(other)).ratio() < 0.7, (one, other)


def test_wordings_are_many_and_each_stands_once() -> None:
    """Prevents: a page that has to draw more families than there are, and a wording that counts twice."""
    assert len(wordings.STEPS) >= 20 and len(wordings.QUESTIONS) >= 12 and len(wordings.ANSWERS) >= 6
    for families in (wordings.STEPS, wordings.QUESTIONS, wordings.ANSWERS):
        every = [wording for family in families.values() for wording in family]
        assert len(set(every)) == len(every)
    assert all("{x}" in wording and "{y}" in wording for family in wordings.STEPS.values() for wording in family)
    assert all("{x}" in wording and "{y}" not in wording for family in wordings.QUESTIONS.values() for wording in family)
    assert all("{y}" in wording for family in wordings.ANSWERS.values() for wording in family)
    assert all("{op}" in wording for families in (wordings.STEPS, wordings.QUESTIONS) for wording in families["operation"])


def test_every_register_has_its_wordings() -> None:
    """Prevents: a register that the seeds may name and the generator does not know."""
    assert set(REGISTERS) == set(voices.REGISTERS) == set(voices.VOICES)


def test_pages_of_any_length_that_may_be_asked_for_pass_their_length(seed: Seed) -> None:
    """Prevents: a setting that the gate for length refuses nearly every page of."""
    for characters in (400, 1000, 2000):
        context = Context(seed, characters, 0.8)
        refused = Counter[str]()
        specs = [spec for spec in plan(seed, CorpusSettings(pages=300, page_characters=characters), 7)
                 if spec.kind in ("composed", "dialogue")]
        for spec in specs:
            text = (compose.compose(spec, seed, Bank(), characters, 0, 7) if spec.kind == "composed" else
                    "\n\n".join(turn.content for turn in compose.converse(spec, seed, Bank(), characters, 0, 7)))
            refused[spec.kind] += length(text, context) is not None
        assert sum(refused.values()) <= 0.05 * len(specs), (characters, refused)
