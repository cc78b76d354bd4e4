"""The roles of the author and what each of them does to a draft.

A draft is a plain dict (LangGraph checkpoints plain values only). The proposer draws attributes and structure; the
writer makes candidates for one field at a time; the critic checks them in code, ranks those that pass by
log-likelihood, and keeps the best; the librarian admits a finished draft or quarantines it with a reason.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rostok import __version__
from rostok.agents import checks, prompts
from rostok.config import AuthorSettings
from rostok.embedder import Embedder
from rostok.engines.protocol import Engine, Message, Request, Sampling
from rostok.errors import RostokError
from rostok.records import stable_seed
from rostok.seeds.record import REGISTERS, Contradiction, Lineage, Node, Seed, Transition

Draft = dict[str, Any]
FIELDS = ("setting", "names", "title", "scene", "glosses", "operations", "steps", "clashes")
ROUNDS = 6  # fresh samples for a field before the draft is given up


@dataclass(frozen=True)
class Team:
    """What the roles share: the model, the embedder, and how hard to try."""

    engine: Engine
    embedder: Embedder
    settings: AuthorSettings
    theme: str
    random_seed: int
    model_sha256: str

    # ── proposer ────────────────────────────────────────────────────────────────────────────────────────────

    def propose(self, place: int, attempt: int) -> Draft:
        """A fresh draft: attributes and the order of the nodes, drawn by code."""
        dice = self._dice(place, attempt, "proposal")
        order = list(range(self.settings.nodes))
        dice.shuffle(order)
        return {
            "place": place, "attempt": attempt, "field": 0, "round": 0, "problem": "", "tokens": 0,
            "attributes": {"hour": prompts.HOURS[place % len(prompts.HOURS)], "weather": dice.choice(prompts.WEATHERS),
                           "mood": dice.choice(prompts.MOODS)},
            "order": order,
            "registers": dice.sample(REGISTERS, 5),
            "candidates": [],
        }

    # ── writer ──────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, draft: Draft) -> Draft:
        """Candidates for the draft's current field: a list of lists of texts, one list for every blank to fill."""
        requests = self._requests(draft)
        futures = self.engine.submit_all([request for blank in requests for request in blank])
        done = iter([future.result() for future in futures])
        candidates = [[(request.prefill if request.messages else "") + next(done).text for request in blank]
                      for blank in requests]
        tokens = sum(future.result().tokens for future in futures)
        return {**draft, "candidates": candidates, "tokens": draft["tokens"] + tokens}

    def _requests(self, draft: Draft) -> list[list[Request]]:
        field = FIELDS[draft["field"]]
        blanks: list[tuple[str, str, str, Sampling, str | None]] = []  # key, user or raw prompt, prefill, sampling, grammar
        dice = self._dice(draft["place"], draft["attempt"], field, draft["round"])
        shown = prompts.examples(dice)
        line = Sampling(max_tokens=40, temperature=0.95, stop=("\n",))
        sentence = Sampling(max_tokens=44, temperature=0.8, min_p=0.08)
        attributes = draft["attributes"]
        count = self.settings.candidates
        if field == "setting":
            count *= 3
            for label, key in (("Places", "places"), ("People", "people")):
                blanks.append((key, prompts.listing(label, self.theme, shown, key), "", line, prompts.NAMES_GRAMMAR))
        elif field == "names":
            count *= 2
            for kind in dice.sample(prompts.KINDS, 5):
                text = prompts.things(kind, attributes["place"], self.theme, prompts.examples(dice))
                blanks.append((kind, text, "", Sampling(max_tokens=30, temperature=1.0, stop=("\n",)), prompts.NAMES_GRAMMAR))
        elif field == "title":
            text = prompts.title(attributes["place"], attributes["person"], attributes["mood"], shown)
            count *= 2
            blanks.append((field, text, "", Sampling(max_tokens=12, temperature=0.9, stop=("\n", '"')), None))
        elif field == "scene":
            count *= 2
            blanks.append((field, prompts.scene(self.theme, attributes, draft["names"]), "",
                           Sampling(max_tokens=150, temperature=0.8, min_p=0.08), None))
        elif field == "glosses":
            for name in (draft["names"][index] for index in self._open(draft)):
                blanks.append((name, prompts.gloss(name, attributes), f"The {name}", sentence, prompts.SENTENCE_GRAMMAR))
        elif field == "operations":
            count *= 3
            for index in self._open(draft):
                blanks.append((str(index), prompts.deed(draft["names"][index], prompts.examples(dice, 5)), "",
                               Sampling(max_tokens=4, temperature=1.0, stop=("\n", ".")), None))
        elif field == "steps":
            for index in self._open(draft):
                source, operation, target = self._step(draft, index)
                blanks.append((source, prompts.step(source, operation, target, attributes),
                               f"The {source} {operation} the {target}", sentence, prompts.SENTENCE_GRAMMAR))
        else:
            for a, b in self._opposites(draft):
                blanks.append((a, prompts.clash(a, b, attributes), f"The {a} and the {b} cannot both", sentence,
                               prompts.SENTENCE_GRAMMAR))
        made = []
        for key, text, prefill, sampling, grammar in blanks:
            raw = field in ("setting", "names", "title", "operations")
            made.append([
                Request(() if raw else (Message("user", text),), sampling, prefill=text if raw else prefill, grammar=grammar,
                        seed=stable_seed(self.random_seed, draft["place"], draft["attempt"], field, draft["round"], key, k))
                for k in range(count)
            ])
        return made

    # ── critic ──────────────────────────────────────────────────────────────────────────────────────────────

    def criticise(self, draft: Draft) -> Draft:
        """Check the candidates in code, rank those that pass, keep the best; go on, try afresh, or give up."""
        field = FIELDS[draft["field"]]
        counts: Counter[str] = Counter()
        fill: Callable[[Draft, Counter[str]], tuple[Draft, bool]] = getattr(self, f"_fill_{field}")
        filled, whole = fill({**draft, "candidates": draft["candidates"]}, counts)
        after = {**filled, "candidates": []}
        if whole:
            return {**after, "field": draft["field"] + 1, "round": 0}
        if draft["round"] + 1 >= ROUNDS:
            worst = ", ".join(f"{reason} {number}×" for reason, number in counts.most_common(3)) or "nothing came"
            return {**after, "problem": f"{field}: no candidate passed ({worst})"}
        return {**after, "round": draft["round"] + 1}

    def _fill_setting(self, draft: Draft, counts: Counter[str]) -> tuple[Draft, bool]:
        dice = self._dice(draft["place"], draft["attempt"], "setting")
        chosen = dict(draft["attributes"])
        avoid = {item for example in prompts.EXAMPLES for text in (example.places, example.people) for item in text.split(", ")}
        avoid |= self._theme_pairs()
        for key, blank in zip(("place", "person"), draft["candidates"], strict=True):
            items = self._items(blank, avoid=avoid, taken=set(), counts=counts)
            if key not in chosen and items:
                chosen[key] = dice.choice(items)
        return {**draft, "attributes": chosen}, "place" in chosen and "person" in chosen

    def _fill_names(self, draft: Draft, counts: Counter[str]) -> tuple[Draft, bool]:
        avoid = {item for example in prompts.EXAMPLES for item in example.things.split(", ")}
        avoid |= {draft["attributes"]["place"], draft["attributes"]["person"]} | self._theme_pairs()
        names: list[str] = list(draft.get("names", []))
        pools = [self._items([text], avoid=avoid, taken=set(), counts=counts) for blank in draft["candidates"] for text in blank]
        dice = self._dice(draft["place"], draft["attempt"], "names", "choice", draft["round"])
        dice.shuffle(pools)
        # One from each list in turn: a list circles around one thing, many lists do not.
        for turn in range(4):
            for pool in pools:
                if turn < len(pool) and len(names) < self.settings.nodes:
                    taken = {word for name in names for word in name.split()}
                    if not set(pool[turn].split()) & taken:
                        names.append(pool[turn])
        return {**draft, "names": names}, len(names) == self.settings.nodes

    def _fill_title(self, draft: Draft, counts: Counter[str]) -> tuple[Draft, bool]:
        shown = [example.title for example in prompts.EXAMPLES]
        passed = self._passed(draft["candidates"][0], lambda text: checks.title_problem(text.strip(), shown=shown), counts)
        if not passed:
            return draft, False
        context = f"A story about {self.theme}, in the {draft['attributes']['place']}. Its title is:"
        return {**draft, "title": self._best(context, passed)}, True

    def _fill_scene(self, draft: Draft, counts: Counter[str]) -> tuple[Draft, bool]:
        prompt = prompts.scene(self.theme, draft["attributes"], draft["names"])
        texts = [_whole_sentences(text) for text in draft["candidates"][0]]
        passed = self._passed(texts, lambda text: checks.scene_problem(text, prompt=prompt), counts)
        if not passed:
            return draft, False
        return {**draft, "scene": self._best(prompt + "\n", passed)}, True

    def _fill_glosses(self, draft: Draft, counts: Counter[str]) -> tuple[Draft, bool]:
        def prompt(index: int) -> tuple[str, str]:
            name = draft["names"][index]
            return prompts.gloss(name, draft["attributes"]), f"The {name}"

        return self._fill_sentences(draft, "glosses", prompt, counts)

    def _fill_steps(self, draft: Draft, counts: Counter[str]) -> tuple[Draft, bool]:
        def prompt(index: int) -> tuple[str, str]:
            source, operation, target = self._step(draft, index)
            return prompts.step(source, operation, target, draft["attributes"]), f"The {source} {operation} the {target}"

        return self._fill_sentences(draft, "steps", prompt, counts)

    def _fill_sentences(self, draft: Draft, field: str, prompt: Callable[[int], tuple[str, str]],
                        counts: Counter[str]) -> tuple[Draft, bool]:
        done = dict(draft.get(field, {}))
        for index, blank in zip(self._open(draft), draft["candidates"], strict=True):
            asked, start = prompt(index)

            def problem(text: str, start: str = start, asked: str = asked) -> str | None:
                return checks.sentence_problem(text, start=start, prompt=asked)

            passed = [text for text in self._passed(blank, problem, counts) if text not in done.values()]
            if passed:
                done[str(index)] = self._best(asked + "\n", passed)
        return {**draft, field: done}, len(done) == self.settings.nodes

    def _fill_operations(self, draft: Draft, counts: Counter[str]) -> tuple[Draft, bool]:
        """A verb for every node: its own where the model said one, else the likeliest of what it said of the others."""
        done = dict(draft.get("operations", {}))
        pool: list[str] = list(draft.get("verbs", []))
        shown = {example.deed.split()[2] for example in prompts.EXAMPLES}
        for index, blank in zip(self._open(draft), draft["candidates"], strict=True):
            for text in blank:
                verb = (text.split() or [""])[0].strip(",;")
                if not (verb.isalpha() and verb.islower() and 4 <= len(verb) <= 11 and verb.endswith("s")):
                    counts["no verb"] += 1
                elif verb.endswith(("ss", "us")) or verb in shown or verb in _STATES:
                    counts["empty verb"] += 1
                elif verb in done.values():
                    counts["verb used twice"] += 1
                else:
                    pool.append(verb)
                    if str(index) not in done:
                        done[str(index)] = verb
        for index in range(self.settings.nodes):
            free = sorted(set(pool) - set(done.values()))
            if str(index) not in done and free:
                name = draft["names"][index]
                fit = [score.mean for score in self.engine.score(f"The {name}", [f" {verb} the" for verb in free])]
                done[str(index)] = free[max(range(len(free)), key=fit.__getitem__)]
        return {**draft, "operations": done, "verbs": sorted(set(pool))}, len(done) == self.settings.nodes

    def _fill_clashes(self, draft: Draft, counts: Counter[str]) -> tuple[Draft, bool]:
        done = list(draft.get("clashes", []))
        for (a, b), blank in zip(self._opposites(draft), draft["candidates"], strict=True):
            asked, start = prompts.clash(a, b, draft["attributes"]), f"The {a} and the {b} cannot both"

            def problem(text: str, start: str = start, asked: str = asked) -> str | None:
                return checks.sentence_problem(text, start=start, prompt=asked, shortest=3)

            passed = self._passed(blank, problem, counts)
            if passed and [a, b] not in [clash[:2] for clash in done]:
                done.append([a, b, self._best(asked + "\n", passed)])
        return {**draft, "clashes": done}, len(done) >= 1

    def _passed(self, texts: Sequence[str], problem: Callable[[str], str | None], counts: Counter[str]) -> list[str]:
        passed = []
        for text in dict.fromkeys(text.strip() for text in texts):
            reason = problem(text)
            if reason is None:
                passed.append(text)
            else:
                counts[reason] += 1
        return passed

    def _best(self, context: str, texts: list[str]) -> str:
        """The text that the context makes most likely, beyond how likely it is by itself (nats per token)."""
        if len(texts) == 1:
            return texts[0]
        given = self.engine.score(context, [" " + text for text in texts])
        alone = self.engine.score("\n", [" " + text for text in texts])
        return max(zip(texts, given, alone, strict=True), key=lambda item: item[1].mean - 0.5 * item[2].mean)[0]

    # ── librarian ───────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, draft: Draft) -> Seed:
        """The finished draft as a seed: keys, tensions, lineage and scores by code.

        Raises:
            ValueError: the record refuses it (pydantic's error names field and reason).
        """
        names, order = draft["names"], draft["order"]
        keys = [f"n{index + 1:02d}" for index in range(len(names))]
        glosses = [draft["glosses"][str(index)] for index in range(len(names))]
        vectors = self.embedder.embed(glosses)
        follows = {order[i]: order[(i + 1) % len(order)] for i in range(len(order))}
        nodes = tuple(Node(key=key, name=name, gloss=gloss) for key, name, gloss in zip(keys, names, glosses, strict=True))
        transitions = tuple(
            Transition(source=keys[here], operation=draft["operations"][str(here)], target=keys[there],
                       tension=round(float(min(1.0, max(0.0, 1.0 - vectors[here] @ vectors[there]))), 3),
                       sentence=draft["steps"][str(here)])
            for here, there in sorted(follows.items()))
        contradictions = tuple(
            Contradiction(a=keys[names.index(a)], b=keys[names.index(b)], sentence=sentence)
            for a, b, sentence in draft["clashes"])
        scene_fit, scene_alone = (self.engine.score(context, [" " + draft["scene"]])[0].mean
                                  for context in (f"A story about {self.theme}.\n", "\n"))
        return Seed(
            title=draft["title"], scene=draft["scene"], nodes=nodes, transitions=transitions, contradictions=contradictions,
            registers=tuple(draft["registers"]),
            scores={"tension": round(sum(step.tension for step in transitions) / len(transitions), 3),
                    "scene_fit": round(scene_fit - scene_alone, 3)},
            lineage=Lineage(theme=self.theme, attributes=draft["attributes"], place=draft["place"], attempt=draft["attempt"],
                            random_seed=self.random_seed, model=self.model_sha256, rostok=__version__))

    def too_near(self, seed: Seed, admitted: Sequence[Seed]) -> str | None:
        """Why a seed is no new thought beside the admitted ones, or None."""
        for other in admitted:
            if seed.title.casefold() == other.title.casefold():
                return f"same title as {other.id}"
            shared = {node.name for node in seed.nodes} & {node.name for node in other.nodes}
            if len(shared) > len(seed.nodes) // 6:
                return f"{len(shared)} nodes of {other.id}"
        if admitted:
            mine = self.embedder.embed([seed.title + ". " + seed.scene])
            others = self.embedder.embed([other.title + ". " + other.scene for other in admitted])
            nearest = int((others @ mine[0]).argmax())
            if float(others[nearest] @ mine[0]) > 0.9:
                return f"scene is nearly that of {admitted[nearest].id}"
        return None

    # ── small things ────────────────────────────────────────────────────────────────────────────────────────

    def _dice(self, *parts: object) -> random.Random:
        return random.Random(stable_seed(self.random_seed, *[str(part) for part in parts]))

    def _is_common(self, word: str) -> bool:
        """One token of the base: a word it has met often (with two, "aye yacht" and "araft ship" pass)."""
        return len(self.engine.tokenize(" " + word)) - int(self.engine.adds_bos) == 1

    def _items(self, texts: Sequence[str], *, avoid: set[str], taken: set[str], counts: Counter[str]) -> list[str]:
        """Names from lists that the model has written, without those that fail a check."""
        good: dict[str, None] = {}
        for text in texts:
            for item in text.strip().rstrip(".").split(","):
                name = item.strip()
                reason = checks.name_problem(name, is_common=self._is_common, taken=taken, avoid=avoid)
                if reason is None:
                    good[name] = None
                else:
                    counts[reason] += 1
        return list(good)

    def _theme_pairs(self) -> set[str]:
        """Two words that stand side by side in the theme: too near for a place or a node of it."""
        said = checks.words(self.theme)
        return {f"{a} {b}" for a, b in pairwise(said)}

    def _open(self, draft: Draft) -> list[int]:
        """Indices of the nodes whose current field is still blank."""
        done = draft.get(FIELDS[draft["field"]], {})
        return [index for index in range(self.settings.nodes) if str(index) not in done]

    def _step(self, draft: Draft, index: int) -> tuple[str, str, str]:
        order, names = draft["order"], draft["names"]
        after = order[(order.index(index) + 1) % len(order)]
        return names[index], draft["operations"][str(index)], names[after]

    def _opposites(self, draft: Draft) -> list[tuple[str, str]]:
        """Pairs that lie opposite on the cycle, for the contradictions."""
        order, names = draft["order"], draft["names"]
        half = len(order) // 2
        return [(names[order[i]], names[order[i + half]]) for i in range(min(2, half))]


def _whole_sentences(text: str) -> str:
    """The first paragraph, cut after its last whole sentence and at most four of them."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    ends = [i + 1 for i, letter in enumerate(paragraph) if letter in ".!?" and paragraph[i + 1 : i + 2] in ("", " ")]
    return paragraph[: ends[min(3, len(ends) - 1)]] if ends else paragraph


_STATES = {"makes", "does", "gets", "goes", "seems", "becomes", "looks", "comes", "says", "means", "needs", "wants", "lies",
           "stands", "sits", "hangs", "falls", "sleeps", "runs", "works", "begins", "starts", "happens", "lives", "dies"}


class AuthorError(RostokError):
    """The agents could not fill the library."""
