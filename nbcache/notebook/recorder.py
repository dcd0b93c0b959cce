"""Take note of what a cell shows while it shows it: streams, displays, its final value.

Everything reaches the notebook as it would anyway, unless it is told not to. Recording is by
standing in the way: of `sys.stdout` and `sys.stderr`, of the shell's display publisher, of its
display hook.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Mapping
from typing import Any

from nbcache.engine.work.shown import Shown
from nbcache.model.view import ShownChunk

_WIDGET = "application/vnd.jupyter.widget-view+json"  # lives only as long as its kernel


class Tee:
    """A stream that tells what is written to it. Whoever keeps it can go on writing."""

    def __init__(self, stream: Any, tell: Callable[[str], None], passing_on: bool = True) -> None:
        self._stream, self._tell, self._passing_on = stream, tell, passing_on

    def write(self, text: str) -> Any:
        self._tell(text)
        return self._stream.write(text) if self._passing_on else len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Recorder:
    """Records from `start` to `stop`; `chunks` are what was shown, in its order.

    passing_on: whether it is shown as well.
    """

    def __init__(self, shell: Any, *, passing_on: bool = True) -> None:
        self._shell, self._passing_on = shell, passing_on
        self._chunks: list[ShownChunk] = []
        self._by_id: dict[str, int] = {}  # display id -> place in chunks
        self._active = False
        self._undo: list[Callable[[], None]] = []

    def start(self) -> None:
        """Stand in the way."""
        self._active = True
        for name in ("stdout", "stderr"):
            self._tee(name)
        publisher, hook = self._shell.display_pub, sys.displayhook
        self._patch(publisher, "publish", self._published)
        self._patch(publisher, "clear_output", self._cleared)

        def show_result(value: object) -> None:
            self._result(hook, value)

        sys.displayhook = show_result

        def put_back() -> None:
            if sys.displayhook is show_result:
                sys.displayhook = hook

        self._undo.append(put_back)

    def stop(self) -> Shown:
        """Get out of the way; return what was shown."""
        self._active = False
        while self._undo:
            self._undo.pop()()
        shown = Shown()
        for chunk in self._chunks:
            shown.add(chunk)
        return shown

    def _tee(self, name: str) -> None:
        stream = getattr(sys, name)
        tee = Tee(stream, lambda text: self._add(ShownChunk(name, text)), self._passing_on)
        setattr(sys, name, tee)

        def put_back() -> None:
            if getattr(sys, name) is tee:
                setattr(sys, name, stream)

        self._undo.append(put_back)

    def _patch(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
        original = getattr(owner, name)

        def patched(*args: Any, **options: Any) -> Any:
            return wrapper(original, *args, **options)

        setattr(owner, name, patched)
        self._undo.append(lambda: delattr(owner, name))

    def _add(self, chunk: ShownChunk) -> None:
        if self._active:
            self._chunks.append(chunk)

    def _quietly(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call what prints by itself in a terminal, without taking note of that."""
        if not self._passing_on:
            return None
        active, self._active = self._active, False
        try:
            return function(*args, **options)
        finally:
            self._active = active

    def _published(
        self, original: Callable[..., Any], data: Any, *args: Any, **options: Any
    ) -> Any:
        chunk = ShownChunk("display", "", _kept(data))
        name = (options.get("transient") or {}).get("display_id")
        if options.get("update") and name in self._by_id and self._active:
            self._chunks[self._by_id[name]] = chunk
        elif not options.get("update"):
            if name is not None:
                self._by_id[name] = len(self._chunks)
            self._add(chunk)
        return self._quietly(original, data, *args, **options)

    def _cleared(self, original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if self._active:
            self._chunks.clear()
            self._by_id.clear()
        return self._quietly(original, *args, **options)

    def _result(self, hook: Any, value: object) -> None:
        if not hasattr(hook, "write_format_data"):  # somebody else's
            hook(value)
            return
        write = hook.write_format_data

        def noting(data: Mapping[str, object], *args: Any, **options: Any) -> Any:
            if self._was_active:
                self._chunks.append(ShownChunk("display", "", _kept(data)))
            return write(data, *args, **options)

        self._was_active = self._active
        hook.write_format_data = noting
        try:
            self._quietly(hook, value)
        finally:
            del hook.write_format_data


def _kept(data: Mapping[str, object]) -> dict[str, object]:
    """Return a bundle as it is kept: images as base64 text, no handles of living widgets."""
    return {
        kind: base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
        for kind, value in data.items()
        if kind != _WIDGET
    }


def replay(chunks: list[ShownChunk]) -> None:
    """Show again what was recorded."""
    from IPython.display import display

    for chunk in chunks:
        if chunk.stream == "display":
            display(dict(chunk.bundle), raw=True)
        else:
            getattr(sys, chunk.stream).write(chunk.text)
