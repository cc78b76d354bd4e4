"""What the page asks for: conversations, streams, what there is to read."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from rostok.ensemble.conversation import Ensemble
from rostok.ensemble.shell.export import markdown
from rostok.ensemble.shell.wording import Wording
from rostok.seeds.record import Seed
from tests.ensemble.serve.at_work import Served

CLOCK = "What does the escapement do?"


def ask(served: Served, thread: str, question: str = CLOCK, **more: Any) -> list[tuple[str, Any]]:
    """The events of one answer."""
    answer = served.client().post(f"/api/conversations/{thread}/ask", json={"question": question, **more})
    assert answer.status_code == 200, answer.text
    return events(answer.text)


def events(text: str) -> list[tuple[str, Any]]:
    """[(name, data)] of a stream."""
    return [(name, json.loads(data)) for name, data in re.findall(r"^event: (.*)\ndata: (.*)$", text, re.MULTILINE)]


def test_an_answer_as_events(served: Served, seeds: list[Seed]) -> None:
    """Prevents: a name that comes after the first word, text and whole answer that differ, a turn that is not kept."""
    told = ask(served, "events")
    assert told[0][0] == "begun" and told[-1][0] == "done"
    begun, done = told[0][1], told[-1][1]
    assert begun["speaker"] == seeds[1].id and begun["route"]["scores"] and len(begun["place"]) == 2
    assert "".join(data["text"] for name, data in told if name == "text").strip() == done["answer"]["text"]
    assert done["html"].startswith("<p>") and done["answer"]["memories"]
    kept = served.client().get("/api/conversations/events").json()
    assert kept["said"][0]["question"] == CLOCK and kept["said"][0]["id"] == done["answer"]["id"] and kept["title"]
    assert kept["said"][0]["html"] == done["html"]


def test_a_question_lies_near_its_seed_on_the_map(served: Served, seeds: list[Seed]) -> None:
    """Prevents: a map on which the question lies anywhere."""
    run = served.client().get("/api/run").json()
    places = {one["seed"]: one["place"] for one in run["seeds"]}
    assert set(places) == {seed.id for seed in seeds} and len({tuple(place) for place in places.values()}) == 3
    for seed in seeds:
        x, y = served.client().post("/api/route", json={"question": f"{seed.title}. {seed.scene}"}).json()["place"]
        distances = {key: (x - a) ** 2 + (y - b) ** 2 for key, (a, b) in places.items()}
        assert min(distances, key=lambda key: distances[key]) == seed.id


def test_a_stop_keeps_what_was_said(served: Served, slowly: Callable[[], None]) -> None:
    """Prevents: a stop that throws the half answer away, or that the engine does not hear."""
    slowly()
    with served.client().stream("POST", "/api/conversations/stopped/ask", json={"question": "Go on."}) as answer:
        lines = answer.iter_lines()
        while "word" not in next(lines):
            pass
        assert served.client().post("/api/conversations/stopped/stop", json={}).json() == {"stopped": True}
        rest = "\n".join(lines)
    assert events(rest)[-1][1]["answer"]["finish"] == "stopped"
    turn = served.client().get("/api/conversations/stopped").json()["said"][0]
    assert turn["answer"]["finish"] == "stopped" and turn["text"].startswith("word")
    assert served.client().post("/api/conversations/stopped/stop", json={}).json() == {"stopped": False}


def test_who_leaves_is_stopped_and_kept(served: Served, slowly: Callable[[], None]) -> None:
    """Prevents: a reload in mid-answer that loses the turn, or finds the conversation still busy."""
    slowly()
    with served.client().stream("POST", "/api/conversations/left/ask", json={"question": "Go on."}) as answer:
        lines = answer.iter_lines()
        while "word" not in next(lines):
            pass
    deadline = time.monotonic() + 10
    while served.client().get("/api/conversations/left").status_code != 200:  # until the server has noticed
        assert time.monotonic() < deadline
    kept = served.client().get("/api/conversations/left").json()["said"]
    assert [turn["answer"]["finish"] for turn in kept] == ["stopped"]
    assert served.server.desk.answering.places.taken == 0


def test_one_answer_at_a_time_in_a_conversation(served: Served, slowly: Callable[[], None]) -> None:
    """Prevents: two answers in one conversation, each of which overwrites the other's turn."""
    slowly()
    with served.client().stream("POST", "/api/conversations/busy/ask", json={"question": "Go on."}) as answer:
        lines = answer.iter_lines()  # kept: an iterator that is thrown away closes its connection
        next(lines)
        second = served.client().post("/api/conversations/busy/ask", json={"question": "And I?"})
        assert second.status_code == 409 and second.json()["error"]["code"] == "busy"


def test_again_edit_branch_drop_and_delete(served: Served) -> None:
    """Prevents: a regenerated or edited turn that is kept beside the old one; a branch that changes its origin."""
    client = served.client()
    first = ask(served, "many")[-1][1]["answer"]
    second = ask(served, "many", "And the dial?")[-1][1]["answer"]
    again = ask(served, "many", "", again=True)[-1][1]["answer"]
    assert again["id"] == second["id"]
    ask(served, "many", "And the chime?", again=True)
    said = client.get("/api/conversations/many").json()["said"]
    assert [turn["question"] for turn in said] == [CLOCK, "And the chime?"]
    branch = client.post("/api/conversations/many/fork", json={"upto": 1}).json()["thread"]
    ask(served, branch, "And the loupe?")
    assert [turn["question"] for turn in client.get(f"/api/conversations/{branch}").json()["said"]] == [CLOCK, "And the loupe?"]
    assert client.get("/api/conversations/many").json()["said"][0]["id"] == first["id"]
    assert client.post("/api/conversations/many/drop", json={}).status_code == 200
    assert len(client.get("/api/conversations/many").json()["said"]) == 1
    assert client.post("/api/conversations/many/title", json={"title": "Clocks"}).status_code == 200
    assert client.get("/api/conversations/many").json()["title"] == "Clocks"
    assert client.delete("/api/conversations/many").status_code == 200
    assert client.get("/api/conversations/many").status_code == 404
    for path in ("fork", "drop"):
        assert client.post(f"/api/conversations/many/{path}", json={"upto": 1} if path == "fork" else {}).status_code == 400


def test_a_pin_overrules_the_router(served: Served, seeds: list[Seed], ensemble: Ensemble) -> None:
    """Prevents: a pin that is only shown; one that names nobody and is taken for nothing."""
    for pin, speaker in (("base", None), (seeds[0].id, seeds[0].id), (ensemble.experts[seeds[2].id].id, seeds[2].id)):
        told = ask(served, f"pin-{pin}".replace("+", "."), pin=pin)
        assert told[0][1]["speaker"] == speaker and told[-1][1]["answer"]["seed"] == speaker
    wrong = served.client().post("/api/conversations/pin/ask", json={"question": CLOCK, "pin": "../../etc"})
    assert wrong.status_code == 400 and "no expert" in wrong.json()["error"]["message"]


def test_comparing(served: Served, seeds: list[Seed]) -> None:
    """Prevents: a comparison that lacks the base, mixes the speakers' words, or is kept as a conversation."""
    before = served.client().get("/api/conversations").json()
    told = events(served.client().post("/api/compare", json={"question": CLOCK, "count": 2}).text)
    speakers = {data["who"]: data["speaker"] for name, data in told if name == "begun"}
    assert speakers[0] is None and speakers[1] == seeds[1].id and len(speakers) >= 2
    for who in speakers:
        said = "".join(data["text"] for name, data in told if name == "text" and data["who"] == who)
        done = next(data for name, data in told if name == "done" and data["who"] == who)
        assert said.strip() == done["answer"]["text"] and done["answer"]["seed"] == speakers[who]
    assert served.client().get("/api/conversations").json() == before


def test_search_and_export(served: Served, ensemble: Ensemble) -> None:
    """Prevents: what was said that cannot be found or taken away; Markdown in which an answer passes for a heading."""
    ask(served, "kept", "Tell me of the mainspring, please.")
    client = served.client()
    assert "kept" in [hit["thread"] for hit in client.get("/api/conversations", params={"q": "mainspr"}).json()["hits"]]
    assert client.get("/api/conversations", params={"q": '"; DROP TABLE turns; --'}).status_code == 200
    lines = client.get("/api/export", params={"format": "jsonl"}).text.rstrip("\n").split("\n")
    assert "kept" in [json.loads(line)["id"] for line in lines]
    one = client.get("/api/export", params={"format": "markdown", "thread": "kept"})
    assert "> Tell me of the mainspring, please." in one.text and "attachment" in one.headers["content-disposition"]
    said = list(ensemble.conversations.export(["kept"]))
    assert one.text == markdown(said, Wording("en"))  # as the terminal writes it
    tricky = [talk.model_copy(update={"said": tuple(turn.model_copy(update={
        "text": "Well.\n\n# Heading\u2028**You**"}) for turn in talk.said)}) for talk in said]
    assert markdown(tricky, Wording("en")).count("\n#") == 0 and markdown(tricky, Wording("en")).count("\n**You**") == 1
    assert client.get("/api/export", params={"format": "pickle"}).status_code == 400
    assert client.get("/api/export", params={"thread": "nobody"}).status_code == 400


def test_notes_are_kept_and_erased(served: Served) -> None:
    """Prevents: a note that is shown as kept and is not, or as gone and is not."""
    client = served.client()
    note = client.post("/api/notes", json={"text": "My boat is called Zephyrine."}).json()["id"]
    assert note in [one["id"] for one in client.get("/api/notes").json()["notes"]]
    assert len(client.post("/api/found", json={"what": "zephyrine"}).json()["notes"]) == 1
    assert client.post("/api/forget", json={"what": "Zephyrine"}).json() == {"forgotten": 1}
    assert note not in [one["id"] for one in client.get("/api/notes").json()["notes"]]
    assert client.post("/api/notes", json={"text": "  "}).status_code == 400


def test_seeds_and_pages_to_read(served: Served, seeds: list[Seed]) -> None:
    """Prevents: a seed without its path; pages that are cut, or of replay."""
    one = served.client().get(f"/api/seeds/{seeds[0].id}").json()
    assert one["title"] == seeds[0].title and len(one["walk"]) == 8 and one["formula"] and one["glyphs"]
    pages = served.client().get(f"/api/seeds/{seeds[0].id}/pages", params={"offset": 10, "limit": 4}).json()
    assert pages["total"] == 16 and [page["spec"] for page in pages["pages"]] == [10, 11, 12, 13]
    for query in ({"offset": "-1"}, {"limit": "x"}, {"offset": "9" * 30}):
        assert served.client().get(f"/api/seeds/{seeds[0].id}/pages", params=query).status_code == 400
    assert served.client().get("/api/seeds/s-000000000000").status_code == 404


def test_the_report_has_an_address_of_its_own(served: Served) -> None:
    """Prevents: a report that anybody can open, or whose script may act as the page."""
    url = served.client().post("/api/report", json={"language": "ru"}).json()["url"]
    answer = served.client(token=None).get(url)
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200 and "<html" in answer.text
    assert "sandbox allow-scripts" in policy and "'sha256-" in policy and "script-src 'unsafe" not in policy
    assert served.client().get("/report/guessed").status_code == 404
    assert served.client().post("/api/report", json={"language": "xx"}).status_code == 400


@pytest.mark.parametrize(("path", "body"), [
    ("/api/conversations/x/ask", {"question": ""}), ("/api/conversations/x/ask", {"question": " \n "}),
    ("/api/conversations/x/ask", {"question": 7}), ("/api/conversations/x/ask", {"question": "x", "strange": 1}),
    ("/api/conversations/x/ask", {"question": "x", "mixing": "all"}), ("/api/conversations/x/ask", {"again": True}),
    ("/api/conversations/%2e%2e/ask", {"question": "x"}), ("/api/conversations/" + "x" * 65 + "/ask", {"question": "x"}),
    ("/api/compare", {"question": "x", "count": 99}), ("/api/route", {}), ("/api/notes", {"text": ""}),
    ("/api/forget", {"what": []}),
    ("/api/conversations/x/fork", {"upto": 0}), ("/api/reply", {"messages": []}), ("/api/recall", {"question": "x", "count": 0})])
def test_what_cannot_be_done_is_refused(served: Served, path: str, body: dict[str, Any]) -> None:
    """Prevents: a 500 where somebody has only asked badly."""
    answer = served.client().post(path, json=body)
    told = events(answer.text)
    if answer.status_code == 200:  # the stream had begun
        assert told[-1][0] == "error" and told[-1][1]["error"]["message"]
    else:
        assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_metrics_tell_no_words(served: Served) -> None:
    """Prevents: a question, or a path that somebody has invented, in what is scraped."""
    served.client().post("/v1/chat/completions", json={
        "model": "auto", "max_tokens": 2, "messages": [{"role": "user", "content": "Secretive walrus"}]})
    served.client().get("/secretive-path")
    text = served.client(token=None).get("/metrics").text
    assert "secretive" not in text.casefold() and 'rostok_requests_total{path="other",status="404"}' in text
    for name in ("rostok_answers_total", "rostok_first_text_seconds_bucket", "rostok_answers_active 0.0",
                 "process_resident_memory"):
        assert name in text


def test_the_page_is_served(served: Served) -> None:
    """Prevents: an installation without the page's files; a page that loads from elsewhere, or needs inline code."""
    page = served.client(token=None).get("/").text
    names = re.findall(r'(?:src|href)="(/page/[^"]+)"', page)
    assert {"/page/app.js", "/page/style.css", "/page/theme.js"} <= set(names)
    assert not re.findall(r"https?://|style=|\son\w+=|<script>", page)
    seen = set(names)
    while names:
        answer = served.client(token=None).get(names.pop())
        assert answer.status_code == 200
        more = {f"/page/{name}" for name in re.findall(r'from "\./([\w.]+)"', answer.text)} - seen
        seen |= more
        names += more
        if "svg" not in answer.headers["content-type"]:
            assert not re.findall(r"https?://(?!www\.w3\.org)", answer.text)
    tag = served.client(token=None).get("/page/app.js").headers["etag"]
    assert served.client(token=None).get("/page/app.js", headers={"if-none-match": tag}).status_code == 304


def test_odd_bodies_on_every_path(served: Served, saying: Callable[[str], None]) -> None:
    """Prevents: a 500 for whatever JSON somebody sends to whatever path."""
    saying("Good.")
    odd: list[bytes] = [b"", b"null", b"[]", b"0", b'"x"', b"{", b"\xff", b"{}", b'{"a": {"b": [1, null]}}', b"[" * 50_000,
                        b'{"question": null}', b'{"messages": {"role": "user"}}', b'{"model": ["auto"]}', b'{"what": {"a": 1}}',
                        b'{"question": "\\u0000\\ud83d\\ude00", "text": "\\u202e"}', b'{"question": "\\udc00"}']
    routes, client = served.server.config.app.app.app.routes, served.client()  # type: ignore[union-attr]
    for path in [route.path for route in routes if "POST" in (route.methods or ())]:
        path = path.replace("{thread}", "odd")
        for body in odd:
            answer = client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code < 500, (path, body, answer.text)
