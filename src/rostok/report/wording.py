"""Words and numbers in the language of the reader."""

from __future__ import annotations

from rostok.errors import ConfigError
from rostok.report.texts import TEXTS

_SPACE = "\N{NO-BREAK SPACE}"
_MISSING = "–"


class Wording:
    """Looks up interface strings and writes numbers as the language writes them.

    Raises:
        ConfigError: there is no translation into that language.
    """

    def __init__(self, language: str) -> None:
        if language not in TEXTS:
            raise ConfigError(f"there is no report in '{language}'. Known languages: {', '.join(TEXTS)}.")
        self.language = language
        self._texts = TEXTS[language]

    def __call__(self, key: str, **values: object) -> str:
        """The interface string `key` with its blanks filled in."""
        return self._texts[key].format(**values)

    def number(self, value: float | None, digits: int = 2) -> str:
        """`0.71`; a dash for what was not measured."""
        return _MISSING if value is None else f"{value:.{digits}f}".replace(".", self._texts["decimal"])

    def signed(self, value: float | None, digits: int = 3) -> str:
        """`+0.310`, with a real minus sign."""
        return (
            _MISSING
            if value is None
            else f"{value:+.{digits}f}".replace(".", self._texts["decimal"]).replace("-", "−")
        )

    def tick(self, value: float) -> str:
        """A value beside an axis, with no more digits than it needs."""
        return f"{value:.10g}".replace(".", self._texts["decimal"])

    def count(self, value: int) -> str:
        """`43,000`."""
        return f"{value:,}".replace(",", self._texts["thousands"])

    def time(self, seconds: float) -> str:
        """`7 h 05 min`, `3 min 20 s` or `4.2 s`."""
        hour, minute, second = (self._texts[f"unit_{unit}"] for unit in ("h", "min", "s"))
        if seconds < 60:
            return f"{self.number(seconds, 1)}{_SPACE}{second}"
        whole = round(seconds)
        if whole < 3600:
            return f"{whole // 60}{_SPACE}{minute}{_SPACE}{whole % 60:02d}{_SPACE}{second}"
        minutes = round(seconds / 60)
        return f"{minutes // 60}{_SPACE}{hour}{_SPACE}{minutes % 60:02d}{_SPACE}{minute}"

    def memory(self, mib: int) -> str:
        """`820 MiB` or `1.4 GiB`."""
        if mib < 1024:
            return f"{mib}{_SPACE}{self._texts['unit_mib']}"
        return f"{self.number(mib / 1024, 1)}{_SPACE}{self._texts['unit_gib']}"

    def kind(self, kind: str) -> str:
        """What a kind of page is called."""
        return self._texts.get(f"kind_{kind}", kind)
