"""report.html: safe, whole, and honest at every stage of a run."""

from __future__ import annotations

import math
import re
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from string import Formatter

import pytest

from rostok.errors import ConfigError
from rostok.records import write_atomic
from rostok.report.draw import ring, ticks
from rostok.report.page import write_report
from rostok.report.sources import seeds
from rostok.report.texts import TEXTS
from rostok.report.verdict import verdict
from rostok.report.wording import Wording
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm.school import School, folder

CSP = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
HOSTILE = "<script>alert(1)</script> \"><img onerror='x'>"
VOID = {"meta", "br", "link", "img", "input", "hr"}
SHAPES = {"path", "circle", "rect", "polygon"}


class Outline(HTMLParser):
    """Tags and attributes; notes what is closed wrongly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def render(run: Run, language: str = "en") -> str:
    return write_report(run, language).read_text(encoding="utf-8")


def test_text_of_a_model_is_never_markup(finished) -> None:
    """Prevents: a seed's title or a page that runs as a script when the report is opened."""
    html = render(finished(title=HOSTILE[:80], text=HOSTILE * 3))
    assert "<script>alert" not in html
    assert "<img" not in html
    assert html.count("<script") == 1
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 8  # title, cards, tooltips, pages, rejects


def test_the_page_needs_no_network(finished) -> None:
    """Prevents: a font, script or picture from elsewhere, which is blank on a machine without network."""
    html = render(finished())
    assert f'content="{CSP}"' in html
    assert not re.search(r"https?://|\bsrc=|@import|url\(|<link|<iframe", html)
    hrefs = [attributes["href"] for _, attributes in Outline(html).tags if "href" in attributes]
    assert hrefs and all(href.startswith("#") for href in hrefs)


@pytest.mark.parametrize("language", list(TEXTS))
def test_what_all_experts_began_from_is_told_where_there_is_one(finished, language: str) -> None:
    """Prevents: two minutes of training that no reader learns of, and a school told of a run that has none."""
    run, t = finished(), Wording(language)
    told = t("school", tokens=t.count(124_000), drills=4, time=t.time(122.0))
    assert told not in unescape(render(run, language))
    write_atomic(folder(run) / "school.json", School(
        made_from="0" * 64, base_sha256="a" * 64, adapter_sha256="b" * 64, drills=("s-1", "s-2", "s-3", "s-4"),
        written=run.read().settings.school,
        settings=run.read().settings.training, rostok="0.1.0", pages=792, tokens=124_000, steps=198, seconds=122.0,
        curve=()).line())
    assert told in unescape(render(run, language))


@pytest.mark.parametrize("language", list(TEXTS))
def test_every_tag_is_closed_and_every_drawing_has_a_name(finished, language: str) -> None:
    """Prevents: half a page swallowed by an unclosed tag; drawings that a screen reader cannot tell."""
    html = render(finished(), language)
    outline = Outline(html)
    assert not outline.wrong and not outline.open
    assert outline.tags[0] == ("html", {"lang": language})
    for place, (tag, attributes) in enumerate(outline.tags):
        if tag == "svg" and attributes.get("aria-hidden") != "true":
            assert attributes["role"] == "img" and outline.tags[place + 1][0] == "title"
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and {f"#{name}" for name in ids} >= {
        attributes["href"] for _, attributes in outline.tags if "href" in attributes
    }


def test_a_run_that_has_just_begun_says_so_in_every_section(started: Run) -> None:
    """Prevents: a report that fails, or shows empty charts, while the night is young."""
    html = render(started)
    assert html.count('class="unreached"') == 11
    assert TEXTS["en"]["map_missing"] in html
    assert TEXTS["en"]["verdict_none"] in html
    assert not any(tag in SHAPES for tag, _ in Outline(html.split("<main>")[1]).tags)


def test_what_reading_adds_is_drawn_under_its_own_name(finished) -> None:
    """Prevents: the share with pages told as the one without, or not at all."""
    drawn = render(finished())
    shares = {name: re.search(rf"<b>([^<]+)</b>(?:(?!<b>).)*<span>{name} pages", drawn, re.S) for name in ("with", "without")}
    assert {name: found[1] for name, found in shares.items() if found} == {"with": "0.75", "without": "0.50"}
    assert "48 routed questions" in drawn


def test_a_missing_map_alone_is_told(finished) -> None:
    """Prevents: a run without the memory stage fails for want of its map."""
    run = finished()
    (run.seeds / "map.json").unlink()
    assert render(run).count('class="unreached"') == 1


def test_a_win_is_told_with_its_figures(finished) -> None:
    """Prevents: a verdict whose figures are not those of the probes."""
    html = unescape(render(finished()))
    sentence = re.search(
        r"4 of 4 experts know their own path: (0\.\d\d) of the probes right on average; the base has "
        r"0\.\d\d, the base with the seed in its context 0\.\d\d, chance is 0\.09\.",
        html,
    )
    assert sentence and float(sentence[1]) > 0.6
    assert 'class="verdict win"' in html


def test_a_loss_is_told_as_a_loss(finished) -> None:
    """Prevents: a report that praises experts which only guess."""
    html = unescape(render(finished(learned=False)))
    assert "None of the experts (4) knows its own path" in html
    assert 'class="verdict loss"' in html


@pytest.mark.parametrize(
    ("own", "base", "seeded", "tone"),
    [
        ((0.7, 0.7), 0.1, 0.1, "win"),
        ((0.7, 0.7), 0.1, 0.9, "mixed"),  # the base that reads the seed does better
        ((0.7, 0.1), 0.09, 0.1, "mixed"),  # one of two
        ((0.17, 0.17), 0.0, 0.0, "loss"),  # above the base, but not twice chance
        ((0.5, 0.5), 0.5, 0.1, "loss"),  # the base knew it before
    ],
)
def test_the_verdict_follows_its_own_rule(own, base: float, seeded: float, tone: str) -> None:
    """Prevents: a little luck above chance, or what the base knew before, counted as learned."""
    probes = {
        "s-1": {"s-1": own[0]},
        "s-2": {"s-2": own[1]},
        "base": dict.fromkeys(("s-1", "s-2"), base),
        "base_with_seed": dict.fromkeys(("s-1", "s-2"), seeded),
    }
    found = verdict({"probes": probes, "chance": 1 / 11}, Wording("en"))
    assert found.tone == tone
    assert (TEXTS["en"]["verdict_reads"] in found.sentence) == (seeded >= sum(own) / 2)


def test_a_hundred_seeds_stay_a_page_that_opens(finished) -> None:
    """Prevents: a night's report too large for a browser, or a matrix of 10,100 unreadable numbers."""
    run = finished(100, pages_on_map=1000)
    html = render(run)
    assert run.report.stat().st_size < 5_000_000
    assert html.count('class="card') == 100
    assert html.index("88 more") < html.index('class="card', html.index("88 more"))
    assert 'class="heat-small"' in html and 'class="heat"' not in html
    assert len(re.findall(r'<rect x="\d+" class="(?:win|lose)', html)) == 101 * 100


def test_the_russian_page_is_russian(finished, started: Run) -> None:
    """Prevents: interface strings left in English, or blanks lost in translation."""
    assert TEXTS["en"].keys() == TEXTS["ru"].keys()
    for key, english in TEXTS["en"].items():
        russian = TEXTS["ru"][key]
        assert sorted(_blanks(english)) == sorted(_blanks(russian)), key
        assert not any(letter.isalpha() for letter in english) or english != russian, key
    for run in (finished(), started):
        shown = _visible(render(run, "ru"))
        for english in TEXTS["en"].values():
            for part in re.split(r"\{\w+\}", english):
                if len(part.strip()) > 3 and " " in part.strip():
                    assert part.strip() not in shown
        for word in ("base", "expert", "Mean", "Total", "Contents", "Versions", "Settings", "GiB"):
            assert not re.search(rf">\s*{word}\s*<|\d\s{word}\b", shown)


def test_numbers_are_written_as_the_language_writes_them(finished) -> None:
    """Prevents: `0.95` and `43,120` in a Russian page, where the comma is the decimal sign."""
    run = finished()
    assert "43,120" in render(run) and ">0.95<" in render(run)
    russian = render(run, "ru")
    assert "43\N{NARROW NO-BREAK SPACE}120" in russian and ">0,95<" in russian


def test_an_unknown_language_is_refused_by_name(started: Run) -> None:
    """Prevents: a KeyError where a sentence with the known languages helps."""
    with pytest.raises(ConfigError, match="Known languages: en, ru"):
        write_report(started, "fr")


def test_two_reports_of_one_run_are_the_same_bytes(finished) -> None:
    """Prevents: a report that cannot be compared with yesterday's because of a clock or a set's order."""
    run = finished()
    assert render(run) == render(run)


def test_every_reason_and_kind_has_an_example(finished) -> None:
    """Prevents: a reason in the counts whose refused text nobody can look at; rejects printed at full length."""
    html = render(finished(text="x" * 400))
    assert html.count("<blockquote") == 4 + 3
    assert html.count("x" * 300 + "…") == 3 and html.count("x" * 400) == 2


def test_labels_of_a_ring_do_not_cover_each_other(finished) -> None:
    """Prevents: node names printed over one another, or outside the drawing."""
    for seed in seeds(finished()):
        drawn = ring(seed)
        for side in ("start", "end"):
            heights = sorted(node.label_y for node in drawn.nodes if node.anchor == side)
            assert all(below - above >= 32 for above, below in pairwise(heights))
            assert max(map(abs, heights)) <= drawn.height / 2 - 16


def test_every_transition_of_a_branching_seed_is_drawn(finished) -> None:
    """Prevents: a card that shows a ring where the seed branches, or an arrow that ends beside its node."""
    seed = seeds(finished())[0]
    first, last = seed.cycle()[0], seed.cycle()[-1]
    fork = first.model_copy(update={"operation": "forks to", "target": seed.cycle()[4].target})
    inner = last.model_copy(update={"target": seed.cycle()[2].target})
    values = seed.model_dump(exclude=set(Seed.model_computed_fields))
    steps = [*(step for step in seed.transitions if step != last), inner, fork]
    drawn = ring(Seed.model_validate({**values, "transitions": steps}))
    assert len(drawn.nodes) == len(seed.nodes) and len(drawn.arrows) == len(steps)
    straight = [arrow for arrow in drawn.arrows if "A" not in arrow.path]
    around = [node.name for node in drawn.nodes]
    beside = set(zip(around, [*around[1:], around[0]], strict=True))
    assert straight and all((arrow.source, arrow.target) not in beside for arrow in straight)
    where = {node.name: (node.x, node.y) for node in drawn.nodes}
    for arrow in straight:
        tip = tuple(map(float, arrow.head.split()[1].split(",")))
        assert math.dist(tip, where[arrow.target]) == pytest.approx(drawn.node_radius + 3, abs=0.2)


@pytest.mark.parametrize(("low", "high"), [(0.63, 2.7), (0, 40), (1.0, 1.0), (0.0012, 0.0013), (0, 12_345)])
def test_ticks_enclose_the_data_and_are_few(low: float, high: float) -> None:
    """Prevents: a curve that leaves its chart, an axis without ticks or with a hundred."""
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high and 2 <= len(found) <= 8


def _blanks(text: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(text) if name]


def _visible(html: str) -> str:
    """The page without styles, the script, and the settings (whose keys are the configuration's own)."""
    return unescape(
        re.sub(r"(?s)<style>.*?</style>|<script>.*?</script>|<pre.*?</pre>|<dl class=\"models\".*?</dl>", "", html)
    )
