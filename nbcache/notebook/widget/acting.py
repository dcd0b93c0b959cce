"""What the buttons of a view do: begin, go on with and end runs, by what the magics call.

A button may be pressed while a cell runs. Beginning a run reads the notebook's names, as a detached
run does, and copies what could change. What *sets* names for a moment (a run with other parameters)
waits until no cell runs, since that cell would see them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from types import NoneType
from typing import Any, TypedDict, TypeVar, cast

from nbcache.engine.declared.parameters import check_literal, parameter_value
from nbcache.engine.record import history
from nbcache.engine.running import resuming
from nbcache.engine.running.resuming import RESUMABLE, Resumer
from nbcache.engine.running.run import Run
from nbcache.engine.session import Session
from nbcache.errors import UsageError, command
from nbcache.model.run_options import RunChoices, RunOptions
from nbcache.model.view import RunProgress
from nbcache.notebook import progress as pictures
from nbcache.notebook.widget.source import Source
from nbcache.notebook.widget.state import Control

T = TypeVar("T")

MOST_MEMBERS = 20  # of a list in the form

Quiet = Callable[[Callable[[], Any]], Any]
"""Calls a function while no cell runs, and returns what it returns."""


class Field(TypedDict):
    """One parameter in the form. `text` is the Python literal, `kind` says which control fits."""

    name: str
    text: str
    kind: str  # bool int float str other


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page asked to begin: parameters as literals, and from where all runs again."""

    parameters: Mapping[str, str]
    choices: RunChoices

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Asked:
        texts = message.get("parameters") or {}
        given = {str(name): str(text) for name, text in texts.items()}
        for name, text in given.items():
            check_literal(name, text)
        choices: RunChoices = {}
        if message.get("from"):
            choices["from_"] = (str(message["from"]),)
        return cls(given, choices)


class Actions:
    """The actions on runs of one session."""

    def __init__(self, session: Session, quiet: Quiet) -> None:
        self._session, self._quiet = session, quiet

    # ------------------------------------------------------------------ what makes sense

    def controls(self, source: Source, progress: RunProgress) -> list[Control]:
        """Return the buttons of a view, with why they make no sense now."""
        busy = self.busy()
        cancel = "" if progress.status not in pictures.ENDED else "this run has ended"
        resume = busy
        if not resume and progress.status not in RESUMABLE:
            resume = f"this run has {progress.status}: nothing is left to resume"
        if not resume and source.run is not None and not source.run.is_recorded:
            resume = "this run keeps nothing (--no-cache)"
        return [
            {"ask": "cancel", "label": "Cancel", "why_not": cancel, "first": False},
            {"ask": "resume", "label": "Resume", "why_not": resume, "first": True},
            {"ask": "run", "label": "Run again", "why_not": busy, "first": False},
            {"ask": "form", "label": "Relaunch…", "why_not": busy, "first": False},
        ]

    def busy(self) -> str:
        """Return why no run can begin now; empty where one can."""
        last = self._session.last_run
        return "" if last is None or last.done else f"run {last.name} is going"

    # ------------------------------------------------------------------ acting

    def cancel(self, source: Source) -> str:
        """End a run in order, of this kernel or another."""
        if source.run is None:
            name = history.request_cancel(self._session.cache, source.id).name
        elif source.run.done:
            raise UsageError("this run has ended already")
        else:
            source.run.cancel()
            name = source.run.name
        return f"run {name} is ending; what has finished is kept"

    def again(self, source: Source) -> Run:
        """Begin a new run of what the run was asked for, with the notebook as it is now."""
        targets = source.run.targets if source.run is not None else self._summary(source).targets
        return self.begin(targets)

    def begin(self, targets: Sequence[str]) -> Run:
        """Begin a run of these processes and what they need."""
        self._check_free()
        return self._session.start(targets, detached=True)

    def resume(self, source: Source) -> tuple[Run, str]:
        """Go on with the run; also returns what is said about it."""
        self._check_free()
        summary = self._summary(source)
        said: list[str] = []
        run = self._apart(
            summary.parameters,
            lambda: resuming.resume(
                cast(Resumer, _Told(self._session, said)), source.id, detached=True
            ),
        )
        return run, "\n".join(said)

    def relaunch(self, source: Source, asked: Asked) -> Run:
        """Begin a new run with the run's targets and parameters, some of them changed."""
        self._check_free()
        values = {**self._summary(source).parameters, **asked.parameters}
        return self._apart(
            values,
            lambda: self._session.relaunch(
                source.id, parameters=asked.parameters, detached=True, **asked.choices
            ),
        )

    def _check_free(self) -> None:
        if busy := self.busy():
            raise UsageError(f"{busy}: wait for it, or cancel it first")

    def _summary(self, source: Source) -> history.RunSummary:
        """Return what the cache has of the view's run, which may outlive its folder."""
        cache = self._session.cache
        for run in history.runs(cache):
            if run.id == source.id:
                return run
        raise UsageError(
            f"{cache.root} knows no more of run {source.progress().name}: was it deleted?\n"
            f"  Run again, or {command('run')}, makes what is missing"
        )

    def _apart(self, parameters: Mapping[str, str], act: Callable[[], T]) -> T:
        """Act; while no cell runs, where that sets names."""
        names = self._session.namespace
        if all(_holds(names.get(name), text) for name, text in parameters.items()):
            return act()
        return cast(T, self._quiet(act))

    # ------------------------------------------------------------------ the form

    def form(self, source: Source) -> dict[str, object]:
        """Return what a relaunch can change: the run's parameters, then the notebook's variables
        with a plain value that its processes read."""
        summary = self._summary(source)
        names = self._session.namespace
        found = {name: _field(name, parameter_value(text)) for name, text in
                 summary.parameters.items()}  # fmt: skip
        for record in summary.processes:
            for name in (each.name for each in record.components if each.kind == "captured"):
                if name not in found and name in names and _is_plain(names[name]):
                    found[name] = _field(name, names[name])
        return {
            "fields": list(found.values()),
            "processes": [record.name for record in summary.processes],
        }

    def plan(self, source: Source, asked: Asked) -> list[dict[str, object]]:
        """Say what the relaunch would do, without running anything."""
        summary = self._summary(source)
        values = {**summary.parameters, **asked.parameters}
        options = RunOptions.from_texts(summary.options).but({"fresh": False, "from_": ()})
        plans = self._apart(
            values,
            lambda: self._session.plan(
                summary.targets, options.but(asked.choices), parameters=values
            ),
        )
        return [asdict(plan) for plan in plans]


class _Told:
    """A session whose announcements go elsewhere: nothing may print from a button's thread."""

    def __init__(self, session: Session, said: list[str]) -> None:
        self._session = session
        self.teller = said.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def _holds(held: object, text: str) -> bool:
    """Whether a variable holds the literal already."""
    value = parameter_value(text)
    return type(value) is type(held) and repr(value) == repr(held)


def _is_plain(value: object) -> bool:
    """Whether a line has room for its literal."""
    if type(value) in (list, tuple):
        members = cast(Sequence[object], value)
        return len(members) <= MOST_MEMBERS and all(
            _is_scalar(each) and not (type(each) is float and not isfinite(each))
            for each in members
        )
    return _is_scalar(value)


def _is_scalar(value: object) -> bool:
    return type(value) in (NoneType, bool, int, float) or _is_short(value)


def _is_short(value: object) -> bool:
    return type(value) is str and len(value) <= 200


def _field(name: str, value: object) -> Field:
    """A control that holds the value exactly; else one for its literal."""
    fits = type(value) in (bool, int) or (type(value) is float and isfinite(value))
    fits = fits or (_is_short(value) and str(value).isprintable())
    return {"name": name, "text": repr(value), "kind": type(value).__name__ if fits else "other"}
