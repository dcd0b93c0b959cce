"""What the command line tells the kernel that it starts, through one environment variable.

JSON with the fields of `Headless`; taken out of the environment at once, so that no task sees it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nbcache.model.run_options import RunChoices

HEADLESS_VARIABLE = "NBCACHE_HEADLESS"


@dataclass(frozen=True, slots=True)
class Again:
    """A run that goes on in this kernel: `verb` is resume or relaunch; `targets` and `processes`
    are those of the run; `lines` is how many lines of the notebook run these targets."""

    verb: str
    run: str
    targets: tuple[str, ...]
    processes: tuple[str, ...]
    lines: int

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Again:
        """Return what `asdict` made JSON of."""
        names = {key: tuple(record[key]) for key in ("targets", "processes")}
        return cls(record["verb"], record["run"], lines=record["lines"], **names)


@dataclass(frozen=True, slots=True)
class Headless:
    """What the command line asked of the kernel that it started; `choices` hold for all runs."""

    cache: str | None = None
    choices: RunChoices = field(default_factory=RunChoices)
    notebook: str | None = None  # its path, for the history
    parameters: Mapping[str, str] = field(default_factory=dict)
    again: Again | None = None
    retention: str | None = None  # of all runs
    is_dry: bool = False  # whether it is for a plan alone: nothing runs
    typed_cache: str | None = None  # `--cache` as the shell was given it, for messages

    def to_variable(self) -> str:
        """Return the text of the environment variable."""
        return json.dumps(asdict(self))

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Headless | None:
        """Take the settings out of the environment; None where nobody gave any."""
        text = environ.pop(HEADLESS_VARIABLE, None)
        if text is None:
            return None
        known = {each.name for each in fields(cls)}  # the shell's nbcache may be another version
        data = {name: each for name, each in json.loads(text).items() if name in known}
        if data.get("again") is not None:
            data["again"] = Again.from_record(data["again"])
        return cls(**data)


class Pending:
    """What the command line asked for, until the line comes that performs it."""

    def __init__(self, again: Again) -> None:
        self.again = again
        self._seen, self._is_done = 0, False

    def takes(self, targets: Sequence[str], declared: Collection[str]) -> bool:
        """Whether a `%nbcache run TARGETS` is to be performed as what was asked for."""
        if self._is_done or tuple(targets) != self.again.targets:
            return False
        self._seen += 1
        names = {name.partition("-")[0] for name in self.again.processes}  # places: double-2
        is_whole = names <= set(declared)
        self._is_done = is_whole or self._seen >= self.again.lines
        return self._is_done
