"""How a run looks while it goes and when it has ended, drawn from `RunProgress` snapshots.

Pure. The wording is a promise that scripts and people read: `18 ran, 0 cached, 9.1 s · run
calm-otter`, and for a fully cached run the badge `18 cached · today 10:42 · by you · saved 9.1 s`;
in what a notebook keeps a date stands for *today*, which is another day to whoever opens it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from typing import Any, TypedDict, cast

from nbcache.model.view import FailureView, PlacePlan, PlaceProgress, RunProgress, ShownChunk
from nbcache.notebook import place_progress, render
from nbcache.notebook.render import Rendered
from nbcache.notebook.shown_view import render_chunks

ENDED = frozenset({"succeeded", "failed", "cancelled", "interrupted"})

MOST_REASONS = 12  # lines of them in a report

NO_NEWS = "first run of this code here"  # what engine.reasons says where there is no earlier run

MOST_FAILURES = 5  # that are drawn: the others are counted
RUN_CLASS = "nbcache nbcache-run"  # by which a run is told from other output
RUN_MIME = "application/vnd.nbcache.run+json"
PLAN_MIME = "application/vnd.nbcache.plan+json"  # beside a plan that `nbcache plan` prints
SAID_MIME = "application/vnd.nbcache.said+json"  # beside a text that `nbcache run` prints


_OF_PLACE = ("name", "counts", "expected", "equal", "reason")
_OF_FAILURE = ("task", "process", "error", "where", "ignored")


class RunRecord(TypedDict):
    """A run at one moment, as `nbcache run` reads it from a kernel; of processes and failed tasks
    it has `_OF_PLACE` and `_OF_FAILURE`."""

    run: str
    name: str
    status: str
    elapsed_s: float
    left_s: float | None
    saved_s: float
    places: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    notes: list[str]
    error: str
    cached_at: int | None
    cached_by: list[str]
    trusted: int


def counts_of(progress: RunProgress) -> dict[str, int]:
    """Return the tasks of all processes by state or outcome."""
    counts = Counter[str]()
    for place in progress.places:
        counts.update(place.counts)
    return dict(counts)


def total_of(progress: RunProgress) -> int:
    """Return how many tasks the run has, as far as it is known."""
    return sum(map(place_progress.expected_total, progress.places))


def progress_line(progress: RunProgress) -> str:
    """Return "11/18 · 2 running · about 6 s left"."""
    counts = counts_of(progress)
    total = total_of(progress)
    is_known = total > place_progress.ended(counts) or all(
        place.expected is not None for place in progress.places
    )
    parts = place_progress.going_parts(counts, total, is_known=is_known)
    if progress.left_s is not None:
        parts.append(f"about {render.about(progress.left_s)} left")
    return " · ".join(parts)


def summary_line(progress: RunProgress, now: datetime | None = None, *, kept: bool = False) -> str:
    """Return the one line that stays when a run has ended.

    now: the local time, for the badge of a fully cached run; the clock's where it is left out.
    kept: read on other days, too, so the badge has a date.
    """
    counts = counts_of(progress)
    fully_cached = counts.get("cached") and place_progress.ended(counts) == counts["cached"]
    if fully_cached and progress.status == "succeeded":
        today = None if kept else now or datetime.now().astimezone()
        return _badge(progress, counts["cached"], today)
    ended = place_progress.outcome_phrase(counts, progress.equal)
    parts = f"{ended}, {render.duration(progress.elapsed_s)}"
    saved = f" · saved {render.duration(progress.saved_s)}" if progress.saved_s >= 0.05 else ""
    return " · ".join([parts, *_trusted(progress), f"{name_of(progress)}{saved}"])


def name_of(progress: RunProgress) -> str:
    """Return "run calm-otter", or "run calm-otter cancelled"."""
    was_stopped = progress.status in ("cancelled", "interrupted")
    return f"run {progress.name}{f' {progress.status}' if was_stopped else ''}"


def of_one(name: str, progress: RunProgress) -> RunProgress:
    """Return what a run's progress says of one process, of which it may know nothing."""
    nothing = replace(progress, places=(), failures=(), notes=(), items={})
    return next(of_each(progress, (name,)), nothing)


def of_each(progress: RunProgress, names: Container[str]) -> Iterator[RunProgress]:
    """Give what a run's progress says of each of these processes alone, in its order."""
    failures: dict[str, list[FailureView]] = {}
    for each in progress.failures:
        failures.setdefault(each.process, []).append(each)
    for place in progress.places:
        if place.name in names:
            mine = tuple(failures.get(place.name, ()))
            yield replace(progress, places=(place,), failures=mine, notes=(), items={})


def _badge(progress: RunProgress, cached: int, now: datetime | None) -> str:
    parts = [f"{cached:,} cached", *_trusted(progress)]
    if progress.cached_at is not None:
        made = datetime.fromtimestamp(progress.cached_at / 1e6, tz=UTC)
        parts.append(render.when(made, now))
    if progress.cached_by:
        parts.append("by " + ", ".join(progress.cached_by))
    if progress.saved_s >= 0.0005:
        parts.append(f"saved {render.duration(progress.saved_s)}")
    return " · ".join(parts)


def _trusted(progress: RunProgress) -> list[str]:
    return [f"{progress.trusted:,} of them trusted"] if progress.trusted else []


def reason_lines(progress: RunProgress) -> list[str]:
    """Return "fit: 18 ran: helper norm changed (cell 3, line 4)" per reason, of which a helper
    that many processes call is one.

    That a process never ran before is no news.
    """
    alike: dict[str, list[PlaceProgress]] = {}
    for place in progress.places:
        if place.reason not in ("", NO_NEWS) and place.counts.get("completed"):
            alike.setdefault(place.reason, []).append(place)
    lines = []
    for reason, places in list(alike.items())[:MOST_REASONS]:
        names = ", ".join(place.name for place in places[:3])
        more = f" and {len(places) - 3:,} more" if len(places) > 3 else ""
        ran = sum(place.counts["completed"] for place in places)
        lines.append(f"{names}{more}: {ran:,} ran: {reason}")
    if (others := len(alike) - MOST_REASONS) > 0:
        lines.append(f"… and {render.count_of(others, 'more reason')}")
    return lines


def render_progress(
    progress: RunProgress,
    *,
    picture: str = "",
    places: Sequence[PlaceProgress] | None = None,
    kept: bool = True,
) -> Rendered:
    """Return the picture of a run: a line and a bar per process, then the line of the whole.

    picture: HTML of the pipeline, put in below the line. places: what has a line, where several
    processes are told of as one. kept: as of `summary_line`.
    """
    over = progress.status in ENDED
    head = summary_line(progress, kept=kept) if over else progress_line(progress)
    places = progress.places if places is None else places
    widest = max((len(place.name) for place in places), default=0)
    rows = [_place_row(place) for place in places]
    lines = [_place_text(place, widest) for place in places]
    html = [f"<div><b>{escape(head)}</b></div>", *([picture] if picture else [])]
    if rows and not (over and len(rows) == 1):
        html.append('<table style="border-collapse:collapse;margin:2px 0">')
        html += [*rows, "</table>"]
    if over:
        lines = lines if len(lines) > 1 else []
    waits = [each.text for each in progress.waits]
    extra = [*(reason_lines(progress) if over else []), *progress.notes, *waits]
    if progress.error:
        extra.append(progress.error)
    html += [
        f'<div style="{render.FAINT};white-space:pre-wrap">{escape(each)}</div>' for each in extra
    ]
    failures = render_failures(progress.failures) if over else Rendered("", "")
    html += [failures.html] if failures.html else []
    text = "\n".join([*lines, *extra, *([failures.text] if failures.text else []), head])
    inner = "\n".join(html)  # a notebook keeps lines: what stays the same is none of its changes
    return Rendered(text, render.box(inner, run_colour(progress), RUN_CLASS))


def run_colour(progress: RunProgress) -> str:
    """Return the colour name of a run's bar at the left."""
    counts = counts_of(progress)
    if counts.get("failed") or progress.status == "failed":
        return "failed"
    if progress.status not in ENDED:
        return "running"
    if progress.status != "succeeded":
        return "pending"
    return "done" if counts.get("completed") or not counts else "cached"


def _place_row(place: PlaceProgress) -> str:
    cell = "text-align:left;padding:0 10px 0 0"
    return (
        f'<tr><td style="{cell};{render.MONO};overflow-wrap:anywhere">{escape(place.name)}</td>'
        f'<td style="{cell};width:200px">{place_progress.place_bar(place)}</td>'
        f'<td style="{cell}">{escape(place_progress.place_phrase(place))}</td></tr>'
    )


def _place_text(place: PlaceProgress, widest: int) -> str:
    total = place_progress.expected_total(place)
    drawn = render.text_bar(place_progress.done(place.counts), total)
    return f"{place.name.ljust(widest)}  {drawn}  {place_progress.place_phrase(place)}"


def render_failures(failures: Sequence[FailureView]) -> Rendered:
    """Return failed tasks: what, where, and the log one click away; in text a line per kind."""
    html: list[str] = []
    for failure in failures[:MOST_FAILURES]:
        where = f", {failure.where}" if failure.where else ""
        more = "" if failure.headline == failure.error else failure.error
        inside = "\n".join(filter(None, (failure.traceback or more, failure.log)))
        folder = f"work directory {failure.workdir}" if failure.workdir else ""
        if failure.command:
            folder = f"$ {failure.command}\n{folder}"
        mark = f"border-bottom:2px solid {render.COLOURS['failed']}"  # red text is hard to read
        head = f"{render.styled(failure.task, mark)} {escape(failure.told)}{escape(where)}"
        if inside or folder:
            fields = "{traceback} {log}" if failure.log else "{traceback}"
            told = render_chunks([ShownChunk("stdout", inside)], MOST_FAILURES, field=fields)
            html.append(
                f"<details><summary>{head}</summary>{told.html}"
                f'<div style="{render.FAINT};white-space:pre-wrap">{escape(folder)}</div></details>'
            )
        else:
            html.append(f"<div>{head}</div>")
    if (others := len(failures) - MOST_FAILURES) > 0:
        html.append(f"<div>… and {others} more</div>")
    return Rendered("\n".join(failure_lines(failures)), "".join(html))


def failure_lines(failures: Sequence[FailureView]) -> list[str]:
    """Return a line for each kind of failure: "fit[depth=8] and 5 more: ZeroDivisionError"."""
    kinds: dict[tuple[str, str, str], list[FailureView]] = {}
    for failure in failures:
        kinds.setdefault((failure.process, failure.told, failure.where), []).append(failure)
    lines = []
    for (_, told, where), members in list(kinds.items())[:MOST_FAILURES]:
        more = f" and {len(members) - 1:,} more:" if len(members) > 1 else ""
        lines.append(f"{members[0].task}{more} {told}{f', {where}' if where else ''}")
    if (others := sum(map(len, list(kinds.values())[MOST_FAILURES:]))) > 0:
        lines.append(f"… and {others:,} more")
    return lines


def render_plan(plans: Sequence[PlacePlan]) -> Rendered:
    """Return what a run would do now, per process and in all."""
    if not plans:
        return Rendered("no process is declared", render.box("no process is declared"))
    rows = [
        (
            plan.name,
            "?" if plan.tasks is None else f"{plan.tasks:,}",
            f"{plan.cached:,}",
            f"{plan.to_run:,}",
            f"{plan.trusted:,}" if plan.trusted else "",
            f"{plan.equal:,}" if plan.equal else "",
            f"{plan.unknown:,}" if plan.unknown else "",
            f"{plan.failing:,}" if plan.failing else "",
            "" if plan.expected_s is None else f"about {render.about(plan.expected_s)}",
            plan.reason.partition("\n")[0],
        )
        for plan in plans
    ]
    headers = ("process", "tasks", "cached", "to run", "trusted", "equal to these",
               "not known yet", "would fail", "time", "why")  # fmt: skip
    grid = render.filled_table(headers, rows, always=headers[:4], numeric=headers[1:7])
    total = f"{sum(p.cached for p in plans):,} cached, {sum(p.to_run for p in plans):,} to run"
    if equal := sum(plan.equal for plan in plans):
        total += f", {equal:,} equal to these"
    unknown = sum(plan.unknown for plan in plans)
    if unknown or any(plan.tasks is None and not plan.error for plan in plans):
        total += (
            f", {f'{unknown:,}' if unknown else 'more'} known when the processes above have run"
        )
    if failing := sum(plan.failing for plan in plans):
        total += f", {failing:,} would fail"
    times = [plan.expected_s for plan in plans if plan.expected_s is not None]
    if times and sum(times) > 0:
        total += f" · about {render.about(sum(times))} of computing"
    errors = "\n".join(dict.fromkeys(plan.error for plan in plans if plan.error))
    html = f"{grid.html}<div><b>{escape(total)}</b></div>"
    if errors:
        html += f'<div style="white-space:pre-wrap">{escape(errors)}</div>'
    return Rendered("\n".join(filter(None, (grid.text, total, errors))), render.box(html))


def record_of(progress: RunProgress) -> RunRecord:
    """Return a run's state as JSON, for `nbcache run` outside the kernel."""
    record = {
        **_fields(progress, RunRecord.__annotations__),
        "places": [_fields(each, _OF_PLACE) for each in progress.places],
        "failures": [_fields(each, _OF_FAILURE) for each in progress.failures],
    }
    return cast(RunRecord, record)


def _fields(each: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(each, name) for name in names}


def _known(written: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Leave out what another version of nbcache, in the kernel, writes besides."""
    return {name: written[name] for name in names}


def progress_from(record: Mapping[str, object] | RunRecord) -> RunProgress:
    """Return the snapshot that `record_of` wrote (without tracebacks and what tasks printed)."""
    data = _known(record, RunRecord.__annotations__)
    data["places"] = tuple(
        PlaceProgress(upstream=(), **_known(each, _OF_PLACE)) for each in data["places"]
    )
    data["failures"] = tuple(FailureView(**_known(each, _OF_FAILURE)) for each in data["failures"])
    data["notes"], data["cached_by"] = tuple(data["notes"]), tuple(data["cached_by"])
    return RunProgress(**data)
