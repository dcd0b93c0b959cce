"""The plain-Python twin of the magics: `@process(...)` on a function, `channel.of(...)`, `run()`.

    from nbcache import channel, process, run

    grid = channel.product(depth=[2, 4], rep=range(3))

    @process(from_=grid, cpus=2)
    def fit(depth, rep):
        return evaluate(depth, rep)

    run()
    print(fit.table())

A function makes the same declaration as a cell with its body, so both share results.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from nbcache.engine.declared.factories import Factories
from nbcache.engine.declared.process import (
    Process,
    complete_decl,
    decl_from_function,
    function_scope,
)
from nbcache.engine.declared.stubs import with_stub
from nbcache.engine.running.restoring import RestoredRun
from nbcache.engine.running.run import Run
from nbcache.engine.session import current_session
from nbcache.errors import DeclarationError
from nbcache.plan.dataflow.channel import Channel

channel = Factories(lambda: current_session().folder)
"""The channel factories: `channel.of`, `channel.value`, `channel.from_path`, ..."""

Body = Callable[..., object]
Sources = str | Channel | Sequence[str | Channel]


@overload
def process(function: Body, /) -> Process: ...
@overload
def process(
    *,
    from_: Sources | None = None,
    outputs: str | Sequence[str] | None = None,
    stub: Body | None = None,
    **options: Any,
) -> Callable[[Body], Process]: ...
def process(
    function: Body | None = None,
    /,
    *,
    from_: Sources | None = None,
    outputs: str | Sequence[str] | None = None,
    stub: Body | None = None,
    **options: Any,
) -> Process | Callable[[Body], Process]:
    """Make a function a process; its parameters are the inputs, what it returns is the output.

    `from_` gives channels, or names of channels that are looked up at each run. `outputs` names
    the outputs as a header does: "quant: path = 'quant_{sample}'"; a tuple that is returned for
    several is taken apart. `stub` is a function that a stub run calls instead, with as many of the
    inputs as it takes. `options` are those of `%%process`: cpus, memory, ...

    Raises:
        DeclarationError: the function cannot be a process.
    """

    def make(made: Body) -> Process:
        try:
            return _make(made, from_, outputs, stub, options)
        except DeclarationError as error:  # its text says where; our own frames say nothing
            raise error.with_traceback(None) from None

    return make if function is None else make(function)


def _make(
    function: Body,
    from_: Sources | None,
    outputs: str | Sequence[str] | None,
    stub: Body | None,
    options: Mapping[str, object],
) -> Process:
    given: list[str | Channel] = []
    if isinstance(from_, (str, Channel)):
        given = [from_]
    elif from_ is not None:
        given = list(from_)
    texts = [each for each in given if isinstance(each, str)]
    channels = [each for each in given if isinstance(each, Channel)]
    if texts and channels:
        raise TypeError("from_ takes channels or names of channels, not both at once")
    decl = decl_from_function(function, outputs=outputs, sources=texts or None, options=options)
    scope = function_scope(function)
    complete, facts = complete_decl(decl, scope)
    if stub is not None:
        complete = with_stub(complete, stub)
    return Process(complete, facts, scope, current_session(), (), tuple(channels) or None)


def run(*targets: str, show: bool = True, **how: Any) -> Run:
    """Run the pipeline of the main module and wait for it.

    `targets` are names of processes (all, if none is given); `how` is that of `Session.start`.

    Raises:
        RunFailed: one or more tasks failed.
    """
    return _finish(current_session().start(targets, **how), show)


def _finish(started: Run, show: bool) -> Run:
    """Wait for a run and say how it ended."""
    current_session().waiter(started)
    if show:
        counts = ", ".join(f"{number} {name}" for name, number in sorted(started.counts().items()))
        print(f"run {started.name}: {started.status.value}; {counts}", file=sys.stderr)
    started.raise_for_status()
    return started


def resume(run: str | None = None, *, show: bool = True, **how: Any) -> Run:
    """Go on with a run under its own id, by default the newest one, and wait for it.

    `how` is that of `Session.resume`.

    Raises:
        RunError: there is no such run, it has succeeded, or it is running. RunFailed: tasks failed.
    """
    return _finish(current_session().resume(run, **how), show)


def relaunch(run: str | None = None, *, show: bool = True, **how: Any) -> Run:
    """Start a new run with the parameters of an old one, by default the newest, and wait for it.

    `how` is that of `Session.relaunch`.

    Raises:
        RunError: there is no such run. RunFailed: one or more tasks failed.
    """
    return _finish(current_session().relaunch(run, **how), show)


def restore(run: str | None = None) -> RestoredRun:
    """Bind the processes of a run, by default the newest one, to its results; see `Session`."""
    return current_session().restore(run)


def share(url: str | os.PathLike[str], *, read_only: bool = False, claim: str = "auto") -> None:
    """Put a cache of a team (a bucket's URL, a shared folder) behind this one: `%nbcache share`.

    Raises:
        RemoteStoreError, CacheFormatError: it cannot be opened; nothing is changed.
    """
    current_session().share(os.fspath(url), read_only=read_only, claim=claim)


def last_run() -> Run | None:
    """Return the newest run that this process started."""
    return current_session().last_run
