"""The widget itself: it carries messages between a view and its pages, and decides nothing.

A notebook has many of them, and each is sent with all its state. So what they share (the view's
module and style sheet) is the state of a model of its own, which each names and none carries.

Imported when the first view is shown, since ipywidgets and anywidget take their time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import anywidget
import ipywidgets  # type: ignore[import-untyped]  # comes with anywidget
import traitlets

from nbcache.notebook.widget.module import key, loader, module, style


class Library(ipywidgets.Widget):  # type: ignore[misc]  # as above
    """The view's module and style sheet: a model without a view, once per kernel."""

    module = traitlets.Unicode(module()).tag(sync=True)
    style = traitlets.Unicode(style()).tag(sync=True)


_library: Library | None = None


def shared_library() -> Library:
    """Return the kernel's library; a new one where somebody has closed all widgets."""
    global _library
    if _library is None or _library.comm is None:
        _library = Library()
    return _library


class Carrier(anywidget.AnyWidget):  # type: ignore[misc]  # anywidget is skipped by the type checker
    """One output of a notebook. `whole` gives what a page needs that comes in the middle."""

    _esm = loader()
    library = traitlets.Dict().tag(sync=True)  # where the module is, which it is, and who this is
    twin = traitlets.Unicode().tag(sync=True)  # the id of the static picture to hide
    page = traitlets.Dict().tag(sync=True)  # what it is: see `view.Page`
    first = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        twin: str,
        page: Mapping[str, object],
        whole: Callable[[], Mapping[str, object]],
        heard: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._whole = whole
        self._sending = threading.Lock()
        own = uuid4().hex
        shared = {"id": shared_library().model_id, "key": key(), "own": own}
        super().__init__(twin=twin, page=dict(page), first=whole(), library=shared, model_id=own)
        self.on_msg(lambda widget, content, buffers: heard(content))

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> Any:
        """As ipywidgets has it, with `first` as it is now, for a page that is loaded again."""
        state = super().get_state(key, drop_defaults)
        if "first" in state and hasattr(self, "_whole"):
            state["first"] = self._whole()
        return state

    def bundle(self) -> tuple[dict[str, object], dict[str, object]]:
        """Return what displays it, and what a front end wants beside it: Colab is told there where
        its widget manager is. Without the plain text, which a notebook would keep as its last word.
        """
        data, metadata = self._repr_mimebundle_() or ({}, {})
        return {mime: each for mime, each in data.items() if mime != "text/plain"}, dict(metadata)

    def open(self) -> None:
        """As ipywidgets has it; then a page's messages come by the page's own way.

        ipykernel 7.4 takes them in the shell that sent last: a click would wait for the cell there.
        """
        super().open()
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = None

    def tell(self, message: Mapping[str, object]) -> None:
        """Send a message to all pages; from any thread."""
        with self._sending:
            self.send(dict(message))

    def renew(self) -> None:
        """Let the pages, and notebooks saved with their widgets, keep how things stand now."""
        with self._sending:
            self.send_state("first")
