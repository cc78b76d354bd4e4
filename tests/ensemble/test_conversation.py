"""Talking with a run: who answers, what is read, what is remembered, and what is refused."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rostok.config import Settings
from rostok.embedder import Embedder
from rostok.engines.protocol import Message
from rostok.ensemble.conversation import Ensemble, open_ensemble
from rostok.ensemble.history.answer import Answer
from rostok.ensemble.recall.index import index
from rostok.ensemble.registry import admit
from rostok.ensemble.routing.router import Route
from rostok.ensemble.talk import Fleeting, Manner
from rostok.errors import DataError, ModelError, QuestionError, RunError
from rostok.models import Base
from rostok.records import append_jsonl, file_digest, read_jsonl
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm.records import Expert

# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_expert_answers_with_its_own_pages(ensemble: Ensemble, seeds: list[Seed]) -> None:
    """The base's answer under the expert's name; pages of another seed; the route told after the words."""
    told: list[object] = []
    question = "What does the escapement do?"
    answer = ensemble.ask(question, "expert", told.append, told.append)
    assert (answer.seed, answer.title) == (seeds[1].id, seeds[1].title)
    assert answer.score >= answer.threshold and 0 < answer.tokens <= 8 and answer.seconds > 0
    assert len(answer.memories) == 2 and {memory.seed for memory in answer.memories} == {seeds[1].id}
    assert all(seeds[1].title in memory.source and memory.kind in memory.source for memory in answer.memories)
    assert isinstance(told[0], Route) and told[0].seed == seeds[1].id
    assert "".join(str(piece) for piece in told[1:]).strip() == answer.text
    assert answer == Answer.model_validate_json(answer.line())


def test_base_answers_without_pages_and_differs_from_the_expert(ensemble: Ensemble) -> None:
    """An adapter left switched on makes the base speak like the last expert."""
    alone, routed, *_ = ensemble.compare("What does the queen bee do in the hive?")
    assert alone.seed is None and alone.title == "base" and alone.memories == ()
    assert routed.seed is not None and routed.memories != () and alone.text != routed.text
    general = ensemble.ask("Why is the sky blue?", "general")
    assert general.seed is None and general.memories == () and general.score < general.threshold
    again = ensemble.compare("What does the queen bee do in the hive?", 0)[0]
    assert again.text == alone.text


def test_pin_overrides_the_router(ensemble: Ensemble, seeds: list[Seed]) -> None:
    """A pin that is not found must not fall back to somebody else in silence."""
    routes: list[Route] = []
    question = "Why is the sky blue?"
    assert ensemble.ask(question, "pin", None, routes.append, pin=seeds[2].title.lower()).seed == seeds[2].id
    assert ensemble.ask("And the escapement?", "pin", None, routes.append, pin="base").seed is None
    assert [route.pinned for route in routes] == [True, True]
    with pytest.raises(RunError, match=r"no expert 'nobody'.*The Hive That Kept Accounts.*base"):
        ensemble.ask(question, "pin", pin="nobody")
    with pytest.raises(QuestionError, match="empty"):
        ensemble.ask(" \n", "pin")


def test_a_splice_speaks_for_the_seeds_of_its_parents(ready: Run, settings: Settings, seeds: list[Seed], base: Base,
                                                       adapter: Path) -> None:
    """Prevents: a spliced expert that nobody can call, or that reads no pages because it has no seed of its own."""
    name, lines = "x-0123456789ab", read_jsonl(ready.registry, Expert)
    splice = lines[0].model_copy(update={
        "id": f"{base.sha256[:6]}+abcdef", "seed": name, "title": "Hive + Clock", "operator": "merge",
        "folder": f"experts/{name}", "parents": (lines[0].id, lines[1].id), "of_seeds": (seeds[0].id, seeds[1].id)})
    (ready.experts / name).mkdir()
    (ready.experts / name / "adapter.gguf").write_bytes(adapter.read_bytes())
    strangers = [splice.model_copy(update={"seed": "../x", "id": "one"}), splice.model_copy(update={"seed": "x-1", "id": "two"}),
                 splice.model_copy(update={"seed": "../y", "id": "three", "operator": ""}),
                 splice.model_copy(update={"seed": "x-ba9876543210", "id": "four", "of_seeds": ("s-0",)})]
    append_jsonl(ready.registry, [splice, *strangers])
    with open_ensemble(ready, settings, max_tokens=4) as ensemble:
        assert [sentence.split("(")[1].split(")")[0] for sentence in ensemble.skipped] == ["one", "two", "three", "four"]
        for pin, question in ((name, "What does the escapement do?"), (splice.id, "What does the queen bee do?"),
                              ("hive + clock", "What does the escapement do?")):
            answer = ensemble.ask(question, pin, pin=pin)
            assert (answer.seed, answer.title) == (name, "Hive + Clock")
            assert {memory.seed for memory in answer.memories} == {seeds["queen" not in question].id}
        assert ensemble.ask("What does the escapement do?", "free").seed == seeds[1].id


def test_only_the_users_words_are_remembered(ensemble: Ensemble) -> None:
    """A small model's inventions, stored as facts, come back as evidence (97.8% junk in one audit, mem0#4573)."""
    said = ["My dog is called Rex.", "I live in a lighthouse.", "The wind is strong.", "My boat is red."]
    for text in said:
        ensemble.ask(text, "words")
    kept = [turn.id for turn in ensemble.conversations.turns("words")]
    assert set(kept) <= set(ensemble.archive.words.known("turns"))
    assert [ensemble.conversations.words()[key][3] for key in kept] == said
    answer = ensemble.ask("What is my dog called?", "words")  # said too long ago to be read as history
    assert [memory.text for memory in answer.memories if memory.seed is None] == ["My dog is called Rex."]
    assert "turn 1" in answer.memories[0].source and answer.memories[0].trust == "said"
    other = ensemble.ask("What is my dog called?", "other words")  # another conversation is another person's
    assert not [memory for memory in other.memories if memory.seed is None]


def test_stopped_answer_leaves_no_turn_and_a_working_engine(ensemble: Ensemble) -> None:
    """Ctrl-C in mid-answer: half a turn in the thread, or an engine that goes on writing for nobody."""
    ensemble.ask("Why is the sky blue?", "stopped")

    def stop(piece: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensemble.ask("What does the queen do?", "stopped", stop)
    assert len(ensemble.conversations.turns("stopped")) == 1
    assert ensemble.ask("What does the drone do?", "stopped").text
    assert [turn.question for turn in ensemble.conversations.turns("stopped")] == ["Why is the sky blue?",
                                                                                  "What does the drone do?"]


def test_stopped_answer_stops_the_engine(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C the next question waits until the engine has written to the end for nobody."""

    def stop(piece: str) -> None:
        raise KeyboardInterrupt

    before = ensemble.engine.decoded_tokens
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ensemble.speaker, "sampling", replace(ensemble.speaker.sampling, max_tokens=300))
        ensemble.ask("Tell me a very long story.", "stopped engine", stop)
    ensemble.ask("What does the drone do?", "stopped engine")  # waits for what the engine is still at
    assert ensemble.engine.decoded_tokens - before < 30


def test_a_stop_from_another_thread_keeps_what_was_said(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a stop button that throws the answer away, or leaves the engine writing; a stop before the first word whose
    silence the model takes up."""
    stop, heard = threading.Event(), list[str]()

    def hear(piece: str) -> None:
        heard.append(piece)
        stop.set()

    monkeypatch.setattr(ensemble.speaker, "sampling", replace(ensemble.speaker.sampling, max_tokens=300))
    answer = ensemble.ask("Tell me a very long story.", "stop", hear, stop=stop)
    assert answer.finish == "stopped" and answer.text and answer.tokens < 30
    assert ensemble.conversations.turns("stop")[0].answer == answer
    silent = ensemble.ask("And another one.", "stop", stop=stop)
    assert (silent.finish, silent.text) == ("stopped", "")
    heard.clear()
    assert ensemble.ask("Why is the sky blue?", "stop", heard.append).text
    assert len(ensemble.conversations.turns("stop")) == 3


def test_another_answer_replaces_the_last(ensemble: Ensemble) -> None:
    """Prevents: the same answer again, a second turn beside the first, and an edit that leaves the old words to be recalled."""
    with pytest.raises(RunError, match="nothing to answer again"):
        ensemble.ask("", "again", again=True)
    ensemble.ask("Why is the sky blue?", "again")
    first = ensemble.ask("Tell me about the sea.", "again")
    texts = {first.text, *(ensemble.ask("", "again", again=True).text for _ in range(3))}
    turns = ensemble.conversations.turns("again")
    assert [(turn.id, turn.question) for turn in turns][1] == (first.id, "Tell me about the sea.") and len(turns) == 2
    assert len(texts) > 1
    edited = ensemble.ask("My boat is called Kittiwake.", "again", again=True)
    assert edited.id == first.id
    assert [turn.question for turn in ensemble.conversations.turns("again")][1] == "My boat is called Kittiwake."
    assert ensemble.archive.words.known("turns").count(first.id) == 1
    assert not ensemble.conversations.search("sea")


def test_another_answer_that_was_stopped_before_its_first_word_leaves_the_old_one(ensemble: Ensemble) -> None:
    """Prevents: an answer that is lost for ever because a better one was wished for and then not."""
    kept, stop = ensemble.ask("Tell me about the sea.", "kept"), threading.Event()
    fleeting = Fleeting(ensemble)
    first = fleeting.ask("Why is the sky blue?", Manner(), lambda _: None, lambda _: None)
    stop.set()
    for question in ("", "Tell me about the moon."):
        silent = ensemble.ask(question, "kept", again=True, stop=stop)
        assert (silent.finish, silent.text, silent.id) == ("stopped", "", "")
        (left,) = ensemble.conversations.turns("kept")
        assert (left.question, left.answer) == ("Tell me about the sea.", kept)
    assert not ensemble.archive.conversations.find("moon")[1] and ensemble.archive.words.known("turns").count(kept.id) == 1
    assert fleeting.ask("", Manner(), lambda _: None, lambda _: None, stop=stop, again=True).text == ""
    assert [turn.answer for turn in fleeting.turns()] == [first]
    assert ensemble.ask("", "kept", again=True).id == kept.id


def test_sixteen_people_at_once(ensemble: Ensemble) -> None:
    """Prevents: answers of another person's thread, lost turns, and a tokenizer that is `Already borrowed`."""
    failed: list[BaseException] = []

    def person(number: int) -> None:
        try:
            for turn in range(2):
                pieces: list[str] = []
                question = f"I am person {number}, turn {turn}. Why is the sky blue?"
                answer = ensemble.ask(question, f"person {number}", pieces.append)
                assert "".join(pieces).strip() == answer.text
                ensemble.recall(f"Who is person {number}?")
        except BaseException as error:  # noqa: BLE001  # told below
            failed.append(error)

    people = [threading.Thread(target=person, args=(number,)) for number in range(16)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert not failed
    for number in range(16):
        turns = ensemble.conversations.turns(f"person {number}")
        assert [turn.question[: -len(" Why is the sky blue?")] for turn in turns] == [
            f"I am person {number}, turn {turn}." for turn in range(2)]
        assert all(turn.answer is not None and turn.answer.id == turn.id and turn.answer.text == turn.text for turn in turns)


def test_two_questions_at_once_in_one_conversation(ensemble: Ensemble) -> None:
    """Prevents: two browser tabs on one conversation, of which the second one overwrites the turn of the first."""
    people = [threading.Thread(target=ensemble.ask, args=(f"Question {number}?", "tabs")) for number in range(4)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    asked = sorted(turn.question for turn in ensemble.conversations.turns("tabs"))
    assert asked == [f"Question {number}?" for number in range(4)]


def test_notes_are_read_in_every_conversation_and_can_be_left_out(ensemble: Ensemble) -> None:
    """Prevents: notes that a new conversation has not; a switch that is looked at for pages only."""
    key = ensemble.remember("The escapement of my clock is broken.")
    try:
        answer = ensemble.ask("What is wrong with the escapement of my clock?", "notes")
        assert answer.memories[0].id == key and answer.memories[0].trust == "note" and len(answer.memories) == 3
        messages = [Message("user", "What is wrong with the escapement of my clock?")]
        assert ensemble.reply(messages).memories[0].id == key
        kept = ensemble.ask(messages[0].content, "no notes", retrieval=False)
        for without in (kept, ensemble.reply(messages, retrieval=False)):
            assert without.memories == () and without.seed == answer.seed
        found = ensemble.recall("Is the escapement of my clock broken?", 8)
        assert {one.trust for one in found} == {"note", "said", "corpus"} and found[0].id == key
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    finally:
        ensemble.forget([key])


def test_an_answer_marks_the_notes_that_it_read_as_used(ensemble: Ensemble) -> None:
    """Prevents: a recency that counts from the day a note was made, however often it is needed."""
    key = ensemble.remember("The escapement of my clock is broken.")
    store = ensemble.archive.words._opened()
    try:
        before = store.get("notes", [key])[2][0]["used"]
        ensemble.ask("How is the weather?", "elsewhere", retrieval=False)
        assert store.get("notes", [key])[2][0]["used"] == before
        ensemble.ask("What is wrong with the escapement of my clock?", "used")
        assert store.get("notes", [key])[2][0]["used"] > before
    finally:
        ensemble.forget([key])


def test_reply_keeps_nothing(ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: an API client's conversation that turns up in the list, or is routed by its first message; the hour at which
    somebody who wants nothing kept has asked, among the notes."""
    note = ensemble.remember("The escapement of my clock is broken.")
    asked, store = [Message("user", "What is wrong with the escapement of my clock?")], ensemble.archive.words._opened()
    used = store.get("notes", [note])[2]
    assert note in [one.id for one in ensemble.reply(asked).memories] and store.get("notes", [note])[2] == used
    ensemble.forget([note])
    before = len(ensemble.conversations.list())
    messages = [Message("system", "Be brief."), Message("user", "What does the queen bee do?"), Message("assistant", "She lays."),
                Message("user", "What does the escapement do?")]
    pieces: list[str] = []
    answer = ensemble.reply(messages, pieces.append, seed=5)
    assert answer.seed == seeds[1].id and answer.id == "" and "".join(pieces).strip() == answer.text
    assert answer.prompt_tokens > 20 and ensemble.reply(messages, seed=5).text == answer.text
    assert len(ensemble.conversations.list()) == before
    assert ensemble.reply(messages, pin="base").seed is None
    for wrong in ([], messages[:1], messages[:3], [Message("user", " ")], [Message("user", "x" * 1_000_000)]):
        with pytest.raises(QuestionError):
            ensemble.reply(wrong)


def test_comparison_names_the_best_experts(ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: a comparison of the base with itself where the router abstains."""
    answers = ensemble.compare("What does the escapement do?", 2)
    assert [answer.seed for answer in answers][:2] == [None, seeds[1].id] and 2 <= len(answers) <= 3
    assert len(ensemble.compare("Why is the sky blue?", 1)) == 2
    with pytest.raises(QuestionError):
        ensemble.compare(" ")


def test_question_too_long_for_the_model_is_told(ensemble: Ensemble) -> None:
    """It must not be cut in silence, and the conversation goes on."""
    with pytest.raises(ModelError, match="do not fit the context of 512"):
        ensemble.ask("word " * 700, "long")
    assert ensemble.ask("Why is the sky blue?", "long").text


def test_experts_can_answer_without_reading(ready: Run, settings: Settings) -> None:
    """What the adapter knows by itself is measured with this switch."""
    set_so = settings.model_copy(update={"ensemble": settings.ensemble.model_copy(update={"retrieval": False})})
    with open_ensemble(ready, set_so, max_tokens=2) as ensemble:
        assert ensemble.ask("What does the escapement do?", "set").memories == ()
    with open_ensemble(ready, settings, read_memories=False, max_tokens=16) as ensemble:
        alone, routed = ensemble.compare("What does the escapement do?", 1)
        assert routed.seed is not None and routed.memories == alone.memories == ()
        assert routed.text != alone.text  # the prompts are the same: it is the adapter that speaks


# ── after a restart ─────────────────────────────────────────────────────────────────────────────────────────


def test_conversation_goes_on_after_a_restart(ready: Run, settings: Settings, seeds: list[Seed],
                                              embedder: Embedder) -> None:
    """A thread that begins anew, or whose words are lost with a damaged memory."""
    with open_ensemble(ready, settings, max_tokens=4) as ensemble:
        first = ensemble.ask("My dog is called Rex.", "t")
    (ready.memory / "chroma.sqlite3").write_bytes(b"damaged" * 999)
    with open_ensemble(ready, settings, max_tokens=4) as ensemble:
        kept = ensemble.conversations.turns("t")
        assert [(turn.question, turn.text, turn.answer) for turn in kept] == [("My dog is called Rex.", first.text, first)]
        assert ensemble.archive.words.known("turns") == [first.id]
        ensemble.ask("Why is the sky blue?", "t")
        assert [turn.number for turn in ensemble.conversations.turns("t")] == [0, 1]
        assert ensemble.conversations.turns("unknown") == []
    with sqlite3.connect(ready.conversations) as connection:  # not one checkpoint for every step of every turn
        assert connection.execute("SELECT count(*) FROM checkpoints").fetchone()[0] == 1
    assert index(ready, seeds, embedder) == 0


def test_damaged_conversations_are_told(ready: Run, settings: Settings) -> None:
    """`sqlite3.DatabaseError: file is not a database`."""
    ready.conversations.write_bytes(b"not a database" * 400)
    with pytest.raises(DataError, match=r"conversations\.sqlite cannot be read.*Move that file away"), \
            open_ensemble(ready, settings):
        pass


# ── who serves ──────────────────────────────────────────────────────────────────────────────────────────────


def _change(run: Run, place: int, **changes: str) -> None:
    experts = read_jsonl(run.registry, Expert)
    experts[place] = experts[place].model_copy(update=changes)
    run.registry.unlink()
    append_jsonl(run.registry, experts)


def test_changed_and_missing_adapters_are_skipped_by_name(ready: Run, settings: Settings,
                                                          seeds: list[Seed]) -> None:
    """One bad file must not silence the others, and must not be loaded."""
    with (ready.experts / seeds[0].id / "adapter.gguf").open("ab") as file:
        file.write(b"x")
    (ready.experts / seeds[2].id / "adapter.gguf").unlink()
    with open_ensemble(ready, settings, max_tokens=4) as ensemble:
        changed, missing = ensemble.skipped
        assert seeds[0].title in changed and "was changed" in changed
        assert seeds[2].title in missing and "is missing" in missing
        assert ensemble.ask("What does the escapement do?", "t").seed == seeds[1].id
        gone = ensemble.ask("What does the queen bee do?", "t")
        assert gone.seed is None and seeds[0].title in gone.note and gone.memories == ()


def test_expert_for_another_base_is_refused(ready: Run, settings: Settings) -> None:
    """It would load (the shapes are the same) and talk nonsense."""
    _change(ready, 1, base_sha256="f" * 64)
    with pytest.raises(ModelError, match=r"The Clock Without a Maker.*an adapter for another base"), \
            open_ensemble(ready, settings):
        pass


def test_registry_cannot_name_files_outside_the_run(ready: Run, base: Base, seeds: list[Seed],
                                                    tmp_path: Path) -> None:
    """`../../adapter` in a run that somebody sent (vllm#46287)."""
    (tmp_path / "adapter.gguf").write_bytes(b"x")
    _change(ready, 0, seed="../..")
    serving = admit(ready, seeds, base)
    assert len(serving.experts) == 2 and "not in the library" in serving.skipped[0]


def test_run_without_experts_says_what_to_do(ready: Run, settings: Settings, seeds: list[Seed],
                                             base: Base) -> None:
    """A chat with the base alone, sold as the ensemble."""
    for seed in seeds:
        (ready.experts / seed.id / "adapter.gguf").unlink()
    with pytest.raises(RunError, match=r"no expert .* can serve.*rostok swarm train"):
        admit(ready, seeds, base)
    ready.registry.unlink()
    with pytest.raises(RunError, match=r"no experts yet.*rostok swarm train"), open_ensemble(ready, settings):
        pass


def test_adapter_that_llamacpp_refuses_is_skipped(ready: Run, settings: Settings, seeds: list[Seed]) -> None:
    """A file that is whole by its hash, and no adapter of this base."""
    path = ready.experts / seeds[0].id / "adapter.gguf"
    path.write_bytes(b"GGUF no more")
    _change(ready, 0, gguf_sha256=file_digest(path))
    with open_ensemble(ready, settings) as ensemble:
        assert seeds[0].title in ensemble.skipped[0] and "does not fit" in ensemble.skipped[0]
        assert set(ensemble.experts) == {seeds[1].id, seeds[2].id}
