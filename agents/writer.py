"""The writer: names of the nodes, title, scene, and what every node means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from rostok.agents import checks
from rostok.agents.critic import choose, choose_all
from rostok.agents.draft import Blank, Desk, Draft, Field, passed, still_open
from rostok.agents.proposer import items_of
from rostok.engines.protocol import Sampling
from rostok.seeds.measures import thought_of

# Half of the lists of things are about the theme, half about the seed's subject: with the theme alone the nodes of a library
# circle around it; where a list is about both, the subject takes it over (6% of the nodes were of the theme).
_LISTS, _OF_THE_THEME = 6, 3
SENTENCE = Sampling(max_tokens=44, temperature=0.8, min_p=0.08)
SCENE = Sampling(max_tokens=130, temperature=0.8, min_p=0.08)


def _names_blanks(desk: Desk, draft: Draft) -> list[Blank]:
    language, about = desk.language, draft["attributes"]
    dice = desk.dice(draft, "names", draft["round"])
    blanks = []
    for number, kind in enumerate(dice.sample(language.kinds, _LISTS)):
        shown = [language.say.things_line.format(place=example.places.split(",")[0], subject=example.subject,
                                                 items=example.things) for example in language.shown(dice)]
        ask = (language.say.theme_ask.format(theme=desk.theme, kind=kind) if number < _OF_THE_THEME
               else language.say.things_ask.format(kind=kind, **about))
        blanks.append(Blank(kind, "\n".join([*shown, ask]), Sampling(max_tokens=30, temperature=1.0, stop=("\n",)),
                            2 * desk.settings.candidates, raw=True, grammar=language.names_grammar))
    return blanks


def _fill_names(desk: Desk, draft: Draft, candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    about = draft["attributes"]
    avoid = {item for example in desk.language.examples for items in (example.things, example.places, example.people)
             for item in items.split(", ")}
    avoid |= {about["place"], about["person"], about["subject"]} | desk.theme_pairs()
    avoid |= {node.name for seed in desk.admitted() for node in seed.nodes}  # no node twice in a library
    names: list[str] = list(draft.get("names", []))
    pools = [items_of(desk, [text], avoid=avoid, counts=counts) for blank in candidates for text in blank]
    desk.dice(draft, "names", "choice", draft["round"]).shuffle(pools)
    # One from each list in turn: a list circles around one thing, many lists do not.
    for turn in range(4):
        for pool in pools:
            if turn < len(pool) and len(names) < desk.settings.nodes:
                taken = {word for name in names for word in name.split()}
                if not set(pool[turn].split()) & taken:
                    names.append(pool[turn])
    return {**draft, "names": names}, len(names) == desk.settings.nodes


def _title_blanks(desk: Desk, draft: Draft) -> list[Blank]:
    say, shown = desk.language.say, desk.language.shown(desk.dice(draft, "title", draft["round"]), 3)
    lines = [say.title_line.format(person=example.people.split(",")[0], place=example.places.split(",")[0], title=example.title)
             for example in shown]
    prompt = "\n".join([say.title_head, *lines, say.title_ask.format(**draft["attributes"])])
    return [Blank("title", prompt, Sampling(max_tokens=12, temperature=1.0, stop=("\n", '"')), 3 * desk.settings.candidates,
                  raw=True)]


def _fill_title(desk: Desk, draft: Draft, candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    shown = [example.title for example in desk.language.examples]
    taken = [seed.title for seed in desk.admitted()]
    good = passed(candidates[0],
                  lambda text: checks.title_problem(desk.language, text.strip(), shown=shown, taken=taken), counts)
    if not good:
        return draft, False
    context = desk.language.say.title_ask.format(**draft["attributes"])
    return {**draft, "title": choose(desk, context, good, as_seed=lambda title: thought_of(title, draft["scene"]))}, True


def scene_prompt(desk: Desk, draft: Draft) -> str:
    """What the writer is asked for a scene: it is told from the subject, and meets the theme in the nodes.

    Raw worked examples gave a third of the different scenes, since they set the tone; the theme in this prompt a tenth fewer.
    """
    return desk.language.say.scene.format(**draft["attributes"])


def _scene_blanks(desk: Desk, draft: Draft) -> list[Blank]:
    return [Blank("scene", scene_prompt(desk, draft), SCENE, 6 * desk.settings.candidates,
                  start=desk.language.say.scene_start.format(**draft["attributes"]), grammar=desk.language.scene_grammar)]


def _fill_scene(desk: Desk, draft: Draft, candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    good = good_scenes(desk, draft, candidates[0], counts)
    if not good:
        return draft, False
    return {**draft, "scene": choose(desk, scene_prompt(desk, draft) + "\n", good, as_seed=lambda scene: scene)}, True


def good_scenes(desk: Desk, draft: Draft, texts: list[str], counts: Counter[str]) -> list[str]:
    """The candidates that are scenes, each cut after its last whole sentence."""
    ask = scene_prompt(desk, draft)
    shown = [example.scene for example in desk.language.examples]
    return passed([whole_sentences(text) for text in texts],
                  lambda text: checks.scene_problem(desk.language, text, prompt=ask, shown=shown), counts)


def _gloss(desk: Desk, draft: Draft, index: int) -> tuple[str, str]:
    say, name = desk.language.say, draft["names"][index]
    return say.gloss.format(name=name, **draft["attributes"]), say.gloss_start.format(name=name)


def sentence_blanks(desk: Desk, draft: Draft, name: str, asked: Callable[[Desk, Draft, int], tuple[str, str]]) -> list[Blank]:
    """A sentence for every node that has none yet."""
    blanks = []
    for index in still_open(desk, draft, name):
        prompt, start = asked(desk, draft, index)
        blanks.append(Blank(str(index), prompt, SENTENCE, desk.settings.candidates, start=start,
                            grammar=desk.language.sentence_grammar))
    return blanks


def fill_sentences(desk: Desk, draft: Draft, name: str, asked: Callable[[Desk, Draft, int], tuple[str, str]],
                   candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    """The best sentence for every node of which one passed."""
    done, found = dict(draft.get(name, {})), {}
    for index, texts in zip(still_open(desk, draft, name), candidates, strict=True):
        prompt, start = asked(desk, draft, index)

        def problem(text: str, start: str = start, prompt: str = prompt) -> str | None:
            return checks.sentence_problem(desk.language, text, start=start, prompt=prompt)

        good = [text for text in passed(texts, problem, counts) if text not in done.values()]
        if good:
            found[str(index)] = (prompt + "\n", good)
    done.update(zip(found, choose_all(desk, list(found.values())), strict=True))
    return {**draft, name: done}, len(done) == desk.settings.nodes


def whole_sentences(text: str, most: int = 4) -> str:
    """The first paragraph, cut after its last whole sentence and at most so many of them."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    ends = [i + 1 for i, letter in enumerate(paragraph) if letter in ".!?" and paragraph[i + 1 : i + 2] in ("", " ")]
    return paragraph[: ends[min(most - 1, len(ends) - 1)]] if ends else paragraph


FIELDS = (
    Field("names", "writer", _names_blanks, _fill_names),
    Field("scene", "writer", _scene_blanks, _fill_scene),
    Field("title", "writer", _title_blanks, _fill_title),
)
GLOSSES = Field("glosses", "writer", lambda desk, draft: sentence_blanks(desk, draft, "glosses", _gloss),
                lambda desk, draft, texts, counts: fill_sentences(desk, draft, "glosses", _gloss, texts, counts))
