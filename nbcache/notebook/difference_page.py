"""Two runs compared as markup: what a notebook keeps of `diff`, and what the live view shows.

Pure: a `RunDiff` in, nodes out. A part per process says what ran and what made it so, with the
diffs of sources below; then what came out different. `differences` says the same as plain text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nbcache.engine.record import history
from nbcache.engine.record.finding import Found
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.run_diff import Group, OutputDiff, ProcessDiff, RunDiff, TaskDiff
from nbcache.notebook import place_progress, render
from nbcache.notebook.code_view import diff_block
from nbcache.notebook.markup import Element, element
from nbcache.plan.identity import explain

_LABELS = 8  # tasks named before "and 3 more"
_GROUPS = 20
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


def _process(process: ProcessDiff, diff: RunDiff) -> Element:
    renamed = f" (it was called {process.was})" if process.was not in ("", process.name) else ""
    outcome = ", ".join(_outcome(process))
    return element(
        "details",
        "section",
        element(
            "summary",
            "",
            element("code", "name", process.name),
            f" {process.head(diff.before.name, diff.after.name)}{renamed}",
            element("span", "faint", f" · {outcome}") if outcome else None,
        ),
        *(_group(group) for group in process.groups[:_GROUPS]),
        *_rest(process, diff),
        _results(process),
        open="",
    )


def _outcome(process: ProcessDiff) -> Iterator[str]:
    if count := len(process.results("different")):
        yield f"{count:,} came out different"
    if count := len(process.results("equal")):
        yield f"{count:,} came out equal"
    if count := len(process.results("missing")):
        yield f"{count:,} without a result to compare"


def _group(group: Group) -> Element:
    tasks = [task.after for task in group.tasks]
    count = render.count_of(len(tasks), "task")
    trusted = ", trusted" if group.trusted else ""
    values = list(explain.value_lines(group.differences)) if len(group.differences) > 3 else []
    return element(
        "div",
        "group",
        element(
            "div",
            "",
            element("span", "strong", group.text),
            element("span", "faint", f" — {count}{trusted}: {_named(tasks)}"),
        ),
        element("ul", "lines", *(element("li", "", each.strip()) for each in values))
        if values
        else None,
        *(
            element("details", "", element("summary", "", title), diff_block(_cut(text)), open="")
            for title, text in group.sources
        ),
    )


def _rest(process: ProcessDiff, diff: RunDiff) -> Iterator[Element]:
    left = len(process.groups) - _GROUPS
    if left > 0:
        yield element("p", "faint", f"… and {left:,} more reasons")
    for found, run in ((process.only_before, diff.before), (process.only_after, diff.after)):
        if found:
            count = render.count_of(len(found), "task")
            yield element("p", "", f"Only in {run.name}: {count}: {_named(found)}")
    for turn, tasks in process.turns().items():
        count = render.count_of(len(tasks), "task")
        yield element("p", "", f"{turn.capitalize()}: {count}: {_named([t.after for t in tasks])}")
    different = process.results("different")
    if different and all(not task.differences for task in different):
        yield element(
            "p",
            "bad-text",
            "Though nothing that is hashed differs: is there randomness without a seed, or a read "
            "that is not declared?",
        )


def _results(process: ProcessDiff) -> Element | None:
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
    more = f"… and {left:,} more tasks: %nbcache diff --data --limit N"
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


def _named(found: Sequence[Found]) -> str:
    names = ", ".join(_inner(each.label) for each in found[:_LABELS])
    left = len(found) - _LABELS
    return f"{names} and {left:,} more" if left > 0 else names


def _inner(label: str) -> str:
    """Return "depth=8 rep=1" of "fit[depth=8 rep=1]": the process stands above."""
    _, bracket, inside = label.partition("[")
    return inside[:-1] if bracket and inside.endswith("]") else label


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}\n… cut here"
