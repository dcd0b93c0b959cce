"""Two runs compared as markup: what a notebook keeps of `diff`, and what the live view shows.

Pure: a `RunDiff` in, nodes out. A part per process says what ran and what made it so, with the
diffs of sources below; then what came out different. `differences` says the same as plain text,
in the words that are made here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from nbcache.engine.record import history
from nbcache.engine.record.finding import Found
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.run_diff import (
    Group,
    OutputDiff,
    ProcessDiff,
    ResultState,
    RunDiff,
    TaskDiff,
    those_told,
)
from nbcache.errors import command
from nbcache.model.value import Stored
from nbcache.notebook import place_progress, render
from nbcache.notebook.code_view import diff_block
from nbcache.notebook.markup import Element, element
from nbcache.plan.identity import explain

_LABELS = 8  # tasks named before "and 3 more"
MOST_GROUPS = 20
_TEXT = 20_000  # characters of one diff


def page_of(diff: RunDiff) -> list[Element]:
    """Return the comparison, without the names of the runs above it."""
    before, after = diff.before, diff.after
    told = [process for process in diff.processes if not process.unchanged]
    quiet = [process for process in diff.processes if process.unchanged]
    facts = list(facts_of(diff))
    parts = [element("p", "faint", f"{_counts(before)} → {_counts(after)}")]
    if facts:
        parts.append(element("ul", "lines", *(element("li", "", text) for text in facts)))
    parts += [_process(process, diff) for process in told]
    if quiet:
        names = ", ".join(f"{each.name} ({len(each.tasks):,})" for each in quiet)
        parts.append(element("p", "faint", f"Equal: {names}"))
    if not diff.processes:
        parts.append(element("p", "", "Neither run has a process."))
    elif not told and not facts:
        parts.append(element("p", "", "Nothing differs, and nothing ran again."))
    return parts


def _counts(run: RunSummary) -> str:
    return place_progress.outcome_phrase(run.counts, run.own) if run.counts else run.status


def facts_of(diff: RunDiff) -> Iterator[str]:
    """Yield what is not of one process: runs that go on, the notebook, parameters, packages."""
    for run in (diff.before, diff.after):
        if run.status in history.LIVE:
            yield f"run {run.name} is still going: this compares its tasks so far"
    if diff.before.notebook != diff.after.notebook:
        yield f"notebook {diff.before.notebook} → {diff.after.notebook}"
    for name, old, new in diff.parameters:
        yield f"parameter {name}: {_or_none(old)} → {_or_none(new)}"
    yield from map(explain.phrase, diff.packages)


def _or_none(text: str | None) -> str:
    return "–" if text is None else text


def renamed(process: ProcessDiff) -> str:
    """Return what is said of its earlier name, where that was another."""
    return f" (it was called {process.was})" if process.was not in ("", process.name) else ""


def share_of(group: Group, process: ProcessDiff) -> str:
    """Return how many of a process's tasks differ so, and whether they ran for it."""
    told = those_told(group.tasks)
    trusted = "trusted" if told[0].after.is_trusted else "differ and were cached"
    return f"{len(told):,} of {process.total:,} {'ran' if told[0].ran else trusted}"


def names_in(group: Group) -> str:
    """Return what the first of those are called that `share_of` counts."""
    return names_of([task.after for task in those_told(group.tasks)])


def outcome_of(process: ProcessDiff) -> str:
    """Return how the results of the tasks compare that both runs have."""
    words: tuple[tuple[ResultState, str], ...] = (
        ("different", "came out different"),
        ("equal", "came out equal"),
        ("missing", "without a result to compare"),
    )
    counted = ((len(process.results(state)), phrase) for state, phrase in words)
    return ", ".join(f"{count:,} {phrase}" for count, phrase in counted if count)


def values_of(group: Group) -> list[str]:
    """Return what a group's one line has no room for."""
    if len(group.differences) <= 3:
        return []
    return list(explain.value_lines(group.differences))


def names_of(found: Sequence[Found]) -> str:
    """Return what the first of a process's tasks are called."""
    called = list(Counter(_inner(each.label) for each in found).items())
    names = ", ".join(name if n == 1 else f"{name} ×{n:,}" for name, n in called[:_LABELS])
    left = sum(n for _, n in called[_LABELS:])
    return names + (f" and {left:,} more" if left else "")


def rest_of(process: ProcessDiff, diff: RunDiff) -> Iterator[str]:
    """Yield what is to be said below why tasks ran: of which there is but one, what they became."""
    if (left := len(process.groups) - MOST_GROUPS) > 0:
        yield f"… and {left:,} more reasons"
    for found, run in ((process.only_before, diff.before), (process.only_after, diff.after)):
        if found:
            ran = sum(task.use is None for task in found)
            count = render.count_of(len(found), "task")
            count += f", {ran:,} ran" if run is diff.after else ""
            yield f"only in {run.name}: {count}: {names_of(found)}"
    for turn, tasks in process.turns().items():
        count, names = render.count_of(len(tasks), "task"), names_of([t.after for t in tasks])
        yield f"{turn}: {count}: {names}"


def hints_of(process: ProcessDiff) -> Iterator[str]:
    """Yield what results that came out different may come from, where no difference says it."""
    different = process.results("different")
    if opaque := sum(map(_is_opaque, different)):
        yield f"of {opaque:,} only the bytes of a pickle could be compared: --data may tell more"
    if different and all(not task.differences and _same_reads(task) for task in different):
        yield (
            "though nothing that is hashed differs: is there randomness without a seed, or a read "
            "that is not declared?"
        )


def _same_reads(task: TaskDiff) -> bool:
    """Whether what both attempts read unasked had the same content."""
    return task.before.made.watched == task.after.made.watched


def _is_opaque(task: TaskDiff) -> bool:
    """Whether all that differs has no canonical form, so that it may be equal all the same."""
    return all(
        isinstance(each.after, Stored) and each.after.opaque
        for each in task.outputs
        if each.state == "different"
    )


def _process(process: ProcessDiff, diff: RunDiff) -> Element:
    outcome = outcome_of(process)
    return element(
        "details",
        "section",
        element(
            "summary",
            "",
            element("code", "name", process.name),
            f" {process.head(diff.before.name, diff.after.name)}{renamed(process)}",
            element("span", "faint", f" · {outcome}") if outcome else None,
        ),
        *(_group(group, process) for group in process.groups[:MOST_GROUPS]),
        *(element("p", "", _sentence(text)) for text in rest_of(process, diff)),
        *(element("p", "bad-text", _sentence(text)) for text in hints_of(process)),
        _results(process, diff),
        open="",
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _group(group: Group, process: ProcessDiff) -> Element:
    values = values_of(group)
    return element(
        "div",
        "group",
        element(
            "div",
            "",
            element("span", "strong", group.text),
            element("span", "faint", f" — {share_of(group, process)}: {names_in(group)}"),
        ),
        element("ul", "lines", *(element("li", "value", each) for each in values))
        if values
        else None,
        *(
            element("details", "", element("summary", "", title), diff_block(_cut(text)), open="")
            for title, text in group.sources
        ),
    )


def _results(process: ProcessDiff, diff: RunDiff) -> Element | None:
    rows = [
        _result(task, output)
        for task in process.results("different")
        for output in task.outputs
        if output.data is not None
    ]
    if not rows:
        return None
    heads = (element("th", "heading", text) for text in ("task", "output", "before → now"))
    left = process.data_left
    way = command(f"diff {diff.before.name} {diff.after.name} --data --limit N")
    more = f"… and {render.count_of(left, 'more task')}: {way}"
    table = element(
        "table",
        "",
        element("thead", "", element("tr", "", *heads)),
        element("tbody", "", *rows),
    )
    return element(
        "div",
        "group",
        element("div", "table-scroll", table),
        element("p", "faint", more) if left else None,
    )


def _result(task: TaskDiff, output: OutputDiff) -> Element:
    assert output.data is not None
    text = _cut("\n".join(output.data.lines))
    return element(
        "tr",
        "",
        element("td", "value", _inner(task.after.label)),
        element("td", "value", output.name),
        element("td", "value", output.data.head, diff_block(text, "none") if text else None),
    )


def _inner(label: str) -> str:
    """Return "depth=8 rep=1" of "fit[depth=8 rep=1]": the process stands above."""
    _, bracket, inside = label.partition("[")
    return inside[:-1] if bracket and inside.endswith("]") else label


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}\n… cut here"
