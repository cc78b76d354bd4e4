"""What the experts of a run answer in sixteen wordings that helped to choose nothing, every node in each of them.

    make bench-wordings ARGS="runs/mine"

Greedy answers of each expert about its own seed, as in the open probes, in the wordings of bench/questions.py. Prints the shares
by expert and by wording and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from rostok.environment import prepare

prepare()

from questions import PARAPHRASES  # noqa: E402  # bench/questions.py

from rostok.engines.open import open_engine  # noqa: E402
from rostok.models import find_base  # noqa: E402
from rostok.runs import Run  # noqa: E402
from rostok.seeds.library import Library  # noqa: E402
from rostok.swarm.probes import ask, right  # noqa: E402


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a grown run")
    run = Run(parser.parse_args().run)
    settings = run.read().settings
    by_expert: dict[str, float] = {}
    by_wording: dict[str, list[bool]] = {wording: [] for wording in PARAPHRASES}
    with open_engine(find_base(settings.models.base), settings.models) as engine:
        for seed in Library(run.seeds).seeds():
            path = run.experts / seed.id / "adapter.gguf"
            if not path.is_file():
                continue
            engine.add_adapter(seed.id, path)
            asked = [(wording.format(x=seed.name(step.source)), seed.name(step.source), seed.name(step.target))
                     for step in seed.sole_steps() for wording in PARAPHRASES]
            hits = [right(answer, seed, about, expected)
                    for answer, (_, about, expected) in zip(ask(engine, asked, adapter=seed.id), asked, strict=True)]
            for place, hit in enumerate(hits):
                by_wording[PARAPHRASES[place % len(PARAPHRASES)]].append(hit)
            by_expert[seed.id] = round(statistics.fmean(hits), 3)
            print(f"{by_expert[seed.id]:6.1%}  {seed.title}", flush=True)
    if not by_expert:
        raise SystemExit(f"{run.folder} has no experts. Train them: rostok swarm train {run.folder}")
    shares = {wording: round(statistics.fmean(hits), 3) for wording, hits in by_wording.items()}
    for wording, share in shares.items():
        print(f"{share:6.1%}  {wording}")
    print(json.dumps({"right": round(statistics.fmean(by_expert.values()), 3), "items": sum(map(len, by_wording.values())),
                      "experts": by_expert, "wordings": shares}))


if __name__ == "__main__":
    main()
