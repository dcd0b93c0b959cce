"""What `nbcache log` shows: the tasks of runs as a table, as separated lines, or by a template."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbcache.engine.record import history, task_log
from nbcache.errors import UsageError, command
from nbcache.notebook import render
from nbcache.notebook.answer import Answer, answer
from nbcache.notebook.query_result import plain
from nbcache.notebook.verbs import Parsed
from nbcache.store.cache import Cache

_DURATIONS = frozenset({"duration", "realtime", "cpu_time", "time"})
_SIZES = frozenset({"peak_rss", "rchar", "wchar", "memory", "disk"})
_PERCENT = frozenset({"cpu_percent", "%cpu", "pcpu"})
_LONGEST = 100  # characters of a cell


def log_of(parsed: Parsed, cache: Cache) -> Answer:
    """Answer `log`.

    Raises:
        UsageError: words that do not go together, an unknown field, a wrong condition.
        RunError: there is no such run.
    """
    if "--list-fields" in parsed:
        known = task_log.known_fields(cache)
        return answer("\n".join(known), known)
    template = _template(parsed)
    chosen = parsed.text("--fields")
    if chosen is not None:
        fields = [part.strip() for part in chosen.split(",") if part.strip()]
    elif template is not None:
        fields = task_log.fields_in(template)
    else:
        fields = list(task_log.DEFAULT_FIELDS)
    runs = task_log.chosen_runs(
        cache,
        parsed.words,
        before=parsed.text("--before"),
        after=parsed.text("--after"),
        but=parsed.text("--but"),
    )
    rows = task_log.log_rows(
        cache,
        runs,
        fields=fields,
        where=parsed.text("--filter"),
        process=parsed.text("--process"),
        status=parsed.text("--status"),
    )
    data = [dict(zip(fields, map(plain, row), strict=True)) for row in rows]
    if template is not None:
        filled = (task_log.fill(template, each).removesuffix("\n") for each in data)
        return answer("\n".join(filled).rstrip("\n"), data)
    separator = parsed.text("--separator")
    if separator is not None:
        between = _unescaped(separator)
        lines = [between.join(map(task_log.raw_text, map(plain, row))) for row in rows]
        return answer("\n".join(lines), data)
    if not rows:
        return answer(_none(parsed, cache, runs), data)
    texts = [[cell(name, value) for name, value in zip(fields, row, strict=True)] for row in rows]
    table = render.filled_table if chosen is None else render.table
    return answer(table(fields, texts), data)


def _none(parsed: Parsed, cache: Cache, runs: Sequence[str] | None) -> str:
    """Say that no task is to be listed: none fits, none has ended yet, or there are none."""
    chosen = [run for run in history.runs(cache) if runs is None or run.id in runs]
    where = f"run {chosen[0].name}" if len(chosen) == 1 else "these runs"
    going = any(run.status in history.LIVE for run in chosen)
    if any(each in parsed for each in ("--filter", "--process", "--status")):
        none = f"no task of {where} fits"
        return f"{none}, of those that have ended" if going else none
    if going:
        return f"no task of {where} has ended yet"
    return f"{where} had no tasks" if chosen else "no runs"


def _template(parsed: Parsed) -> str | None:
    """The template's text: what was given, or what the file of that name holds."""
    given = parsed.text("--template")
    if given is None:
        return None
    for other in ("--fields", "--separator"):
        if other in parsed:
            raise UsageError(f"--template and {other} do not go together")
    if task_log.fields_in(given):
        return _unescaped(given)
    try:
        text = Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise UsageError(
            f"the template {given!r} names no {{field}}, and cannot be read as a file: {reason}.\n"
            "  Write fields in braces, as in '{name}: {exit}'; "
            f"`{command('log --list-fields')}` lists them"
        ) from None
    if not task_log.fields_in(text):
        raise UsageError(f"the template in the file {given} names no {{field}}")
    return text


def _unescaped(text: str) -> str:
    return text.replace("\\t", "\t").replace("\\n", "\n")


def cell(name: str, value: Any) -> str:
    """Return one value of a table as people read it."""
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if name in _DURATIONS:
            return render.duration(float(value))
        if name in _SIZES:
            return render.size(int(value))
        if name in _PERCENT:
            return f"{value:.1f}%"
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return render.when(moment, datetime.now().astimezone())
    if name == "hash":
        return str(value).rpartition(":")[2][:8]
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
