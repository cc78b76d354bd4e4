"""The card of a corpus: README.md in its folder, for people and for the Hugging Face hub."""

from __future__ import annotations

from rostok.generator.records import Manifest
from rostok.seeds.record import Seed


def card(seed: Seed, manifest: Manifest) -> str:
    """What the corpus is, who wrote it, and what was refused."""
    kinds = "\n".join(f"| {kind} | {number} |" for kind, number in manifest.by_kind.items() if number)
    reasons = "\n".join(f"| {reason} | {number} |" for reason, number in sorted(manifest.rejected.items())) or "| – | 0 |"
    return f"""---
language: {seed.language}
license: apache-2.0
tags: [synthetic, rostok]
---
# {seed.title}

{manifest.pages} pages ({manifest.characters:,} characters, {manifest.held_out} held out) grown from the thought seed `{seed.id}`,
theme "{seed.lineage.theme}".

{seed.scene}

`{seed.glyphs}` · {seed.formula}

Pages of kind *written*, *rewritten* and *replay* are a model's words (`author: model`); *composed* and *dialogue* are composed by
code from the seed's graph, the model's sentences in the seed and {manifest.bank} more in the bank (`author: code`). Model sha256
`{manifest.model[:16]}`, Rostok {manifest.rostok}, random seed {manifest.random_seed}.

| kind | pages |
|---|---|
{kinds}

| refused because | pages |
|---|---|
{reasons}
"""
