from __future__ import annotations

import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from nbcache.notebook.code_view import coloured, diff_block, source_block
from nbcache.notebook.markup import Element, element, html_of, record_of
from tests.notebook.desks import text_of

EVIL = "<script>x</script>\"'&"


def pieces(text: str, language: str = "python") -> dict[str, str]:
    return {
        "".join(map(str, each.children)): each.looks
        for each in coloured(text, language)
        if isinstance(each, Element)
    }


def test_text_and_attributes_are_escaped_and_looks_become_styles() -> None:
    html = html_of([element("p", "faint", EVIL, element("b", "", EVIL), aria_label=EVIL)])

    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 3
    assert 'aria-label="' in html
    assert 'style="opacity' in html


@given(st.text(alphabet="ab #'\"\\\n1+-@<&", max_size=60))
def test_colours_never_change_what_is_said(text: str) -> None:
    block = source_block(text, "python")
    assert text_of(record_of([block])) == text
    assert unescape(re.sub("<[^>]*>", "", html_of([block]))) == text
    assert text_of(record_of([diff_block(f" {text}")])) == f" {text}\n"


def test_comments_strings_numbers_and_keywords_have_colours() -> None:
    assert pieces("for x in f('# no'):  # yes\n    y1 = 2.5") == {
        "for": "word", "in": "word", "'# no'": "string", "# yes": "comment", "2.5": "figure",
    }  # fmt: skip
    assert pieces("fi; def", "bash") == {"fi": "word"}


def test_lines_of_a_diff_are_told_apart_by_sign_and_look() -> None:
    block = diff_block("--- a\n+++ b\n@@ -1 +1 @@\n--- no, this is SQL\n+new\n same")
    looks = [each.looks for each in block.children if isinstance(each, Element)]
    assert looks == ["place-line", "old-line", "new-line", "same-line"]
