"""Markdown of a model to HTML that can do nothing but be read.

HTML in the text stays text, images are not drawn (an address in one would tell a stranger that it was read), and what
comes out goes through a sanitiser as the very last step: a sanitiser before Markdown cannot see what Markdown makes.
"""

from __future__ import annotations

from functools import lru_cache

import nh3
from markdown_it import MarkdownIt

from rostok.ensemble.prompt import visible

_TAGS = {"p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a",
         "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"}


def html(text: str) -> str:
    """The text as HTML; links open elsewhere and go to the web only."""
    return _cleaner().clean(_markdown().render(visible(text)))


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True}).enable("table").enable(
        "strikethrough").disable("image")


@lru_cache(maxsize=1)
def _cleaner() -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=_TAGS, attributes={"a": {"href", "title"}, "ol": {"start"}}, url_schemes={"http", "https"}, url_relative="deny",
        link_rel="noopener noreferrer nofollow", set_tag_attribute_values={"a": {"target": "_blank"}})
