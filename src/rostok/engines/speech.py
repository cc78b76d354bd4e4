"""Text that grows piece by piece: cut at a stop string, and never shown further than is sure."""

from __future__ import annotations

from collections.abc import Sequence

from rostok.engines.protocol import OnText


class Speech:
    """What a model has said so far. `on_text` gets what can no longer become part of a stop string."""

    def __init__(self, stops: Sequence[str] = (), on_text: OnText | None = None) -> None:
        self.text = ""
        self._stops, self._on_text, self._shown = stops, on_text, 0

    def take(self, piece: str) -> bool:
        """Add a piece. Returns whether a stop string has come; it and what follows are cut off."""
        self.text += piece
        cuts = [at for stop in self._stops if (at := self.text.find(stop)) >= 0]
        if cuts:
            self.text = self.text[: min(cuts)]
        else:
            self._show(len(self.text) - max((overlap(self.text, stop) for stop in self._stops), default=0))
        return bool(cuts)

    def end(self) -> str:
        """Show what was held back, and return the whole text."""
        self._show(len(self.text))
        return self.text

    def _show(self, end: int) -> None:
        if self._on_text is not None and end > self._shown:
            self._on_text(self.text[self._shown : end])
            self._shown = end


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
