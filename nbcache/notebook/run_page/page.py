"""The report of a run: one HTML page that stands alone, for a browser, an e-mail or an archive.

A `RunReport` in, a page out, with the style and the script of `static/`. Whatever a user named is
escaped, and the page may load nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from nbcache.engine.record.finding import label_of
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.run_report import Failure, RunReport, TaskLine
from nbcache.errors import plain
from nbcache.notebook import render
from nbcache.notebook.place_progress import hit_share
from nbcache.notebook.run_page import charts

MARK = '<meta name="generator" content="nbcache report">'
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_COLOURS = (  # at least 3:1 on white and on #111; none is that of a failure
    "#0072B2", "#009E73", "#CC79A7", "#A87A00", "#7A68D0", "#258F8F", "#B5597F", "#5E8A2D",
)  # fmt: skip
_SHARES = (
    ("completed", "ran", "done"),
    ("cached", "cached", "cached"),
    ("equal", "equal", "cached"),
    ("stored", "stored", "cached"),
    ("failed", "failed", "failed"),
    ("ignored", "ignored", "failed"),
    ("aborted", "aborted", "pending"),
    ("skipped", "skipped", "pending"),
)
_TONES = {"succeeded": "good", "failed": "bad", "interrupted": "bad", "cancelled": "bad"}


def page_of(report: RunReport) -> str:
    """Return the page."""
    names = [each.name for each in report.processes]
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}

    def colour(process: str) -> str:
        return colours.get(process, _COLOURS[0])

    sections = [
        ("failures", "Failures", _failures(report)),
        ("processes", "Processes", _processes(report)),
        ("timeline", "Timeline", _timeline(report, colour)),
        ("resources", "Resources", _resources(report, colour)),
        ("why", "Why tasks ran", _why(report)),
        ("parameters", "Parameters", _parameters(report.run)),
        ("all-tasks", "Tasks", _tasks(report)),
    ]
    filled = [each for each in sections if each[2]]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in filled)
    inner = "".join(
        f'<section id="{key}"><h2>{title}</h2>{text}</section>' for key, title, text in filled
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{MARK}\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>run {escape(report.run.name)}</title><style>{_style()}</style>"
        "<noscript><style>#tasks tr{display:table-row!important}</style></noscript></head>\n"
        f"<body><header>{_head(report)}</header><nav>{links}</nav>\n<main>{_tiles(report)}"
        f"{_shares(report)}{inner}</main><script>{_beside('report.js')}</script></body></html>\n"
    )


def _beside(name: str) -> str:
    return (Path(__file__).parent / "static" / name).read_text(encoding="utf-8")


def _style() -> str:
    names = {"bad": "failed", "good": "done", "hit": "cached", "going": "running"}
    states = ";".join(f"--{name}:{render.COLOURS[state]}" for name, state in names.items())
    return f":root{{{states}}}\n{_beside('report.css')}"


def _moment(microseconds: int) -> str:
    at = datetime.fromtimestamp(microseconds / 1e6, tz=UTC).astimezone()
    return at.strftime("%Y-%m-%d %H:%M:%S %Z")


def _head(report: RunReport) -> str:
    run = report.run
    tone = _TONES.get(run.status, "going")
    facts = [
        Path(run.notebook).name if run.notebook else "",
        _moment(run.started),
        " on ".join(filter(None, (run.user, run.host))),
        f"{run.sessions} sessions" if run.sessions > 1 else "",
        run.id,
    ]
    error = f'<p class="FAILED">{escape(run.error)}</p>' if run.error else ""
    going = ""
    if run.ended is None:
        made = report.made.astimezone().strftime("%H:%M:%S")
        going = f'<p class="faint">as it stood at {made}</p>'
    return (
        f'<h1>run {escape(run.name)}<span class="status {tone}">{escape(run.status)}</span></h1>'
        f'<p class="facts">{escape(" · ".join(filter(None, facts)))}</p>{error}{going}'
    )


def _tiles(report: RunReport) -> str:
    counts = report.counts
    total = sum(counts.values())
    hits = counts.get("cached", 0) - report.run.own
    share = hit_share(counts, report.run.own) or "-"
    ran = [task for each in report.measured.values() for task in each]
    cpu_s = sum((task.cpu_percent or 0) / 100 * (task.realtime or 0) for task in ran)
    peak = max((task.peak_rss or 0 for task in ran), default=0)
    computed = sum(each.computed_s for each in report.processes)
    took = report.run.elapsed_s
    tiles = [
        (render.duration(took), "took"),
        (f"{total:,}", "task" if total == 1 else "tasks"),
        (share, f"hit rate, {hits:,} from the cache"),
        (render.duration(report.run.saved_s or 0), "of computing saved"),
        (render.duration(computed), "of computing, all tasks"),
        (render.duration(cpu_s), "of processor time"),
        (render.size(peak) if peak else "-", "highest memory of a task"),
        (f"{report.failed:,}", "failed"),
    ]
    inner = "".join(f"<div><b>{escape(big)}</b><span>{small}</span></div>" for big, small in tiles)
    return f'<div class="tiles">{inner}</div>'


def _shares(report: RunReport) -> str:
    counts = {**report.counts, "equal": report.equal}
    counts["cached"] = counts.get("cached", 0) - report.equal
    total = sum(counts.values())
    if not total:
        return '<p class="faint">no task has ended yet</p>'
    bars = legend = ""
    for status, word, colour in _SHARES:
        number = counts.get(status, 0)
        if number:
            fill = f"background:{render.COLOURS[colour]}"
            bars += f'<span style="width:{100 * number / total:.2f}%;{fill}"></span>'
            legend += f'<span><i style="{fill}"></i>{number:,} {word}</span>'
    return f'<div class="shares">{bars}</div><div class="legend">{legend}</div>'


def _failures(report: RunReport) -> str:
    """Failures of one kind are told once: what ended ten tasks is one thing to mend."""
    kinds: dict[tuple[str, str], list[Failure]] = {}
    for each in report.failures:
        kinds.setdefault((each.row.process, each.row.error or "failed"), []).append(each)
    parts = [_failure(alike) for alike in kinds.values()]
    if report.untold:
        parts.append(f'<p class="faint">and {report.untold:,} more tasks failed</p>')
    return "".join(parts)


def _failure(alike: Sequence[Failure]) -> str:
    row = alike[0].row
    labels = [label_of(each.row) for each in alike]
    more = f" and {len(labels) - 6:,} more" if len(labels) > 6 else ""
    facts = [
        "ignored" if row.status == "ignored" else "",
        f"attempt {row.attempt}",
        f"exit {row.exit}" if row.exit is not None else "",
        row.signal or "",
        render.duration(row.realtime) if row.realtime is not None else "",
        f"nbcache why {row.hash.rpartition(':')[2][:8]}",
    ]
    text = (
        f'<div class="failure"><b>{escape(", ".join(labels[:6]) + more)}</b> '
        f"{escape(row.error or 'failed')}"
        f'<p class="facts">{escape(" · ".join(filter(None, facts)))}</p>'
    )
    if row.workdir:
        text += f'<p class="facts">its folder: <code>{escape(row.workdir)}</code></p>'
    of = f" of {labels[0]}" if len(labels) > 1 else ""
    told = (("traceback", row.traceback), ("the end of what was printed", alike[0].log))
    for title, body in told:
        if body and body.strip():
            text += (
                f"<details><summary>{escape(title + of)}</summary>"
                f"<pre>{escape(plain(body))}</pre></details>"
            )
    return text + "</div>"


def _processes(report: RunReport) -> str:
    heads = ("process", "ran", "cached", "equal", "failed", "other", "median", "longest",
             "computing", "processor", "memory", "asked", "read", "written")  # fmt: skip
    numeric = [head not in ("process", "other") for head in heads]
    rows = []
    for each in report.processes:
        ran = report.measured.get(each.name, ())
        counts = dict(each.counts)
        done, hits, failed = (counts.pop(name, 0) for name in ("completed", "cached", "failed"))
        times = sorted(task.realtime for task in ran if task.realtime is not None)
        rows.append(
            [
                each.name,
                f"{done:,}",
                f"{hits - each.equal:,}",
                f"{each.equal:,}" if each.equal else "",
                f"{failed:,}" if failed else "",
                ", ".join(f"{number:,} {name}" for name, number in counts.items()),
                render.duration(charts.quartiles(times)[1]) if times else "",
                render.duration(times[-1]) if times else "",
                render.duration(each.computed_s) if each.computed_s else "",
                _most(ran, lambda task: task.cpu_percent, lambda value: f"{value:.0f}%"),
                _most(ran, lambda task: task.peak_rss, lambda value: render.size(int(value))),
                _most(ran, lambda task: task.memory, lambda value: render.size(int(value))),
                _sum(ran, lambda task: task.rchar),
                _sum(ran, lambda task: task.wchar),
            ]
        )
    if not rows:
        return ""
    kept = [place for place in range(len(heads)) if place < 3 or any(row[place] for row in rows)]
    head = "".join(_th(heads[place], numeric[place]) for place in kept)
    body = "".join(
        "<tr>" + "".join(_td(row[place], numeric[place]) for place in kept) + "</tr>"
        for row in rows
    )
    note = "median and longest of the time that bodies ran; processor and memory: the highest"
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="faint">{note}</p>'
    )


def _th(text: str, numeric: bool) -> str:
    return f'<th scope="col"{" class=n" if numeric else ""}>{escape(text)}</th>'


def _td(text: str, numeric: bool) -> str:
    return f"<td{' class=n' if numeric else ''}>{escape(text)}</td>"


def _most(
    tasks: Sequence[TaskLine],
    get: Callable[[TaskLine], float | None],
    say: Callable[[float], str],
) -> str:
    known = [value for task in tasks if (value := get(task)) is not None]
    return say(max(known)) if known else ""


def _sum(tasks: Sequence[TaskLine], get: Callable[[TaskLine], int | None]) -> str:
    known = [value for task in tasks if (value := get(task)) is not None]
    return render.size(sum(known)) if known else ""


def _timeline(report: RunReport, colour: Callable[[str], str]) -> str:
    if not report.bars:
        return '<p class="faint">nothing ran: all results were there</p>'
    legend = "".join(
        f'<span><i style="background:{colour(name)}"></i>{escape(name)}</span>'
        for name in dict.fromkeys(bar.process for bar in report.bars)
    )
    legend += '<span><i style="background:var(--wait)"></i>waiting</span>'
    drawn_as = {charts.KINDS.get(bar.status) for bar in report.bars}
    for kind, tint, word in (("bad", "bad", "failed"), ("cut", "soft", "aborted")):
        if kind in drawn_as:
            legend += f'<span><i style="background:var(--{tint})"></i>{word}</span>'
    drawn = charts.timeline(report.bars, report.clock_s, colour)
    drawn = drawn.replace('class="chart"', 'class="chart tall" tabindex="0"', 1)
    return f'<div class="legend">{legend}</div>{drawn}'


def _resources(report: RunReport, colour: Callable[[str], str]) -> str:
    if not report.measured:
        return ""
    plots: list[tuple[str, Callable[[TaskLine], float | None], Callable[[float], str]]] = [
        ("Duration", lambda task: task.realtime, render.duration),
        ("Memory, highest", lambda task: task.peak_rss, lambda value: render.size(int(value))),
        ("Processor, 100% is one core", lambda task: task.cpu_percent, lambda v: f"{v:.0f}%"),
        ("Read", lambda task: task.rchar, lambda value: render.size(int(value))),
        ("Written", lambda task: task.wchar, lambda value: render.size(int(value))),
    ]
    parts = []
    for title, get, say in plots:
        values = {
            name: [float(value) for task in tasks if (value := get(task)) is not None]
            for name, tasks in report.measured.items()
        }
        if any(map(any, values.values())):
            asked = _asked(report, title)
            parts.append(f"<div><h3>{title}</h3>{charts.boxes(values, say, colour, asked)}</div>")
    note = (
        "Box: the middle half of the tasks. Line: the median, and its value at the right. "
        "Dashed: what was asked for."
    )
    return f'<div class="pair">{"".join(parts)}</div><p class="faint">{note}</p>'


def _asked(report: RunReport, title: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, tasks in report.measured.items():
        if title.startswith("Memory"):
            found[name] = float(max((task.memory or 0 for task in tasks), default=0))
        elif title.startswith("Processor"):
            found[name] = 100.0 * max((task.cpus or 0 for task in tasks), default=0)
    return {name: value for name, value in found.items() if value}


def _why(report: RunReport) -> str:
    by_process: dict[str, list[tuple[str, int]]] = {}
    for process, reason, number in report.reasons:
        by_process.setdefault(process, []).append((reason, number))
    parts = []
    for each in report.processes:
        reasons = by_process.get(each.name, [])
        lines = "".join(
            f"<li>{escape(reason)} "
            f"<span class=faint>({render.count_of(number, 'task')})</span></li>"
            for reason, number in reasons[:8]
        )
        if len(reasons) > 8:
            lines += f'<li class="faint">and {len(reasons) - 8} more reasons</li>'
        if not reasons:
            lines = '<li class="faint">no task of it ran</li>'
        components = report.components.get(each.name, ())
        rows = "".join(
            f"<tr><td>{escape(c.kind)}</td><td>{escape(c.name)}</td><td>{escape(c.summary)}</td>"
            f"<td><code>{escape(c.digest.rpartition(':')[2][:8])}</code></td></tr>"
            for c in components
        )
        table = (
            f"<details><summary>what its tasks share in their hashes: {len(components)}</summary>"
            '<div class="scroll" tabindex="0"><table><thead><tr><th>kind</th><th>name</th>'
            f"<th>what</th><th>digest</th></tr></thead><tbody>{rows}</tbody></table></div></details>"
        )
        parts.append(f"<h3>{escape(each.name)}</h3><ul>{lines}</ul>{table if rows else ''}")
    return "".join(parts)


def _parameters(run: RunSummary) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(text)}</code></td></tr>"
        for name, text in run.parameters.items()
    )
    return (
        f'<div class="scroll" tabindex="0"><table><tbody>{rows}</tbody></table></div>'
        if rows
        else ""
    )


def _tasks(report: RunReport) -> str:
    if not report.tasks:
        return ""
    heads = (
        ("task", False, "18%"), ("status", False, "10%"), ("try", True, "4%"),
        ("hash", False, "8%"), ("duration", True, "8%"), ("ran", True, "6%"),
        ("processor", True, "9%"), ("memory", True, "8%"), ("read", True, "6%"),
        ("written", True, "7%"), ("note", False, "16%"),
    )  # fmt: skip
    head = "".join(
        f'<th scope="col" style="width:{width}"{" class=n" if numeric else ""}>'
        f'<button type="button">{name}</button></th>'
        for name, numeric, width in heads
    )
    body = "\n".join(_task(task, report.run_names) for task in report.tasks)
    statuses = sorted({task.status for task in report.tasks})
    options = "".join(f"<option>{escape(status)}</option>" for status in statuses)
    more = ""
    if report.left_out:
        more = (
            f'<p class="faint">{report.left_out:,} more tasks: '
            f"<code>nbcache log {escape(report.run.name)}</code></p>"
        )
    return (
        '<div class="tools" id="tools" hidden><input type="search" placeholder="filter tasks" '
        'aria-label="filter tasks"><select aria-label="status"><option value="">any status</option>'
        f'{options}</select><output class="faint"></output>'
        '<button type="button" hidden>show all</button></div>'
        f'<div class="table" tabindex="0"><table id="tasks"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>{more}"
    )


def _task(task: TaskLine, run_names: Mapping[str, str]) -> str:
    note = task.error or task.reason or ""
    if task.cached_from_run is not None:
        note = f"of run {run_names.get(task.cached_from_run, task.cached_from_run)}"
    label, note = escape(task.label), escape(" ".join(note.split())[:300])
    name, which = escape(task.process), escape(task.label.removeprefix(task.process))
    return (
        f'<tr data-s="{escape(task.status)}"><td title="{label}"><div><span>{name}</span>'
        f"<span>{which}</span></div></td>"
        f'<td class="{escape(task.status)}">{escape(task.status)}</td>'
        + _number(task.attempt, str)
        + f"<td><code>{escape(task.short or '')}</code></td>"
        + _number(task.duration, render.duration)
        + _number(task.realtime, render.duration)
        + _number(task.cpu_percent, lambda value: f"{value:.0f}%")
        + _number(task.peak_rss, render.size)
        + _number(task.rchar, render.size)
        + _number(task.wchar, render.size)
        + f"<td>{note}</td></tr>"
    )


def _number(value: float | None, say: Callable[[Any], str]) -> str:
    if value is None:
        return "<td class=n></td>"
    return f'<td class=n data-v="{value}">{escape(say(value))}</td>'
