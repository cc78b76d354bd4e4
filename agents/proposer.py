"""The proposer: draws what a seed is about, from taxonomies and from what the library lacks, and a place and a person for it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from rostok.agents import checks
from rostok.agents.draft import Blank, Desk, Draft, Field
from rostok.engines.protocol import Sampling
from rostok.records import stable_seed
from rostok.seeds.record import REGISTERS, Seed


def propose(desk: Desk, place: int, attempt: int) -> Draft:
    """A fresh draft: attributes, registers and the order of the nodes, all drawn by code."""
    draft: Draft = {"place": place, "attempt": attempt, "field": 0, "round": 0, "problem": "", "tokens": 0, "candidates": [],
                    "retries": {}, "refused": {}}
    dice, admitted = desk.dice(draft, "proposal"), desk.admitted()
    language = desk.language
    order = list(range(desk.settings.nodes))
    dice.shuffle(order)
    attributes = {"subject": _subject(desk, place, attempt, admitted)}
    for name, values in (("hour", language.hours), ("weather", language.weathers), ("mood", language.moods),
                         ("event", language.events)):
        attributes[name] = lacking(values, [seed.lineage.attributes.get(name, "") for seed in admitted], dice)
    return {**draft, "attributes": attributes, "order": order, "registers": dice.sample(REGISTERS, 5)}


def lacking(values: Sequence[str], used: Sequence[str], dice: random.Random) -> str:
    """One of the values that the library has least of."""
    counts = Counter(used)
    fewest = min(counts[value] for value in values)
    return dice.choice([value for value in values if counts[value] == fewest])


def _subject(desk: Desk, place: int, attempt: int, admitted: Sequence[Seed]) -> str:
    """A subject of its own for every place, so that drafts side by side differ; after a failure another that is still free."""
    subjects = list(desk.language.subjects)
    random.Random(stable_seed(desk.random_seed, "subjects")).shuffle(subjects)
    if attempt == 0:
        return subjects[place % len(subjects)]
    used = {seed.lineage.attributes.get("subject") for seed in admitted}
    free = [subject for subject in subjects if subject not in used] or subjects
    return free[stable_seed(desk.random_seed, place, attempt, "subject") % len(free)]


def _setting_blanks(desk: Desk, draft: Draft) -> list[Blank]:
    say, dice = desk.language.say, desk.dice(draft, "setting", draft["round"])
    line = Sampling(max_tokens=40, temperature=0.95, stop=("\n",))
    blanks = []
    for key, label in (("place", say.places), ("person", say.people)):
        if key in draft["attributes"]:
            continue
        shown = [say.list_line.format(subject=example.subject, label=label,
                                      items=example.places if key == "place" else example.people)
                 for example in desk.language.shown(dice, 3)]
        ask = say.list_ask.format(subject=draft["attributes"]["subject"], label=label)
        blanks.append(Blank(key, "\n".join([*shown, ask]), line, 3 * desk.settings.candidates, raw=True,
                            grammar=desk.language.names_grammar))
    return blanks


def _fill_setting(desk: Desk, draft: Draft, candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    chosen, dice = dict(draft["attributes"]), desk.dice(draft, "setting", "choice")
    avoid = {item for example in desk.language.examples for text in (example.places, example.people) for item in text.split(", ")}
    avoid |= desk.theme_pairs()
    for name in ("place", "person"):
        avoid |= {seed.lineage.attributes.get(name, "") for seed in desk.admitted()}
    for key, blank in zip([key for key in ("place", "person") if key not in chosen], candidates, strict=True):
        items = items_of(desk, blank, avoid=avoid, counts=counts)
        if items:
            chosen[key] = dice.choice(items)
    return {**draft, "attributes": chosen}, "place" in chosen and "person" in chosen


def items_of(desk: Desk, texts: Sequence[str], *, avoid: set[str], counts: Counter[str]) -> list[str]:
    """Names from lists that the model has written, without those that fail a check."""
    good: dict[str, None] = {}
    for text in texts:
        for item in text.strip().rstrip(".").split(","):
            name = item.strip()
            reason = checks.name_problem(desk.language, name, is_common=desk.is_common, taken=set(), avoid=avoid)
            if reason is None:
                good[name] = None
            else:
                counts[reason] += 1
    return list(good)


FIELDS = (Field("setting", "proposer", _setting_blanks, _fill_setting),)
