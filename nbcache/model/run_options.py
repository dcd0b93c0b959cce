"""How a run goes about its tasks: kept in the first row of each session, so that a resume goes so.

None of it enters a hash but `stub`, which replaces bodies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

from nbcache.errors import UsageError


class RunChoices(TypedDict, total=False):
    """The options as keywords of a call; what is left out stays as it is."""

    fresh: bool
    from_: Sequence[str]
    levels: bool
    max_parallel: int | None
    max_errors: int | None
    stub: bool
    executor: str


class Changes(RunChoices, total=False):
    """What may be said anew of a run that goes on or is repeated, as keywords of a call.

    parameters: names with Python expressions. detached: the caller will go on meanwhile, so that
    mutable values are copied now. retention: how long results are kept (`plan.retention`).
    """

    parameters: Mapping[str, str] | None
    detached: bool
    retention: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of a run.

    fresh: only the run's own results count. from_: the same for these processes and all below
    them. levels: a process starts only when those above it have ended. max_parallel: how many
    attempts run at once (None: as many as fit). max_errors: with so many failed tasks the run
    ends as with `finish` (None: after the first five of one process). stub: processes run their
    stub bodies. executor: where attempts run, "local" or "dask:ADDRESS".
    """

    fresh: bool = False
    from_: tuple[str, ...] = ()
    levels: bool = False
    max_parallel: int | None = None
    max_errors: int | None = None
    stub: bool = False
    executor: str = "local"

    def __post_init__(self) -> None:
        kind, _, address = self.executor.partition(":")
        if self.executor != "local" and (kind != "dask" or not address):
            raise UsageError(
                f"--executor takes local, or dask:ADDRESS of a dask scheduler, not "
                f"{self.executor!r}"
            )
        for name in ("max_parallel", "max_errors"):
            number = getattr(self, name)
            if number is not None and number < 1:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} takes a number from 1 on, not {number}")

    def but(self, choices: RunChoices) -> RunOptions:
        """Return the options with some of them chosen anew."""
        given = dict(choices)
        if "from_" in given:
            given["from_"] = tuple(choices["from_"])
        return dataclasses.replace(self, **given)  # type: ignore[arg-type]

    def manner(self) -> RunOptions:
        """Return the options without what is said of one run only: what runs again."""
        return dataclasses.replace(self, fresh=False, from_=())

    def choices(self) -> RunChoices:
        """Return those that differ from the default, as keywords."""
        fields = [(each.name, each.default) for each in dataclasses.fields(self)]
        kept = {name: getattr(self, name) for name, default in fields}
        return cast(RunChoices, {n: kept[n] for n, default in fields if kept[n] != default})

    def texts(self) -> dict[str, str]:
        """Return what a row keeps: the options that differ from the default, as texts."""
        found: dict[str, str] = {}
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if value != each.default:
                is_list = isinstance(value, tuple)
                found[each.name.rstrip("_")] = ",".join(value) if is_list else str(value).lower()
        return found

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> RunOptions:
        """Return the options that `texts` were made of; what a later version added is left out."""

        def number(name: str) -> int | None:
            return int(texts[name]) if name in texts else None

        return cls(
            fresh="fresh" in texts,
            from_=tuple(filter(None, texts.get("from", "").split(","))),
            levels="levels" in texts,
            max_parallel=number("max_parallel"),
            max_errors=number("max_errors"),
            stub="stub" in texts,
            executor=texts.get("executor", "local"),
        )
