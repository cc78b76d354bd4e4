"""Text in pieces: nothing of a stop string is ever shown, however the pieces are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rostok.engines.speech import Speech, overlap

LETTERS = st.text("ab\n", max_size=12)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


@given(text=LETTERS, stops=STOPS, cuts=st.lists(st.integers(0, 12), max_size=6))
def test_what_is_shown_is_the_text_without_stop_strings(text: str, stops: list[str], cuts: list[int]) -> None:
    """Prevents: the first letters of a stop string in a stream, a letter lost or shown twice, a stop string overlooked."""
    shown: list[str] = []
    speech = Speech(stops, shown.append)
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    stopped = any(speech.take(text[start:end]) for start, end in pairwise(places))
    assert stopped == any(stop in text for stop in stops)
    assert speech.text.startswith("".join(shown))  # nothing is taken back
    speech.end()
    assert "".join(shown) == speech.text
    assert text.startswith(speech.text)
    assert not [stop for stop in stops if stop in speech.text]
    assert all(shown)


@given(text=LETTERS, stop=st.text("ab\n", min_size=1, max_size=4))
def test_overlap_is_the_longest_beginning(text: str, stop: str) -> None:
    """Prevents: a beginning that is found too short, so that the rest of it is shown."""
    assert overlap(text, stop) == max(size for size in range(len(stop)) if text.endswith(stop[:size]))
