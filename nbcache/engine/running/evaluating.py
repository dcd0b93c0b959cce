"""Evaluate what a header says of a task in Python: guards, resources, what a failure leads to.

Expressions see the inputs decoded, files as paths with a size, and `task`; templates see the same
without `task`. Only what they name is decoded.
"""

from __future__ import annotations

import dataclasses
import os
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nbcache.engine.record.results import Decoder
from nbcache.engine.running.decision import Decision, Place
from nbcache.errors import NbcacheError
from nbcache.model.event import Resources
from nbcache.model.ids import format_position
from nbcache.model.process import Dynamic
from nbcache.model.task import AskedTask
from nbcache.model.value import FilePath, Stored
from nbcache.plan.dataflow.retry import action_after_failure
from nbcache.plan.language.option_values import evaluate_option
from nbcache.plan.language.quantities import evaluate_dynamic

RESOURCES = tuple(each.name for each in dataclasses.fields(Resources))  # as directives call them


class Evaluator:
    """Evaluates the directives of the tasks of one run."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def is_wanted(self, decision: Decision) -> bool:
        """Whether the task is to run: its `when` guard says so, and no input is missing.

        An optional output that was not made is missing, unless the input says `| None`.
        """
        for name, each in decision.inputs.items():
            if isinstance(each.value, Stored) and each.value.kind == "none":
                declared = decision.place.types.get(name)
                if declared is None or not declared.optional:
                    return False
        decl = decision.place.decl
        when = decl.directives.when
        if when is None:
            return True
        return bool(evaluate_option("when", when.text, self.names(decision)))

    def script_for(self, decision: Decision) -> Place:
        """Return the place of the script that a task runs.

        Raises:
            NbcacheError: none of their conditions holds.
        """
        names = self.lazily(decision.values())
        for script, place in decision.place.scripts:
            if script.when is None:
                return place
            if evaluate_dynamic(script.when.text, names, "expression", option="if"):
                return place
        conditions = ", ".join(str(script) for script, _ in decision.place.scripts)
        raise NbcacheError(
            f"process {decision.place.name!r}: none of its scripts is for {decision.label}, since "
            f"none of these holds: {conditions}.\n"
            "  Write a script below #| else:, or leave such items out with --when"
        )

    def resources(self, decision: Decision, attempt: int) -> Resources:
        """Return what an attempt asks for (directives may depend on inputs and attempt)."""
        if decision.place.constant is not None:
            return decision.place.constant
        directives = decision.place.decl.directives
        names = self.names(decision, attempt)

        def number(name: str) -> Any:
            held = getattr(directives, name)
            return evaluate_option(name, held.text, names) if isinstance(held, Dynamic) else held

        return Resources(**{name: number(name) for name in RESOURCES})

    def action(self, decision: Decision, attempt: int) -> str:
        """Return what a failed attempt (`decision.failed`) leads to: continue, stop, finish,
        ignore or retry."""
        directives = decision.place.decl.directives
        chosen, dynamic = directives.on_error, isinstance(directives.on_error, Dynamic)
        if isinstance(chosen, Dynamic):
            names = self.names(decision, attempt)
            chosen = str(evaluate_option("on_error", chosen.text, names))
        return action_after_failure(
            chosen, attempt=attempt, retries=directives.retries, dynamic=dynamic
        )

    def failed_as(self, decision: Decision, attempt: int) -> str | None:
        """Return what the row of an attempt says if it fails; None: only the failure tells."""
        if isinstance(decision.place.decl.directives.on_error, Dynamic):
            return None
        return "ignored" if self.action(decision, attempt) == "ignore" else "failed"

    def names(self, decision: Decision, attempt: int = 1) -> Mapping[str, object]:
        """Return what a directive's expression may name."""
        task = AskedTask(
            attempt=attempt,
            index=format_position(decision.task[1]),
            process=decision.place.name,
            tag=decision.tag,
            hash=decision.hash,
            exit=decision.failed.exit,
            signal=decision.failed.signal,
            error=decision.failed.error,
        )
        return ChainMap({"task": task}, self.lazily(decision.values()))  # type: ignore[arg-type]

    def lazily(self, values: Mapping[str, object]) -> LazyInputs:
        """Return inputs as templates and expressions see them: values decoded, files as such, each
        when it is asked for."""
        return LazyInputs(values, self._seen)

    def _seen(self, held: object) -> object:
        if isinstance(held, Stored) and held.kind != "value":
            return held
        if isinstance(held, FilePath):
            return SizedPath(held)
        return self._decoder.value(held)


class SizedPath(FilePath):
    """A file as a directive sees it: like a result of another task, it has a `size`."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Bytes; of a folder, those of all files in it."""
        if not self.is_dir():
            return int(self.stat().st_size)
        return sum(each.stat().st_size for each in self.rglob("*") if each.is_file())


class LazyInputs(Mapping[str, object]):
    """The inputs of a task as its header sees them; each is decoded when it is asked for."""

    def __init__(self, values: Mapping[str, object], seen: Callable[[object], object]) -> None:
        self._values, self._seen = values, seen

    def __getitem__(self, name: str) -> object:
        return self._seen(self._values[name])

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def evaluate_default(
    said: str, text: str, names: Mapping[str, object], folder: Path, is_path: bool
) -> object:
    """Return the value of an input's default, which sees the notebook's names; a path default is a
    file beside the notebook. `said` is how an error names the input.

    Raises:
        NbcacheError: the expression does not evaluate.
    """
    try:
        value: object = eval(text, {"Path": Path, **names})
    except Exception as error:
        raise NbcacheError(f"{said}: default {text}: {type(error).__name__}: {error}") from error
    return folder / os.fspath(value) if is_path and isinstance(value, (str, Path)) else value
