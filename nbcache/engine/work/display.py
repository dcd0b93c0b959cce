"""Objects as a notebook shows them: MIME bundles, figures.

Reads the `_repr_*_` methods that IPython documents, so neither IPython nor matplotlib is imported
here: what a task never loaded it cannot show.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable, Mapping
from typing import Any

_METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
)


def mime_bundle(value: object) -> dict[str, object]:
    """Return an object's MIME bundle as a notebook shows it: images as base64 text.

    Reads the `_repr_*_` methods that IPython documents, so IPython need not be imported.
    """
    bundle: dict[str, object] = {}
    if is_figure(value):
        bundle["image/png"] = _figure_png(value)
    elif not isinstance(value, type):
        made = _call(value, "_repr_mimebundle_")
        if isinstance(made, tuple):
            made = made[0]
        if isinstance(made, Mapping):
            bundle.update(made)
        for mime, method in _METHODS:
            if mime not in bundle and (data := _call(value, method)) is not None:
                bundle[mime] = data[0] if isinstance(data, tuple) else data
    if "text/plain" not in bundle:
        bundle["text/plain"] = repr(value)
    return {
        mime: base64.b64encode(data).decode("ascii") if isinstance(data, bytes) else data
        for mime, data in bundle.items()
    }


def _call(value: object, method: str) -> Any:
    function = getattr(value, method, None)
    if not callable(function):
        return None
    try:
        return function()
    except NotImplementedError:
        return None


def is_figure(value: object) -> bool:
    figure = sys.modules.get("matplotlib.figure")
    return figure is not None and isinstance(value, figure.Figure)


def is_drawing(value: object) -> bool:
    """Say whether a value is what plotting calls return: figures, axes, artists, lists of them."""
    artist = sys.modules.get("matplotlib.artist")
    if artist is None:
        return False
    if isinstance(value, artist.Artist):
        return True
    if type(value).__module__.startswith("seaborn."):
        return hasattr(value, "figure")
    members = getattr(value, "flat", value)
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__len__"):
        return False
    kind = getattr(value, "dtype", None)
    if kind is not None and str(kind) != "object":
        return False
    try:
        listed = list(members) if len(value) <= 10_000 else []  # type: ignore[call-overload]
    except TypeError:
        return False
    return bool(listed) and all(isinstance(member, artist.Artist) for member in listed)


def _figure_png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def show_open_figures(show: Callable[[object], None]) -> None:
    """Show and close every figure that pyplot holds, as the end of a notebook cell does."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    if helpers is None:
        return
    managers = helpers.Gcf.get_all_fig_managers()
    try:
        for manager in managers:
            if manager.canvas.figure.get_axes():
                show(manager.canvas.figure)
    finally:
        if managers:
            helpers.Gcf.destroy_all()
