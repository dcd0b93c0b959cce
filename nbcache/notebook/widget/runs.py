"""The runs of the cache, and two of them compared, as the page shows them. Plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbcache.engine.record import compare, history
from nbcache.notebook import difference_page, markup, place_progress, render
from nbcache.store.cache import Cache

Json = dict[str, Any]


def run_page(cache: Cache, *, text: str = "", offset: int = 0, limit: int = 15) -> Json:
    """Return a page of the runs, the newest first; `text` has to be in what the page shows."""
    now = datetime.now().astimezone()
    known = history.runs(cache)
    fitting = [
        run
        for run in known
        if text.lower() in " ".join(map(str, _run_line(run, now).values())).lower()
    ]
    shown = fitting[offset : offset + limit]
    return {
        "rows": [_run_line(history.as_it_stands(cache, run), now) for run in shown],
        "matched": len(fitting),
        "total": len(known),
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
        "tasks": place_progress.outcome_phrase(run.counts, run.own) if run.counts else "",
        "notebook": Path(run.notebook).name if run.notebook else "",
        "parameters": " ".join(f"{name}={value}" for name, value in run.parameters.items()),
    }


def run_diff(cache: Cache, asked: Mapping[str, Any]) -> Json:
    """Compare two runs, with what `diff` takes for options."""
    data = bool(asked.get("data"))
    found = compare.diff_runs(
        cache,
        [str(asked.get("before", "")), str(asked.get("after", ""))],
        data=data,
        process=asked.get("process"),
        limit=int(asked.get("limit") or compare.DATA_LIMIT),
    )
    return {
        "page": markup.record_of(difference_page.page_of(found)),
        "differ": any(each.results("different") for each in found.processes),
        "data": data,
    }
