"""Two runs compared, as text: what `diff` prints. Its markup is `difference_page`.

Pure: a `RunDiff` in, a picture out. One line per process says what ran and what made it so;
source diffs stand below it; what is equal takes one line in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nbcache.engine.record.finding import Found
from nbcache.engine.record.run_diff import Group, OutputDiff, ProcessDiff, RunDiff, TaskDiff
from nbcache.model.value import Stored
from nbcache.notebook import render
from nbcache.notebook.difference_page import facts_of, page_of
from nbcache.notebook.markup import element, html_of
from nbcache.notebook.render import Rendered
from nbcache.plan.identity import explain

_LABELS = 5  # tasks named before "and 3 more"
_TASKS = 20  # tasks with what came out different, when data was asked for
_GROUPS = 6


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
    quiet = [process for process in diff.processes if process.unchanged]
    if quiet:
        names = ", ".join(f"{each.name} ({_tasks(len(each.tasks))})" for each in quiet)
        yield f"equal: {names}"
    if not diff.processes:
        yield "neither run has a process"


def _tasks(count: int) -> str:
    return render.count_of(count, "task")


def _process(process: ProcessDiff, diff: RunDiff) -> list[str]:
    heads = [f"{process.name}: {_share(group, process)}" for group in process.groups[:1]]
    if not heads:
        heads = [f"{process.name}: {process.head(diff.before.name, diff.after.name)}"]
    if process.was and process.was != process.name:
        heads[0] += f" (it was called {process.was})"
    parts = heads
    for index, group in enumerate(process.groups[:_GROUPS]):
        if index:
            parts.append(_indented(_share(group, process)))
        if len(process.groups) > 1:
            parts.append(_indented(_named([task.after for task in group.tasks]), 4))
        parts += _values(group)
        parts += [_preformatted(text, 4) for _, text in group.sources]
    if len(process.groups) > _GROUPS:
        parts.append(_indented(f"… and {len(process.groups) - _GROUPS} more reasons"))
    return [*parts, *_only(process, diff), *_outcomes(process), *_results(process)]


def _share(group: Group, process: ProcessDiff) -> str:
    if group.ran:
        return f"{group.ran} of {process.total} ran: {group.text}"
    if group.trusted:
        return f"{group.trusted} of {process.total} trusted: {group.text}"
    return f"{len(group.tasks)} of {process.total} differ and were cached: {group.text}"


def _values(group: Group) -> list[str]:
    """What the one line has no room for."""
    if len(group.differences) <= 3:
        return []
    return [_indented(line, 4) for line in explain.value_lines(group.differences)]


def _only(process: ProcessDiff, diff: RunDiff) -> list[str]:
    parts: list[str] = []
    if process.only_before:
        count, names = _tasks(len(process.only_before)), _named(process.only_before)
        parts.append(_indented(f"only in {diff.before.name}: {count}: {names}"))
    if process.only_after:
        count, names = _tasks(len(process.only_after)), _named(process.only_after)
        ran = sum(task.use is None for task in process.only_after)
        parts.append(_indented(f"only in {diff.after.name}: {count}, {ran} ran: {names}"))
    return parts


def _named(found: Sequence[Found]) -> str:
    names = ", ".join(each.label for each in found[:_LABELS])
    return names + (f" and {len(found) - _LABELS} more" if len(found) > _LABELS else "")


def _outcomes(process: ProcessDiff) -> list[str]:
    return [
        _indented(f"{turn}: {_tasks(len(tasks))}: {_named([task.after for task in tasks])}")
        for turn, tasks in process.turns().items()
    ]


def _results(process: ProcessDiff) -> list[str]:
    if not process.tasks:
        return []
    different = process.results("different")
    total, missing = len(process.tasks), len(process.results("missing"))
    if not different and not missing:
        return [_indented(f"came out equal: {total} of {total}")]
    parts: list[str] = []
    if missing:
        parts.append(_indented(f"no result to compare: {missing} of {total}"))
    if different:
        parts.append(_indented(f"came out different: {len(different)} of {total}"))
        opaque = sum(_is_opaque(task) for task in different)
        if opaque:
            hint = f"of {opaque} only the bytes of a pickle could be compared: --data may tell more"
            parts.append(_indented(hint, 4))
        if all(not task.differences and _same_reads(task) for task in different):
            hint = "though nothing that is hashed differs: is there randomness without a seed,"
            parts.append(_indented(f"{hint} or a read that is not declared?", 4))
    with_data = [task for task in different if any(each.data for each in task.outputs)]
    for task in with_data[:_TASKS]:
        parts += _task_data(task)
    left = len(with_data) - len(with_data[:_TASKS]) + process.data_left
    if left and with_data:
        parts.append(_indented(f"… and {left} more (--limit, --process)", 4))
    return parts


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


def _task_data(task: TaskDiff) -> Iterable[str]:
    shown: list[OutputDiff] = [each for each in task.outputs if each.data is not None]
    for each in shown:
        assert each.data is not None
        yield _indented(f"{task.after.label} {each.name}: {each.data.head}", 4)
        if each.data.lines:
            yield _preformatted("\n".join(each.data.lines), 6)


def _indented(text: str, by: int = 2) -> str:
    return f"{' ' * by}{text}"


def _preformatted(text: str, by: int) -> str:
    return "\n".join(f"{' ' * by}{line}" for line in text.split("\n"))
