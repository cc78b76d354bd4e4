"""How far `rostok estimate` is from what then happens: predict a small run, do it, compare stage by stage.

    make bench-estimate

Both run as a user would run them, in processes of their own: the estimate first, then the whole night in a fresh folder.
Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STAGES = ("author", "corpus", "swarm", "memory", "report")


def rostok(*arguments: str) -> tuple[str, float]:
    """Run a command; returns what it printed, and its seconds."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "rostok.cli", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"rostok {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout, time.perf_counter() - began


def happened(run: Path, wall: float) -> dict[str, dict[str, float]]:
    """Seconds, MiB and bytes of every stage of a finished run. `report` is what was left of the time: start, report, question."""
    found = {name: {"seconds": 0.0, "memory_mib": 0.0} for name in STAGES}
    for line in (run / "journal.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["kind"] == "end" and event["stage"] in found:
            found[event["stage"]]["seconds"] += event["seconds"]
            found[event["stage"]]["memory_mib"] = max(found[event["stage"]]["memory_mib"], event["peak_mib"])
    found["report"]["seconds"] = wall - sum(stage["seconds"] for stage in found.values())
    for name, folders in (("author", ["seeds"]), ("corpus", ["corpora"]), ("swarm", ["school", "experts"]),
                          ("memory", ["memory"])):
        found[name]["disk_bytes"] = sum(path.stat().st_size for folder in folders for path in (run / folder).rglob("*")
                                        if path.is_file())
    return found


def main() -> None:
    """Predict, run, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", default="2")
    parser.add_argument("--pages", default="100")
    parser.add_argument("--set", action="append", default=[], help="settings of both, as rostok takes them")
    given = parser.parse_args()
    options = ["--count", given.count, "--pages", given.pages, *(word for text in given.set for word in ("--set", text))]
    told, took = rostok("estimate", *options, "--json")
    predicted: dict[str, Any] = json.loads(told)
    with tempfile.TemporaryDirectory(prefix="rostok-bench-") as scratch:
        run = Path(scratch) / "run"
        _, wall = rostok("night", str(run), *options)
        actual = happened(run, wall)
    print(f"\n{predicted['machine']}, {given.count} seeds × {given.pages} pages; the estimate took {took:.0f} s\n")
    print(f"{'stage':8}{'predicted s':>12}{'actual s':>10}{'error':>8}{'MiB':>9}{'actual':>8}{'MB disk':>10}{'actual':>8}")
    stages = {}
    for stage in predicted["stages"]:
        name, was = stage["name"], actual[stage["name"]]
        stages[name] = {
            "predicted_s": stage["seconds"], "actual_s": round(was["seconds"], 1),
            "error": round(stage["seconds"] / was["seconds"] - 1, 3),
            "predicted_mib": stage["memory_mib"], "actual_mib": round(was["memory_mib"]) or None,
            "predicted_bytes": stage["disk_bytes"], "actual_bytes": was.get("disk_bytes")}
        row = stages[name]
        print(f"{name:8}{row['predicted_s']:12.1f}{row['actual_s']:10.1f}{row['error']:8.0%}{row['predicted_mib']:9}"
              f"{row['actual_mib'] or '–':>8}{row['predicted_bytes'] / 1e6:10.1f}{(row['actual_bytes'] or 0) / 1e6:8.1f}")
    error = predicted["seconds"] / wall - 1
    print(f"{'in all':8}{predicted['seconds']:12.1f}{wall:10.1f}{error:8.0%}   (asked for: within 20%)")
    print(json.dumps({"predicted_s": predicted["seconds"], "actual_s": round(wall, 1), "error": round(error, 3),
                      "measuring_s": predicted["measuring_s"], "stages": stages, "rates": predicted["rates"],
                      "machine": predicted["machine"]}))


if __name__ == "__main__":
    main()
