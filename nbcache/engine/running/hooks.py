"""Run hooks: functions of the notebook that are told how each run ended.

    @nbcache.on_complete
    def tell(run):
        send_mail(f"{run.name} {run.status} after {run.elapsed_s:.0f} s")

As with processes, the hooks of a run are those that public names hold when it starts: run the cell
again to replace one, `del tell` to be rid of it. They run after the run's last row is written, in
the kernel, on a thread of their own; one that fails is a warning and never a failed run. A run
that a hook starts, if only by a read, tells nobody: it would start the next one for ever. So does
one that is started on a thread of the hook's: `_Threads` knows these.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from nbcache.engine.running.run import Run
from nbcache.model.task import RunStatus

When = Literal["error", "complete"]
Hook = TypeVar("Hook", bound=Callable[..., object])
PATIENCE_S = 60.0  # then the run ends without waiting for its hooks any longer
_MARK = "__nbcache_hook__"
_in_a_hook: contextvars.ContextVar[bool] = contextvars.ContextVar("_in_a_hook", default=False)


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

    threading.Thread(target=work, name="nbcache-hook", daemon=True).start()
    return done


class _Threads:
    """The threads of hooks: those that call one, and whatever such a thread starts.

    A thread has no context of whoever started it, so while any of these lives, and no longer,
    `Thread.start` notes who starts which.
    """

    def __init__(self) -> None:
        self._own: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._plain: Callable[[threading.Thread], None] | None = None  # while `start` is wrapped
        self._wrapper: Callable[[threading.Thread], None] | None = None
        self._lock = threading.RLock()

    def __contains__(self, thread: threading.Thread) -> bool:
        return thread in self._own

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Take this thread for a hook's, and note what is started from it."""
        with self._lock:
            self._own.add(threading.current_thread())
            self._wrap()
        try:
            yield
        finally:
            with self._lock:
                self._own.discard(threading.current_thread())
                self._unwrap_if_over()

    def _wrap(self) -> None:
        if self._plain is not None:
            return
        plain = self._plain = threading.Thread.start

        @functools.wraps(plain)
        def noted(thread: threading.Thread) -> None:
            with self._lock:
                if threading.current_thread() in self._own:
                    self._own.add(thread)
            plain(thread)
            with self._lock:
                self._unwrap_if_over()

        self._wrapper = noted
        setattr(threading.Thread, "start", noted)  # noqa: B010 - typed as a method

    def _unwrap_if_over(self) -> None:
        """Put `Thread.start` back where no thread of a hook lives any more; what somebody else has
        wrapped around ours meanwhile stays."""
        if any(thread.is_alive() for thread in self._own):
            return
        if threading.Thread.start is self._wrapper and self._plain is not None:
            setattr(threading.Thread, "start", self._plain)  # noqa: B010 - typed as a method
            self._plain = self._wrapper = None


_threads = _Threads()


def _call(function: Callable[[Run], Any], run: Run) -> None:
    _in_a_hook.set(True)
    with _threads.followed():
        result = function(run)
        if inspect.iscoroutine(result):
            asyncio.run(result)


def _is_a_hooks_doing() -> bool:
    return _in_a_hook.get() or threading.current_thread() in _threads


def _said(error: BaseException, function: Callable[[Run], Any]) -> str:
    """Return an error's first line, and the line of the hook that raised it or led to it."""
    first, *_ = str(error).split("\n")
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    source = inspect.unwrap(function).__code__.co_filename
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source]
    return f"{text} (line {own[-1].lineno}: {own[-1].line})" if own and own[-1].line else text
