"""Run hooks: functions of the notebook that are told how each run ended.

    @nbcache.on_complete
    def tell(run):
        send_mail(f"{run.name} {run.status} after {run.elapsed_s:.0f} s")

As with processes, the hooks of a run are those that public names hold when it starts: run the cell
again to replace one, `del tell` to be rid of it. They run after the run's last row is written, in
the kernel, on a thread of their own; one that fails is a warning and never a failed run. A run
that a hook starts, if only by a read, tells nobody: it would start the next one for ever. So does
one that is started on a thread of the hook's (`_is_a_hooks_doing`).
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from nbcache.engine.running.run import Run
from nbcache.model.task import RunStatus

When = Literal["error", "complete"]
Hook = TypeVar("Hook", bound=Callable[..., object])
PATIENCE_S = 60.0  # then the run ends without waiting for its hooks any longer
_MARK = "__nbcache_hook__"


def on_complete(function: Hook) -> Hook:
    """Have a function called with each run that ended, however it ended."""
    return _marked(function, "complete")


def on_error(function: Hook) -> Hook:
    """Have a function called with each run that failed; before those of `on_complete`."""
    return _marked(function, "error")


def _marked(function: Hook, when: When) -> Hook:
    if not callable(function):
        raise TypeError(f"@nbcache.on_{when} goes above a function")
    setattr(function, _MARK, (*getattr(function, _MARK, ()), when))
    return function


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one run and the context in which it was started, so that what they print is
    shown in that cell."""

    found: tuple[tuple[str, Callable[[Run], Any], When], ...]
    context: contextvars.Context

    @classmethod
    def of(cls, namespace: Mapping[str, object]) -> Hooks:
        """Take the hooks that public names hold now: those for errors first; in a hook none."""
        if _is_a_hooks_doing():
            return cls((), contextvars.copy_context())
        held: dict[int, tuple[str, Callable[[Run], Any]]] = {}
        for name in sorted(namespace):
            function = namespace[name]
            if inspect.isroutine(function) and hasattr(function, _MARK) and name[:1] != "_":
                held.setdefault(id(function), (name, function))
        whens: tuple[When, ...] = ("error", "complete")
        found = tuple(
            (name, function, when)
            for when in whens
            for name, function in held.values()
            if when in getattr(function, _MARK)
        )
        return cls(found, contextvars.copy_context())

    async def tell(self, run: Run) -> None:
        """Call those that are meant; what goes wrong is a note of the run."""
        for name, function, when in self.found:
            if when == "error" and run.status is not RunStatus.FAILED:
                continue
            call = functools.partial(self.context.copy().run, _call, function, run)
            try:
                await asyncio.wait_for(_on_a_thread(call), PATIENCE_S)
            except TimeoutError:
                run.notes.append(f"the hook {name} is still running; the run does not wait for it")
            except BaseException as error:
                said = _said(error, function)
                run.notes.append(f"the hook {name} failed: {said}; the run is not touched")


def _on_a_thread(call: Callable[[], None]) -> asyncio.Future[None]:
    """Call on a daemon thread: a hook that hangs does not keep the kernel from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def work() -> None:
        error: BaseException | None = None
        try:
            call()
        except BaseException as caught:
            error = caught
        loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=work, name="nbcache-hook", daemon=_HOOKS_OWN).start()
    return done


class _OfHook(int):
    """The word for a daemon that the threads of hooks have: a thread takes it over from the one
    that starts it, unless it is given another."""


_HOOKS_OWN = cast(bool, _OfHook(True))
_in_a_hook: contextvars.ContextVar[bool] = contextvars.ContextVar("_in_a_hook", default=False)
_at_work: dict[object, float] = {}  # the hooks that are being called, and since when


def _call(function: Callable[[Run], Any], run: Run) -> None:
    _in_a_hook.set(True)
    call = object()
    _at_work[call] = time.monotonic()
    try:
        result = function(run)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    finally:
        del _at_work[call]


def _is_a_hooks_doing() -> bool:
    """Whether a hook is behind what this thread does: it is the hook's, or was started by one that
    is; or a hook is at work, and this is not the thread on which cells run."""
    thread = threading.current_thread()
    if _in_a_hook.get() or isinstance(thread.daemon, _OfHook):
        return True
    # One that hangs stands for nobody: its run has ended without it.
    is_called = any(time.monotonic() - begun < PATIENCE_S for begun in [*_at_work.values()])
    return is_called and thread is not threading.main_thread()


def _said(error: BaseException, function: Callable[[Run], Any]) -> str:
    """Return an error's first line, and the line of the hook that raised it or led to it."""
    first, *_ = str(error).split("\n")
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    source = inspect.unwrap(function).__code__.co_filename
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source]
    return f"{text} (line {own[-1].lineno}: {own[-1].line})" if own and own[-1].line else text
