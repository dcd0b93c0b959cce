"""One item of a process run in the kernel: plainly, as in any cell, or for a card's button."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from nbcache.errors import NbcacheError
from nbcache.model.view import ShownChunk
from nbcache.notebook import render
from nbcache.plan.identity.canonical import summarise

if TYPE_CHECKING:
    from nbcache.engine.trial import TryResult


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that nobody's cell shows: what it showed, and how it went in one line."""

    label: str
    shown: Sequence[ShownChunk]
    said: str


def try_apart(shell: Any, name: str, run: Callable[[], TryResult]) -> Trial:
    """Try an item between cells; whatever it shows, or raises, is kept instead of shown.

    Raises:
        NbcacheError: there is nothing to try.
    """
    from nbcache.notebook.recorder import Recorder

    recorder = Recorder(shell, passing_on=False)
    recorder.start()
    try:
        result = from_the_body(shell, run)
        label, said = str(result.label), try_line(result)
    except NbcacheError:
        recorder.stop()
        raise
    except BaseException as error:  # whatever the body raises, or the interrupt button
        label, said = name, f"the trial ended in {type(error).__name__}; not cached"
        raised = ShownChunk("stderr", _traceback(shell, error))
        return Trial(label, [*recorder.stop().chunks(), raised], said)
    return Trial(label, recorder.stop().chunks(), said)


def _traceback(shell: Any, error: BaseException) -> str:
    from nbcache.notebook.debugging import below_nbcache

    below = below_nbcache(error.__traceback__)
    lines = shell.InteractiveTB.structured_traceback(type(error), error, below)
    return "\n".join(lines) + "\n"


def from_the_body(shell: Any, run: Callable[[], T]) -> T:
    """Run a body and show its figures, which else come when the cell has ended; what it raises
    has a traceback that begins with its own frames."""
    __tracebackhide__ = True
    try:
        made = run()
        shell.events.trigger("post_execute")
        return made
    except NbcacheError:
        raise
    except BaseException as error:
        from nbcache.notebook.debugging import below_nbcache

        raise error.with_traceback(below_nbcache(error.__traceback__)) from error.__cause__


def try_line(result: TryResult) -> str:
    """Return "item depth=2 trees=50 rep=0 · 0.8 s · not cached · score = 0.97"."""
    _, bracket, inside = str(result.label).removesuffix("]").partition("[")
    parts = [
        f"item {inside if bracket else result.label}",
        render.duration(result.seconds),
        "not cached",
    ]
    return " · ".join([*parts, *named(result.outputs)])


def named(values: Mapping[str, object]) -> list[str]:
    """Return "score = 0.97" of each value: the number, also where NumPy made it."""
    return [f"{name} = {summarise(value)}" for name, value in values.items()]
