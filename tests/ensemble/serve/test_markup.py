"""A model's Markdown on its way to HTML."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.ensemble.serve.markup import html

HOSTILE = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "[x](JaVaScRiPt&colon;alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)", "![x](https://evil.example/seen.png)",
    "![x][1]\n\n[1]: https://evil.example/x.png", "<iframe src=//evil.example></iframe>", "[x](//evil.example)",
    "[x](/api/run)", "<svg/onload=alert(1)>", "<style>*{background:url(//e)}", "`<b>`<b onclick=x>",
    "<a href='javascript:x'>y</a>", "[a]: javascript:alert(1)\n\n[a]", "<javascript:alert(1)>", "<base href=//e>",
    "[x](vbscript:msgbox)", "[x](\x01javascript:alert(1))", "<math><mi//xlink:href='data:x'>",
    "```<script>\n<script>alert(1)</script>\n```", "<form action=//e><input name=x>",
    "<meta http-equiv=refresh content='0;url=//e'>", "[x](file:///etc/passwd)", "<!--<img src=x>-->",
    "| <img src=x> | b |\n|---|---|\n| [x](javascript:1) | c |", "<noscript><p title='</noscript><img src=x onerror=1>'>")
_TAG = re.compile(r"<(/?)([a-z0-9]+)([^>]*)>")
_ALLOWED = {"p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a", "h1", "h2", "h3", "h4",
            "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"}


def _harmless(made: str) -> None:
    for _, name, attributes in _TAG.findall(made):
        assert name in _ALLOWED, made
        for attribute in re.findall(r'([\w-]+)="([^"]*)"', attributes):
            if attribute[0] == "href":
                assert re.match(r"https?://", attribute[1]), made
            else:
                assert attribute[0] in ("rel", "target", "title", "start"), made
    assert made.count("<") == len(_TAG.findall(made)), made


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(text: str) -> None:
    """Prevents: a script, a link that runs one, an address that is fetched, by whatever trick of Markdown."""
    _harmless(html(text))
    _harmless(html(f"> {text}\n\n1. {text}\n\n**{text}**"))


_MARKS = ["[", "](", ")", "<", ">", "`", "\n", "![", "&", '"', "javascript:"]


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.sampled_from(_MARKS), st.text(max_size=8)), max_size=8))
def test_no_mixture_of_tricks_gets_through(parts: list[str]) -> None:
    """Prevents: two harmless halves that make a whole."""
    _harmless(html("".join(parts)))


def test_what_is_meant_is_kept() -> None:
    """Prevents: a sanitiser that leaves nothing to read."""
    made = html("# One\n\n**two** *three* `four`\n\n- five\n\n| a | b |\n|---|---|\n| c | d |\n\n"
                "[six](https://example.org/x \"y\")")
    for part in ("<h1>One</h1>", "<strong>two</strong>", "<em>three</em>", "<code>four</code>", "<li>five</li>", "<td>c</td>"):
        assert part in made
    for part in ('<a href="https://example.org/x"', 'rel="noopener noreferrer nofollow"', 'target="_blank"'):
        assert part in made
    assert "evil.example" in html("![a](https://evil.example/x.png)")  # as a link that somebody may read, never as an image
