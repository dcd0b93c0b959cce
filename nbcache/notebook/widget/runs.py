"""The runs of the cache, and two of them compared, as the page shows them. Plain data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbcache.engine.record import compare, history
from nbcache.engine.record.compare import Group, OutputDiff, ProcessDiff, TaskDiff
from nbcache.engine.record.explanations import Found
from nbcache.notebook import cards, render
from nbcache.plan.identity import explain
from nbcache.store.cache import Cache

MOST_LABELS = 8
MOST_GROUPS = 20
MOST_COMPARED = 20  # tasks of a process whose results are read
MOST_TEXT = 20_000  # characters of one diff

Json = dict[str, Any]


def run_page(cache: Cache, *, text: str = "", offset: int = 0, limit: int = 15) -> Json:
    """Return a page of the runs, the newest first; `text` has to be in what the page shows."""
    now = datetime.now().astimezone()
    rows = [_run_line(run, now) for run in history.runs(cache)]
    fitting = [row for row in rows if text.lower() in " ".join(map(str, row.values())).lower()]
    return {
        "rows": fitting[offset : offset + limit],
        "matched": len(fitting),
        "total": len(rows),
        "offset": offset,
    }


def _run_line(run: history.RunSummary, now: datetime) -> Json:
    began = datetime.fromtimestamp(run.started / 1e6, tz=UTC)
    return {
        "run": run.id,
        "name": run.name,
        "status": run.status,
        "when": render.when(began, now),
        "took": render.duration(run.elapsed_s),
        "tasks": cards.outcome_phrase(run.counts) if run.counts else "",
        "notebook": Path(run.notebook).name if run.notebook else "",
        "parameters": " ".join(f"{name}={value}" for name, value in run.parameters.items()),
    }


def run_diff(cache: Cache, before: str, after: str, *, data: bool = False) -> Json:
    """Compare two runs; with `data` also the results that differ, of some tasks of each process."""
    found = compare.diff_runs(cache, [before, after], data=data, limit=MOST_COMPARED)
    return {
        "before": _run_line(found.before, datetime.now().astimezone()),
        "after": _run_line(found.after, datetime.now().astimezone()),
        "parameters": [list(each) for each in found.parameters],
        "packages": [explain.phrase(each) for each in found.packages],
        "processes": [_process(each) for each in found.processes],
        "data": data,
    }


def _process(process: ProcessDiff) -> Json:
    different = process.results("different")
    compared = [task for task in different if any(each.data for each in task.outputs)]
    return {
        "name": process.name,
        "was": process.was,
        "gone": process.gone,
        "unchanged": process.unchanged,
        "ran": process.ran,
        "total": process.total,
        "groups": [_group(each) for each in process.groups[:MOST_GROUPS]],
        "more_groups": max(0, len(process.groups) - MOST_GROUPS),
        "only_before": _named(process.only_before),
        "only_after": _named(process.only_after),
        "equal": len(process.results("equal")),
        "different": len(different),
        "missing": len(process.results("missing")),
        "unexplained": bool(different) and all(not task.differences for task in different),
        "results": [_result(task, each) for task in compared for each in task.outputs if each.data],
        "left": process.data_left,
    }


def _group(group: Group) -> Json:
    return {
        "text": group.text,
        "ran": group.ran,
        "tasks": _named([task.after for task in group.tasks]),
        "values": list(explain.value_lines(group.differences)),
        "sources": [
            {"title": title, "text": _cut(text)} for title, text in group.sources
        ],
    }  # fmt: skip


def _named(found: Sequence[Found]) -> Json:
    return {"count": len(found), "labels": [each.label for each in found[:MOST_LABELS]]}


def _result(task: TaskDiff, output: OutputDiff) -> Json:
    assert output.data is not None
    return {
        "task": task.after.label,
        "output": output.name,
        "kind": output.data.kind,
        "head": output.data.head,
        "text": _cut("\n".join(output.data.lines)),
    }


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}\n… cut here"
