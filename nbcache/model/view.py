"""Snapshots of runs and plans for people: what displays draw. Plain data, safe to keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nbcache.errors import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceProgress:
    """How far one process of a run is.

    `counts` maps a TaskState's value ("pending", "ready", "running", "committing") or, of done
    tasks, an Outcome's value ("completed", "cached", "failed", ...) to a number of tasks;
    `expected` is the number of tasks when it is known already.
    """

    name: str
    upstream: tuple[str, ...]
    counts: Mapping[str, int]
    expected: int | None
    equal: int = 0  # of those cached: they got the result of an equal task of this very run
    reason: str = ""  # why its tasks ran, in one line: "helper norm changed (cell 3, line 4)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureView:
    """One failed task, as a cell's error shows it."""

    task: str  # "fit[depth=8 trees=50 rep=1]"
    process: str
    error: str  # "ZeroDivisionError: division by zero", then lines with the way out, if any
    traceback: str = ""
    where: str = ""  # "cell [5] line 4: score = 1 / (rep - 1)"
    workdir: str | None = None
    command: str = ""  # of a script, as a shell in the work directory takes it
    log: str = ""  # last lines of what it printed
    position: str | None = None  # where the task is in its process; None: it never became one
    way_out: str = ""  # what to do about it, where that is not to mend the cell
    ignored: bool = False  # on_error said so: the run may succeed all the same

    @property
    def headline(self) -> str:
        """The error in one line, for lists."""
        return plain(self.error.partition("\n")[0])

    @property
    def told(self) -> str:
        """The headline, which says so if the failure was ignored."""
        return f"ignored: {self.headline}" if self.ignored else self.headline


@dataclass(frozen=True, slots=True)
class WaitView:
    """Another computes what this run needs, or a file is fetched: `who`, and `progress` as far as
    that is known."""

    who: str
    progress: str = ""

    @property
    def text(self) -> str:
        """Both in one line."""
        return f"{self.who} ({self.progress})" if self.progress else self.who


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """A run at one moment. Durations in seconds."""

    run: str
    name: str
    status: str  # a RunStatus's value
    elapsed_s: float
    left_s: float | None
    saved_s: float
    places: tuple[PlaceProgress, ...]
    failures: tuple[FailureView, ...] = ()
    notes: tuple[str, ...] = ()  # said once each: undeclared reads, warnings
    waits: tuple[WaitView, ...] = ()  # for whom it waits now
    error: str = ""  # why the run as a whole failed (a channel), if it did
    cached_at: int | None = None  # when the newest result that was used was made, microseconds
    cached_by: tuple[str, ...] = ()  # who made the results that were used; "you" for this user
    trusted: int = 0  # hits whose code somebody took for equal, though it was edited
    own: int = 0  # cached tasks whose result this very run made
    items: Mapping[int, int] = field(default_factory=dict)  # graph node -> items it gave so far

    @property
    def equal(self) -> int:
        """Cached tasks that got the result of an equal one of this very run."""
        return sum(place.equal for place in self.places)

    def total(self, *names: str) -> int:
        """Tasks over all processes in the given states or outcomes."""
        return sum(place.counts.get(name, 0) for place in self.places for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacePlan:
    """What a run of one process would do now. None: not known before something upstream ran."""

    name: str
    tasks: int | None
    cached: int
    to_run: int
    trusted: int = 0  # of those cached: the result of other code, which somebody took for equal
    equal: int = 0  # tasks that get the result of an equal one among those to run
    unknown: int = 0  # tasks whose inputs another task has to make first
    failing: int = 0  # tasks that would fail before they begin
    reason: str = ""
    error: str = ""  # what is wrong with these, or with a channel, so that there are no tasks
    expected_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureView:
    name: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """What stands below a `%%process` cell."""

    name: str
    signature: str  # "fit(depth, trees, rep) → score"
    wiring: str  # "from grid", "" when it is only callable
    captures: tuple[CaptureView, ...]
    reads: tuple[str, ...]  # literal names of existing files: "data/x.csv"
    plan: PlacePlan | None  # None: not counted within 0.2 s
    notes: tuple[str, ...] = ()
    hindrances: tuple[str, ...] = ()  # why a run would fail as things are; a later cell may mend it
    directives: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelView:
    """What stands below a `%channel` line."""

    name: str
    items: int | None  # None: known only when the processes above have run
    fields: tuple[str | None, ...] | None
    is_value: bool
    first: tuple[str, ...]  # the first three items as text
    note: str = ""


@dataclass(frozen=True, slots=True)
class ShownChunk:
    """A piece of what a task showed, in order.

    `stream` is "stdout" or "stderr" (then `text`) or "display" (then `bundle`: MIME type to data).
    """

    stream: str
    text: str = ""
    bundle: Mapping[str, object] = field(default_factory=dict)


def writable(text: str) -> str:
    """Return text as it can be written and sent: a surrogate that stands for no byte of a file's
    name, such as half of an emoji, is told by its number."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text
