"""The page in a real Chromium, over the real server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rostok.ensemble.conversation import Ensemble
from rostok.seeds.record import Seed
from tests.ensemble.serve.at_work import TOKEN, Served
from tests.ensemble.serve.test_markup import HOSTILE

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

CLOCK = "What does the escapement do?"
LOOKED_FOR = re.compile("status of 40[14]")  # a token that is tried, a conversation that may be gone: no faults of the page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--disable-quic", "--disable-background-networking"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, served: Served) -> Iterator[Callable[..., Any]]:
    """Opens the page. At the end nothing may have gone wrong in it, and nothing been asked of another server."""
    contexts, wrong = [], []

    def note(request: Any) -> None:
        if not request.url.startswith((served.address, "blob:" + served.address, "about:")):
            wrong.append(f"asked {request.url}")

    def open_page(width: int = 1280, height: int = 800, path: str = f"/#token={TOKEN}", **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, locale="en-US", **more)
        contexts.append(context)
        context.on("request", note)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(f"error {error}"))
        page.on("console", lambda said: None if said.type != "error" or LOOKED_FOR.search(said.text) else wrong.append(said.text))
        page.on("dialog", lambda box: (wrong.append(f"dialog {box.message}"), box.dismiss()))
        page.goto(served.address + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def _ask(page: Any, question: str) -> None:
    page.get_by_role("textbox", name="Ask anything").fill(question)
    page.keyboard.press("Enter")


def _answered(page: Any, count: int) -> Any:
    """The last of so many answers, whole."""
    expect(page.locator("#log .answered .acts")).to_have_count(count)
    expect(page.locator("#send")).to_be_visible()
    return page.locator("#log .answered").last


def test_a_conversation(opened: Callable[..., Any], seeds: list[Seed]) -> None:
    """Prevents: a page that does not answer, names nobody, gives no reasons, or forgets the conversation on a reload."""
    page = opened()
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    assert TOKEN not in page.url
    _ask(page, CLOCK)
    answer = _answered(page, 1)
    expect(answer.locator(".name")).to_contain_text(seeds[1].title)
    assert answer.evaluate("node => getComputedStyle(node).borderLeftColor") != page.locator(".asked").evaluate(
        "node => getComputedStyle(node).color")
    expect(page.locator("#live")).to_contain_text(seeds[1].title)
    answer.get_by_role("button", name="Why").click()
    why = page.get_by_role("complementary")
    expect(why.get_by_role("heading", name=seeds[1].title)).to_be_visible()
    expect(why.locator("svg.map .here")).to_have_count(1)
    expect(why.locator("svg.map .seed")).to_have_count(3)
    expect(why).to_contain_text("page 14 of")
    _ask(page, "What is the capital of France?")
    expect(_answered(page, 2).locator(".name")).to_contain_text("base")
    page.reload()
    expect(_answered(page, 2).locator(".name")).to_contain_text("base")
    expect(page.locator("#conversations .open")).to_contain_text("2 turns")


def test_a_stop(opened: Callable[..., Any], slowly: Callable[[], None]) -> None:
    """Prevents: a stop button that only hides the answer; a page that cannot be used after it."""
    slowly()
    page = opened()
    _ask(page, "Go on and on.")
    expect(page.locator("#log .words.coming")).to_contain_text("word word")
    page.keyboard.press("Escape")
    answer = _answered(page, 1)
    expect(answer).to_contain_text("word word")
    expect(answer).to_contain_text("stopped here")
    expect(page.locator("#stop")).to_be_hidden()


def test_another_conversation_in_mid_answer(opened: Callable[..., Any], slowly: Callable[[], None], served: Served) -> None:
    """Prevents: words of one conversation that go on in another; an answer that nobody can see and that goes on."""
    slowly()
    page = opened()
    _ask(page, "The first of two.")
    expect(page.locator("#log .words.coming")).to_contain_text("word word")
    page.locator("#new").click()
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#log li")).to_have_count(0)
    _ask(page, "The second of two.")
    expect(page.locator("#log .words.coming")).to_contain_text("word word")
    page.locator("#stop").click()
    _answered(page, 1)
    expect(page.locator("#log .asked")).to_have_text(re.compile("The second of two."))
    page.locator("#conversations .go", has_text="The first of two.").click()
    expect(_answered(page, 1)).to_contain_text("stopped here")
    assert served.server.desk.answering.places.taken == 0


def test_a_reload_in_mid_answer(opened: Callable[..., Any], slowly: Callable[[], None], served: Served) -> None:
    """Prevents: a reload that loses the conversation, or leaves the server talking to nobody."""
    slowly()
    page = opened()
    _ask(page, "Go on and on.")
    expect(page.locator("#log .words.coming")).to_contain_text("word word")
    page.reload()
    answer = _answered(page, 1)
    expect(answer).to_contain_text("stopped here")
    expect(page.locator("#log .asked")).to_contain_text("Go on and on.")
    assert served.server.desk.answering.places.taken == 0


def test_hostile_output(opened: Callable[..., Any], saying: Callable[[str], None], seeds: list[Seed]) -> None:
    """Prevents: words of a model that run, load, navigate or cover the page; while they stream and when they are whole."""
    page = opened()
    page.evaluate("document.addEventListener('securitypolicyviolation', event => console.error(event.violatedDirective))")
    address = page.url
    for text in ("\n\n".join(HOSTILE), "\n".join(HOSTILE), " ".join(HOSTILE)):
        saying(text)
        _ask(page, "Say it.")
        expect(page.locator("#send")).to_be_visible()
        expect(page.locator("#log .answered .acts").last).to_be_visible()
    words = page.locator("#log .words")
    assert words.locator("script, img, iframe, svg, style, form, input, base, meta, object, [onclick], [onerror]").count() == 0
    links = words.locator("a").evaluate_all("links => links.map(link => [link.href, link.target, link.rel])")
    assert links and all(re.match("https?://|$", href) and target == "_blank" and "noopener" in rel
                         for href, target, rel in links)
    page.reload()
    expect(page.locator("#log .answered")).to_have_count(3)
    assert page.url.split("#")[0] == address.split("#")[0]


def test_hostile_words_of_a_person_and_of_a_run(opened: Callable[..., Any], saying: Callable[[str], None], ensemble: Ensemble,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a question, a title, a note or a search that is taken for HTML."""
    saying("Good.")
    page = opened()
    trick = "<img src=x onerror=alert(1)><b>fat</b>"
    note = ensemble.remember(trick)
    try:
        _ask(page, trick)
        _answered(page, 1)
        page.locator("#search").fill("fat")
        expect(page.locator("#conversations mark").first).to_be_visible()
        page.get_by_role("button", name="Memory").click()
        expect(page.locator("dialog")).to_contain_text(trick)
        assert page.locator("body b:has-text('fat'):not(.go b)").count() == 0 and page.locator("img").count() == 0
    finally:
        ensemble.forget(note)


def test_pin_compare_edit_branch_and_search(opened: Callable[..., Any], seeds: list[Seed]) -> None:
    """Prevents: buttons that do nothing."""
    page = opened()
    page.get_by_label("Who answers").select_option(label=f"1 · {seeds[0].title}")
    expect(page.locator("#state")).to_contain_text(seeds[0].title)
    _ask(page, CLOCK)
    expect(_answered(page, 1).locator(".name")).to_contain_text(seeds[0].title)
    page.locator("#state").get_by_role("button", name="Unpin").click()
    page.get_by_role("button", name="Again").click()
    expect(page.locator("#log .answered .name")).to_contain_text(seeds[1].title)
    _answered(page, 1).get_by_role("button", name="Compare").click()
    expect(page.locator("dialog .lane .mark").nth(1)).to_contain_text("token")
    expect(page.locator("dialog .lane .name").nth(0)).to_contain_text("base")
    expect(page.locator("dialog .lane .name").nth(1)).to_contain_text(seeds[1].title)
    page.keyboard.press("Escape")
    page.locator("#log .asked").hover()
    page.locator("#log .asked").get_by_role("button", name="Edit").click()
    expect(page.locator("#question")).to_have_value(CLOCK)
    _ask(page, "What is the honeycomb for?")
    expect(page.locator("#log .asked")).to_contain_text("honeycomb")
    _answered(page, 1)
    expect(page.locator("#log .asked")).to_have_count(1)
    _ask(page, "And the smoker?")
    _answered(page, 2)
    before = page.url
    page.locator("#log .answered").first.get_by_role("button", name="Branch").click()
    expect(page.locator("#log .answered")).to_have_count(1)
    assert page.url != before
    page.locator("#search").fill("smoker")
    page.locator("#conversations mark", has_text="smoker").first.click()
    expect(page.locator("#log .answered")).to_have_count(2)


def test_the_keyboard_alone(opened: Callable[..., Any], seeds: list[Seed], served: Served) -> None:
    """Prevents: something that only a mouse can do; focus that nobody can see, or that is lost."""
    page = opened()
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("Hello there.")
    page.keyboard.press("Enter")
    _answered(page, 1)
    page.keyboard.press("Escape")  # out of the field
    for key, title in (("?", "Shortcuts"), ("d", "Seeds"), ("m", "Memory"), ("x", "Export"), ("c", "Compare")):
        page.keyboard.press(key)
        expect(page.locator("dialog")).to_be_visible()
        expect(page.locator("#dialog-title")).to_have_text(title)
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_be_hidden()
    page.keyboard.press("w")
    expect(page.locator("#why")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#why")).to_be_hidden()
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.classList.contains('answered')")
    page.keyboard.press("e")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.keyboard.press("n")
    expect(page.locator("#empty")).to_be_visible()
    for _ in range(30):
        page.keyboard.press("Tab")
        width = page.evaluate("""() => {
            const node = document.activeElement, box = node.closest('.box'), own = getComputedStyle(node);
            if (node === document.body) return 2;
            if (own.outlineStyle !== 'none') return parseFloat(own.outlineWidth);
            return box && getComputedStyle(box).boxShadow !== 'none' ? 2 : 0 }""")
        assert width >= 1, page.evaluate("document.activeElement.outerHTML")


def test_seeds_pages_export_and_report(opened: Callable[..., Any], seeds: list[Seed]) -> None:
    """Prevents: what there is to read that cannot be opened; a report that its own policy breaks."""
    page = opened()
    page.get_by_role("button", name="Seeds").click()
    page.locator("dialog").get_by_role("button", name=seeds[0].title).click()
    expect(page.locator("dialog .path li")).to_have_count(8)
    expect(page.locator("dialog .page")).to_have_count(10)
    page.get_by_role("button", name="More pages").click()
    expect(page.locator("dialog .page")).to_have_count(16)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("JSON lines")).last.click()
    assert download.value.suggested_filename.endswith(".jsonl")
    page.keyboard.press("Escape")
    with page.context.expect_page() as tab:
        page.get_by_role("button", name="Report").click()
    report = tab.value
    report.wait_for_url("**/report/*")
    expect(report.locator("h1")).to_be_visible()
    assert report.evaluate("origin") == "null"


def test_a_narrow_page(opened: Callable[..., Any]) -> None:
    """Prevents: a page that must be pushed sideways on a telephone, or whose buttons are out of reach."""
    page = opened(360, 640, color_scheme="dark", has_touch=True, reduced_motion="reduce")
    _ask(page, CLOCK + " " + "averyverylongwordwithoutaspace" * 4)
    answer = _answered(page, 1)

    def fits() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        outside = page.evaluate("""() => [...document.querySelectorAll('button, textarea, select, .words, h1, h2')]
            .filter(node => {
                const box = node.getBoundingClientRect(), seen = getComputedStyle(node).visibility !== 'hidden';
                return seen && box.width && (box.left < -1 || box.right > 361) })
            .map(node => node.outerHTML.slice(0, 90))""")
        assert outside == []

    fits()
    answer.get_by_role("button", name="Why").tap()
    expect(page.locator("#why svg.map")).to_be_visible()
    fits()
    page.locator("#why-close").tap()
    page.locator("#shelf-open").tap()
    expect(page.locator("#new")).to_be_in_viewport()
    fits()
    page.locator("#new").tap()
    expect(page.locator("#empty")).to_be_visible()
    fits()
    page.locator("#help").tap()
    expect(page.locator("dialog")).to_be_visible()
    fits()


def test_the_lock(opened: Callable[..., Any], served: Served) -> None:
    """Prevents: a page without the token that shows anything, or that the right token does not open."""
    page = opened(path="/")
    expect(page.get_by_role("heading", name="This page is locked")).to_be_visible()
    expect(page.locator("#app")).to_be_hidden()
    page.get_by_label("Token or key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not it.")
    page.get_by_label("Token or key").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#app")).to_be_visible()
    with page.expect_response(re.compile("/api/conversations$")):  # the last that is asked for when the page opens again
        page.evaluate("location.hash = 'token=of-a-stranger'")
    page.wait_for_function("!location.href.includes('token')")  # the page takes it out of the address when it has read it
    assert page.evaluate("sessionStorage.getItem('rostok.token')") == TOKEN  # what a link says is tried first
    assert page.evaluate("localStorage.getItem('rostok.token')") is None  # it may be the key, which stays valid
    page.evaluate("sessionStorage.setItem('rostok.token', 'of yesterday')")  # as after a new start of the server
    _ask(page, CLOCK)
    expect(page.locator("#app")).to_be_hidden()
    page.evaluate(f"location.hash = 'token={TOKEN}'")
    expect(page.locator("#app")).to_be_visible()
    page.wait_for_function(f"!location.href.includes('{TOKEN}')")


def test_letters_that_end_a_line_for_some(opened: Callable[..., Any], ensemble: Ensemble) -> None:
    """Prevents: a page that waits for ever since a note, which is sent with the answer, holds U+2028."""
    note = ensemble.remember("The escapement\u2028of my clock\u0085is of Vienna.")
    try:
        page = opened()
        _ask(page, "Where is the escapement of my clock from?")
        _answered(page, 1).get_by_role("button", name="Why").click()
        expect(page.locator("#why .memory", has_text="Vienna")).to_have_count(1)
    finally:
        ensemble.forget(note)


def test_forgetting_shows_what_goes(opened: Callable[..., Any], ensemble: Ensemble, saying: Callable[[str], None]) -> None:
    """Prevents: words that are erased unseen, with all the turns that hold them; a note that goes at one slip."""
    saying("I see.")
    page = opened()
    _ask(page, "My boat is called Zephyrine.")
    _answered(page, 1)
    note, other = ensemble.remember("Zephyrine lies in Kotka."), ensemble.remember("Tea at five.")
    page.get_by_role("button", name="Memory").click()
    dialog = page.locator("dialog")
    dialog.locator("li", has_text="Tea at five.").get_by_role("button", name="Forget").click()
    assert other in [one.id for one in ensemble.notes()]
    dialog.get_by_role("button", name="Really?").click()
    expect(dialog.locator("li", has_text="Tea at five.")).to_have_count(0)
    assert other not in [one.id for one in ensemble.notes()]
    dialog.get_by_label("Forget words that you have said").fill("zephyrine")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("My boat is called Zephyrine.")
    assert note in [one.id for one in ensemble.notes()] and len(ensemble.found("Zephyrine").ids) == 2
    late = ensemble.remember("Zephyrine needs paint.")  # said while the list was being read
    dialog.get_by_role("button", name="Erase these 2").click()
    expect(dialog.get_by_role("button", name="Erase this 1")).to_be_visible()
    assert ensemble.found("Zephyrine").ids == [late]
    dialog.get_by_role("button", name="Erase this 1").click()
    expect(dialog.get_by_role("status")).to_contain_text("1 text erased")
    assert ensemble.found("Zephyrine").ids == []
    page.keyboard.press("Escape")
    expect(page.locator("#log li")).to_have_count(0)


def test_an_edit_that_failed_still_replaces(opened: Callable[..., Any], saying: Callable[[str], None]) -> None:
    """Prevents: a second turn where the question was only to be asked in other words."""
    saying("Good.")
    page = opened()
    _ask(page, "What is a hive?")
    _answered(page, 1)
    failed = 'event: error\ndata: {"error": {"message": "the engine is gone."}}\n\n'
    page.route("**/ask", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=failed))
    page.locator("#log .asked").hover()
    page.locator("#log .asked").get_by_role("button", name="Edit").click()
    _ask(page, "What is a swarm?")
    expect(page.locator("#log .problem")).to_contain_text("gone")
    page.unroute("**/ask")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#log .asked")).to_have_text(re.compile("swarm"))
    _answered(page, 1)
    page.reload()
    _answered(page, 1)
    expect(page.locator("#log .asked")).to_have_text(re.compile("swarm"))


def test_the_runs_language(opened: Callable[..., Any], ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a setting that does nothing, or one that overrules what somebody has chosen on the page."""
    spoken = ensemble.settings.ensemble.model_copy(update={"language": "ru"})
    monkeypatch.setattr(ensemble, "settings", ensemble.settings.model_copy(update={"ensemble": spoken}))
    page = opened()
    expect(page.get_by_role("heading", name="Что вы хотите узнать?")).to_be_visible()
    page.locator("#language").click()
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()


def test_russian_and_the_systems_colours(opened: Callable[..., Any]) -> None:
    """Prevents: a text that is missing in one of the languages; a dark page that is light."""
    light, dark = opened(color_scheme="light"), opened(color_scheme="dark")
    shades = [page.evaluate("getComputedStyle(document.body).backgroundColor") for page in (light, dark)]
    assert shades[0] != shades[1]
    light.locator("#language").click()
    expect(light.get_by_role("heading", name="Что вы хотите узнать?")).to_be_visible()
    missing = light.evaluate("import('/page/texts.js').then(texts => texts.missing())")
    assert missing == []
