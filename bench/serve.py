"""Many people talk with one server at once: errors, words of another's conversation, memory, and how long the first word takes.

    make bench-serve                                # 16 people, 5 minutes
    make bench-serve ARGS="--seconds 60 --run runs/demo"

Without `--run` it takes runs/demo where `make run` has left it, else it grows a run of two small experts first. The server is a
process of its own, `rostok serve`. Half of the people use the page's API, half OpenAI's; each has a name that nobody else says.
Now and then one stops an answer, or leaves in its middle. Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

GENERAL = ("What is the capital of France?", "Why is the sky blue?", "Name two programming languages.",
           "How does a vaccine work?")
NAMES = ("Aldous", "Beatrix", "Cosimo", "Dagmar", "Evander", "Fenella", "Gaspard", "Hedwig", "Ignatius", "Jocasta", "Konrad",
         "Leocadia", "Mortimer", "Nerissa", "Osbert", "Philippa", "Quentin", "Rosamund", "Sigismund", "Theodora", "Ulysses",
         "Valeska", "Wendelin", "Xanthippe")


@dataclass
class Tally:
    """What happened to one person."""

    first_ms: list[float] = field(default_factory=list)
    answers: int = 0
    stopped: int = 0
    left: int = 0
    errors: list[str] = field(default_factory=list)
    crossed: list[str] = field(default_factory=list)


class Person:
    """Somebody who asks one question after the other until it is over, and looks whether all words are their own."""

    def __init__(self, number: int, address: str, token: str, questions: list[str]) -> None:
        self.name = NAMES[number % len(NAMES)] + str(number // len(NAMES) or "")
        self.others = [name for name in NAMES if name != self.name]
        self.address, self.page, self.dice, self.questions = address, number % 2 == 0, random.Random(number), questions
        self.thread, self.asked, self.tally = f"person-{number}", list[str](), Tally()
        self.http = httpx2.Client(base_url=address, trust_env=False, timeout=120, headers={"authorization": f"Bearer {token}"})

    def talk(self, until: float) -> None:
        """Ask until then."""
        while time.monotonic() < until:
            what = self.dice.choice(self.questions)
            question = f"I am {self.name}. {what}" if self.dice.random() < 0.5 else what
            how = self.dice.choices(("whole", "stop", "leave"), (18, 1, 1))[0]
            try:
                while not self.ask(question, how):
                    time.sleep(0.1)  # the answer that was left is just being kept
            except Exception as error:  # noqa: BLE001  # the bench counts whatever goes wrong
                self.tally.errors.append(f"{type(error).__name__}: {error}"[:200])
                time.sleep(0.5)
        if self.page:
            self.check_kept()
        self.http.close()

    def ask(self, question: str, how: str) -> bool:
        """One answer, as a stream. False when the conversation is still being answered, as told by the status 409."""
        path, body = f"/api/conversations/{self.thread}/ask", dict[str, Any](question=question)
        if not self.page:
            path = "/v1/chat/completions"
            body = {"model": "auto", "stream": True, "max_tokens": 60, "messages": [{"role": "user", "content": question}]}
        began, said, name, ended = time.perf_counter(), "", "", False
        with self.http.stream("POST", path, json=body) as answer:
            if answer.status_code == 409:
                return False
            if self.page:
                self.asked.append(question)
            if answer.status_code != 200:
                raise RuntimeError(f"{answer.status_code} {answer.read()[:150]!r}")
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                data = json.loads(line.removeprefix("data: "))
                if "error" in data:
                    raise RuntimeError(str(data["error"])[:150])
                piece = data.get("text", "") if self.page else (data["choices"][0]["delta"].get("content") or "")
                if piece and not said:
                    self.tally.first_ms.append(1000 * (time.perf_counter() - began))
                said += piece
                if self.page and name == "done":
                    ended = True
                    self.check(data["answer"], said)
                elif not self.page and data["choices"][0]["finish_reason"]:
                    ended = True
                    self.check({"text": said.strip(), "memories": data["rostok"]["memories"]}, said)
                elif len(said) > 40 and how == "leave":
                    self.tally.left += 1
                    return True
                elif len(said) > 40 and how == "stop" and self.page:
                    how = "stopped"
                    self.http_stop()
                    self.tally.stopped += 1
        if not ended:
            raise RuntimeError("the stream ended without its answer")
        self.tally.answers += 1
        return True

    def http_stop(self) -> None:
        """Over a connection of its own, as a browser does."""
        httpx2.post(f"{self.address}/api/conversations/{self.thread}/stop", json={}, trust_env=False,
                    headers={"authorization": self.http.headers["authorization"]})

    def check(self, answer: dict[str, Any], said: str) -> None:
        """What was streamed is the answer, and nothing of anybody else stands in it or in what it has read."""
        if answer["text"] != said.strip():
            self.tally.crossed.append(f"{self.name}: streamed {said[:60]!r}, kept {answer['text'][:60]!r}")
        read = " ".join([answer["text"], *(memory["text"] for memory in answer["memories"] if memory["trust"] != "corpus")])
        self.tally.crossed += [f"{self.name} got words of {name}" for name in self.others if re.search(rf"\b{name}\b", read)]

    def check_kept(self) -> None:
        """The conversation that the server keeps holds this person's questions in their order, and no other."""
        kept = [turn["question"] for turn in self.http.get(f"/api/conversations/{self.thread}").json()["said"]]
        mine = iter(self.asked)
        if not all(question in mine for question in kept):  # one that was left before its first word may be missing
            self.tally.crossed.append(f"{self.name}: the kept conversation is another")


def main() -> None:
    """Grow a run if there is none, serve it, talk, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rostok-bench-") as scratch:
        run = given.run or (Path("runs/demo") if Path("runs/demo/experts.jsonl").is_file() else grown(Path(scratch) / "run"))
        with served(run) as (address, token):
            people = [Person(number, address, token, questions(run)) for number in range(given.people)]
            memory, until = [], time.monotonic() + given.seconds
            for one in people[:4]:
                one.ask("Hello.", "whole")
                one.tally = Tally()
            threads = [threading.Thread(target=one.talk, args=(until,)) for one in people]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                memory.append(resident_mib(address, token))
                time.sleep(min(5.0, given.seconds / 20))
            for thread in threads:
                thread.join()
            left = gauge(address, token, "rostok_answers_active")
    show([one.tally for one in people], memory, given, left)


def grown(run: Path) -> Path:
    """Two experts of 60 pages each."""
    print("growing a small run first", file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "rostok.cli", "night", str(run), "--count", "2", "--pages", "60"], check=False)
    if done.returncode:
        raise SystemExit(f"rostok night ended with {done.returncode}")
    return run


def questions(run: Path) -> list[str]:
    """Some that an expert should answer, some for the base."""
    seeds = [json.loads(line) for line in (run / "seeds" / "library.jsonl").read_text(encoding="utf-8").splitlines()]
    return [*GENERAL, *(f"What does the {node['name']} lead to?" for seed in seeds for node in seed["nodes"][:3])]


@contextmanager
def served(run: Path) -> Iterator[tuple[str, str]]:
    """Address and token of a server that is ended afterwards."""
    command = [sys.executable, "-m", "rostok.cli", "serve", str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"(http://\S+)/#token=(\S+)", line)
            if found:
                yield found[1], found[2]
                break
        else:
            raise SystemExit("the server did not begin")
    finally:
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.wait(30)
        print(f"the server ended {time.monotonic() - began:.1f} s after Ctrl-C", file=sys.stderr)


def gauge(address: str, token: str, name: str) -> float:
    """A figure of /metrics."""
    text = httpx2.get(f"{address}/metrics", trust_env=False, headers={"authorization": f"Bearer {token}"}).text
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]


def resident_mib(address: str, token: str) -> float:
    """Memory that the server holds."""
    return gauge(address, token, "process_resident_memory_bytes") / (1 << 20)


def show(tallies: list[Tally], memory: list[float], given: argparse.Namespace, left: float) -> None:
    """The table and the last line."""
    first = sorted(value for tally in tallies for value in tally.first_ms)
    errors = [error for tally in tallies for error in tally.errors]
    crossed = [text for tally in tallies for text in tally.crossed]
    answers = sum(tally.answers for tally in tallies)
    settled = memory[len(memory) // 5 :] or memory  # caches fill in the first fifth
    third = max(1, len(settled) // 3)
    start, end = sum(settled[:third]) / third, sum(settled[-third:]) / third
    figures: dict[str, Any] = {
        "people": given.people, "seconds": given.seconds, "answers": answers,
        "answers_per_minute": round(60 * answers / given.seconds, 1),
        "errors": len(errors), "crossed": len(crossed), "stopped": sum(tally.stopped for tally in tallies),
        "left": sum(tally.left for tally in tallies), "still_active": left,
        "ttft_ms_p50": round(first[len(first) // 2]), "ttft_ms_p99": round(first[int(len(first) * 0.99)]),
        "memory_start_mib": round(start), "memory_end_mib": round(end), "memory_peak_mib": round(max(memory))}
    print()
    for name, value in figures.items():
        print(f"{name:20} {value:>10}")
    for text in [*errors[:5], *crossed[:5]]:
        print(f"  {text}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
