"""The static picture of a run: what stays where no kernel is (GitHub, nbviewer, nbconvert).

An `<img>` with an SVG inside, since inline SVG is taken out of notebooks that are not trusted. The
live view, in the output before it, hides it while it lives; where it does not, the twin hides what
the notebook says instead of the view ("Loading widget...", "Error displaying widget").
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from html import escape
from urllib.parse import quote

from nbcache.model.view import RunProgress
from nbcache.notebook import mermaid
from nbcache.notebook import progress as pictures
from nbcache.notebook.render import Rendered, duration
from nbcache.notebook.widget.scene import Scene, as_drawn, draw


def _styled(rules: str) -> str:
    """Return rules for the page around it. Not as `<style>`: where that is taken out, as from
    Markdown on GitHub, its text would stay."""
    return f'<link rel="stylesheet" href="data:text/css,{quote(rules)}">'


_WITHOUT_VIEW = _styled(
    ".jp-OutputArea-child:not(:has(.nbcache-view))"
    ":has(+ .jp-OutputArea-child .nbcache-twin){display:none}"
)

_TITLES = re.compile(r"<title>[^<]*</title>")  # nothing shows those of an `<img>`

_OLDER = "the error below is older than this"

_MIDWAY = "so it stood after {elapsed}: %nbcache show {name} says how it stands now"
"""A page that was loaded again does not hear how the cell's outputs change, so it keeps that. It
holds also where somebody sees it while the run goes."""


def render_twin(scene: Scene, progress: RunProgress, *, older_error: str = "") -> Rendered:
    """Return a run as text and HTML; with its picture, where there is more than one process.

    older_error: the id of the twin whose cell had ended in an error before, which is hidden, and
    where that cannot be is said to be old.
    """
    if progress.status not in pictures.ENDED:
        midway = _MIDWAY.format(name=progress.name, elapsed=duration(progress.elapsed_s))
        progress = replace(progress, notes=(*progress.notes, midway))
    outline, seen = as_drawn(scene, progress)
    image = image_of(scene, progress)
    rendered = pictures.render_progress(progress, picture=image, places=seen.places)
    rendered = replace(rendered, mermaid=mermaid.pipeline(outline, seen))
    if older_error:
        said = f'<div class="nbcache-older">{_OLDER}</div>{_without_error(older_error)}'
        html = rendered.html + said
        rendered = replace(rendered, text=f"{rendered.text}\n{_OLDER}", html=html)
    return rendered


def _without_error(twin: str) -> str:
    """Hide an error at the end of the twin's cell: pages show it as they show stderr, but last."""
    last = ".jp-OutputArea-child:not(:has(~ .jp-OutputArea-child))"
    error = f'{last}:has(> [data-mime-type="application/vnd.jupyter.stderr"])'
    return _styled(
        f".jp-OutputArea-child:has(#{twin}) ~ {error},#{twin} .nbcache-older{{display:none}}"
    )


def framed(rendered: Rendered, twin: str) -> Rendered:
    """Return it so that a live view in the output before it hides its head: what tasks showed
    (`cards`) stays, since only the notebook's own output may show their HTML."""
    html = f'<div class="nbcache-twin" id="{twin}">\n{_WITHOUT_VIEW}\n{rendered.html}</div>'
    return replace(rendered, html=html)


def with_shown(head: Rendered, shown: Rendered | None) -> Rendered:
    """Return the picture of a run with what one of its tasks showed below it."""
    html = f'<div class="nbcache-head">{head.html}</div>'
    if shown is None:
        return replace(head, html=html)
    below = f'<div class="nbcache-shown">{shown.html}</div>'
    return replace(head, text=f"{head.text}\n{shown.text}", html=html + below)


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
