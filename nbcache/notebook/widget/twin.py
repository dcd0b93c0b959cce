"""The static picture of a run: what stays where no kernel is (GitHub, nbviewer, nbconvert).

An `<img>` with an SVG inside, since inline SVG is taken out of notebooks that are not trusted. The
live view hides it while it lives; where it does not, the twin hides what the notebook says instead
of the view ("Loading widget...", "Error displaying widget").
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from html import escape

from nbcache.model.view import RunProgress
from nbcache.notebook import mermaid
from nbcache.notebook import progress as pictures
from nbcache.notebook.render import Rendered
from nbcache.notebook.widget.scene import Scene, as_drawn, draw

_WITHOUT_VIEW = (
    "<style>.jp-OutputArea-child:has(.nbcache-twin) + "
    ".jp-OutputArea-child:not(:has(.nbcache-view)){display:none}</style>"
)

_WITHOUT_CARD = (
    "<style>.jp-OutputArea-child:not(:has(.nbcache-view))"
    ":has(+ .jp-OutputArea-child .nbcache-card){display:none}</style>"
)


_TITLES = re.compile(r"<title>[^<]*</title>")  # nothing shows those of an `<img>`

_OLDER = "the error below is older than this"

_MIDWAY = "run {name} was going when this was kept: %nbcache show {name} says how it stands"
"""A page that was loaded again does not hear how the cell's outputs change, so it keeps that."""


def render_twin(
    scene: Scene, progress: RunProgress, twin: str = "", *, older_error: bool = False
) -> Rendered:
    """Return a run as text and HTML; with its picture, where there is more than one process.

    twin: the id by which a live view finds it; empty where there is none. older_error: its cell
    had ended in an error before, which is hidden, and where that cannot be is said to be old.
    """
    if progress.status not in pictures.ENDED:
        midway = _MIDWAY.format(name=progress.name)
        progress = replace(progress, notes=(*progress.notes, midway))
    outline, seen = as_drawn(scene, progress)
    image = image_of(scene, progress)
    rendered = pictures.render_progress(progress, picture=image, places=seen.places)
    rendered = replace(rendered, mermaid=mermaid.pipeline(outline, seen))
    if twin and older_error:
        html = f'{rendered.html}<div class="nbcache-older">{_OLDER}</div>{_without_error(twin)}'
        rendered = replace(rendered, text=f"{rendered.text}\n{_OLDER}", html=html)
    return framed(rendered, twin) if twin else rendered


def _without_error(twin: str) -> str:
    """Hide an error at the end of the twin's cell: pages show it as they show stderr, but last."""
    last = ".jp-OutputArea-child:not(:has(~ .jp-OutputArea-child))"
    error = f'{last}:has(> [data-mime-type="application/vnd.jupyter.stderr"])'
    return (
        f"<style>.jp-OutputArea-child:has(#{twin}) ~ {error},"
        f"#{twin} .nbcache-older{{display:none}}</style>"
    )


def framed(rendered: Rendered, twin: str) -> Rendered:
    """Return it so that a live view in the next output hides it."""
    html = f'<div class="nbcache-twin" id="{twin}">{_WITHOUT_VIEW}{rendered.html}</div>'
    return replace(rendered, html=html)


def framed_card(rendered: Rendered, twin: str) -> Rendered:
    """Return a card so that the live one in the output before it hides its head."""
    html = f'<div class="nbcache-card" id="{twin}">{_WITHOUT_CARD}{rendered.html}</div>'
    return replace(rendered, html=html)


def image_of(scene: Scene, progress: RunProgress) -> str:
    """Return the picture as HTML; empty where there is but one process."""
    if len(scene.outline.processes) < 2:
        return ""
    svg = _TITLES.sub("", draw(scene, progress, standalone=True))
    data = b64encode(svg.encode()).decode("ascii")
    names = ", ".join(box.name for box in scene.drawn.boxes[:30])
    return (
        f'<img alt="{escape(f"pipeline of {names}")}" width="{scene.placed.width:g}" '
        f'style="max-width:100%;height:auto" src="data:image/svg+xml;base64,{data}">'
    )
