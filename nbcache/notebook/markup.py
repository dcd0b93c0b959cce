"""Markup that two homes show alike: HTML that stays in a notebook, and elements of a live view.

An element has looks, which are classes in the live view and inline styles in the HTML (GitHub and
other readers drop style sheets). Text is text: it is escaped here, and becomes text nodes there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from nbcache.notebook import render

_MARK = "display:block;border-left:3px solid {};padding:0 4px;background:{}"
_SIDE = "border-left:3px solid {};padding-left:8px"

STYLES: Mapping[str, str] = {
    "strong": "font-weight:600",
    "faint": render.FAINT,
    "name": f"font-weight:600;{render.MONO}",
    "mono": render.MONO,
    "section": "margin:6px 0 0;border-top:1px solid rgba(128,128,128,.35);padding-top:4px",
    "group": "margin:4px 0 6px;padding-left:12px",
    "lines": "list-style:none;margin:4px 0;padding:0",
    "bad-text": _SIDE.format(render.COLOURS["failed"]),
    "value": f"{render.MONO};white-space:pre-wrap;overflow-wrap:anywhere;text-align:left;"
    "vertical-align:top;padding:1px 10px 1px 0",
    "table-scroll": "overflow-x:auto",
    "heading": "text-align:left;padding:1px 10px 1px 0",
    "code": f"{render.PRE};overflow:auto;max-height:26em",
    "new-line": _MARK.format(render.COLOURS["done"], "rgba(0,158,115,.08)"),
    "old-line": _MARK.format(render.COLOURS["failed"], "rgba(213,94,0,.08)"),
    "place-line": f"display:block;padding:0 7px;{render.FAINT}",
    "same-line": "display:block;padding:0 7px",
    "comment": f"font-style:italic;{render.FAINT}",
    "string": "color:var(--jp-mirror-editor-string-color,#b02020)",
    "figure": "color:color-mix(in srgb,var(--jp-mirror-editor-number-color,#0a7a52) 75%,"
    "currentColor)",  # a theme's own is too pale on a diff's lines, as is that of comments
    "word": "color:var(--jp-mirror-editor-keyword-color,#00752b);font-weight:600",
}


@dataclass(frozen=True, slots=True)
class Element:
    """One element. `looks` are keys of STYLES, divided by spaces; attributes are the few that a
    reader needs: `open` of what is unfolded, `tabindex` of what scrolls, labels."""

    tag: str
    looks: str
    children: tuple[Element | str, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)


def element(tag: str, looks: str, *children: Element | str | None, **attributes: str) -> Element:
    """Return an element; children that are None are left out, `_` in attributes becomes `-`."""
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    return Element(tag, looks, tuple(each for each in children if each is not None), named)


def html_of(nodes: Iterable[Element | str]) -> str:
    """Return HTML whose looks are inline styles."""
    out: list[str] = []
    for node in nodes:
        if isinstance(node, str):
            out.append(escape(node))
            continue
        style = ";".join(filter(None, (STYLES.get(look, "") for look in node.looks.split())))
        attributes = {**node.attributes, **({"style": style} if style else {})}
        words = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
        out.append(f"<{node.tag}{words}>{html_of(node.children)}</{node.tag}>")
    return "".join(out)


def record_of(nodes: Iterable[Element | str]) -> list[Any]:
    """Return the nodes as JSON: a text, or [tag, looks, attributes, children]."""
    return [
        node
        if isinstance(node, str)
        else [node.tag, node.looks, dict(node.attributes), record_of(node.children)]
        for node in nodes
    ]
