"""Two runs compared, as text: what `diff` prints. Its markup is `difference_page`.

Pure: a `RunDiff` in, a picture out. One line per process says what ran and what made it so;
source diffs stand below it; what is equal takes one line in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nbcache.engine.record.run_diff import OutputDiff, ProcessDiff, RunDiff, TaskDiff
from nbcache.notebook import render
from nbcache.notebook.difference_page import (
    MOST_GROUPS,
    facts_of,
    hints_of,
    names_in,
    outcome_of,
    page_of,
    renamed,
    rest_of,
    share_of,
    values_of,
)
from nbcache.notebook.markup import element, html_of
from nbcache.notebook.render import Rendered

_TASKS = 20  # tasks with what came out different, when data was asked for


def render_diff(diff: RunDiff) -> Rendered:
    """Return the picture of two runs compared, as text and as HTML."""
    head = f"run {diff.before.name} → run {diff.after.name}"
    title = element("div", "strong", head)
    return Rendered("\n".join([head, *_lines(diff)]), html_of([title, *page_of(diff)]))


def _lines(diff: RunDiff) -> Iterator[str]:
    yield from facts_of(diff)
    for process in diff.processes:
        if not process.unchanged:
            yield from _process(process, diff)
    if quiet := [process for process in diff.processes if process.unchanged]:
        names = (f"{each.name} ({render.count_of(len(each.tasks), 'task')})" for each in quiet)
        yield f"equal: {', '.join(names)}"
    if not diff.processes:
        yield "neither run has a process"


def _process(process: ProcessDiff, diff: RunDiff) -> Iterator[str]:
    groups = process.groups[:MOST_GROUPS]
    heads = [f"{share_of(group, process)}: {group.text}" for group in groups]
    first = heads[0] if heads else process.head(diff.before.name, diff.after.name)
    yield f"{process.name}: {first}{renamed(process)}"
    for group, head in zip(groups, heads, strict=True):
        if head is not first:
            yield _indented(head)
        if len(groups) > 1:
            yield _indented(names_in(group), 4)
        yield from (_indented(line, 4) for line in values_of(group))
        yield from (_indented(text, 4) for _, text in group.sources)
    said = (*rest_of(process, diff), outcome_of(process), *hints_of(process))
    yield from (_indented(text) for text in said if text)
    with_data = [t for t in process.results("different") if any(each.data for each in t.outputs)]
    for task in with_data[:_TASKS]:
        yield from _task_data(task)
    left = len(with_data) - len(with_data[:_TASKS]) + process.data_left
    if left and with_data:
        yield _indented(f"… and {left} more (--limit, --process)", 4)


def _task_data(task: TaskDiff) -> Iterable[str]:
    shown: list[OutputDiff] = [each for each in task.outputs if each.data is not None]
    for each in shown:
        assert each.data is not None
        yield _indented(f"{task.after.label} {each.name}: {each.data.head}", 4)
        if each.data.lines:
            yield _indented("\n".join(each.data.lines), 6)


def _indented(text: str, by: int = 2) -> str:
    return "\n".join(f"{' ' * by}{line}" for line in text.split("\n"))
