"""The drawings of a run's report, as inline SVG that stretches with the page. Pure.

Places are percentages of the width and only text is HTML, so that a narrow window squeezes the
bars and not the words.
"""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Callable, Mapping, Sequence
from html import escape

from nbcache.engine.record.run_report import Bar
from nbcache.notebook import render

ROW_BY_ROW = 120  # attempts that have a line of their own
PARTS = 5  # of a length of time, about
_SMALLEST = 0.05  # per cent of the width: what is shorter is drawn so wide
_DOTS = 80


def timeline(bars: Sequence[Bar], clock_s: float, colour: Callable[[str], str]) -> str:
    """Return when attempts waited and ran: one line each, or packed into lanes where many."""
    if len(bars) <= ROW_BY_ROW:
        lines = "".join(_line(bar, clock_s, colour) for bar in bars)
    else:
        lines = "".join(
            _lanes(process, [bar for bar in bars if bar.process == process], clock_s, colour)
            for process in dict.fromkeys(bar.process for bar in bars)
        )
    return f'<div class="chart">{_axis(clock_s)}{lines}</div>'


def _axis(clock_s: float) -> str:
    step = nice_step(clock_s)
    ticks = []
    at = 0.0
    while at <= clock_s:
        ticks.append(f'<span style="left:{100 * at / clock_s:.2f}%">{render.duration(at)}</span>')
        at += step
    return f'<div class="row axis"><b></b><div class="ticks">{"".join(ticks)}</div><i></i></div>'


def nice_step(length: float) -> float:
    """Return a round step that cuts a length of time (seconds) into about `PARTS`."""
    rounds = [unit * k for unit in (1e-3, 1e-2, 0.1, 1) for k in (1, 2, 5)]
    rounds += [10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400]
    for each in rounds:
        if length / each <= PARTS:
            return each
    return 86400.0 * max(1, round(length / 86400 / PARTS))


def _line(bar: Bar, clock_s: float, colour: Callable[[str], str]) -> str:
    took = render.duration(bar.ended - bar.started)
    waited = bar.started - bar.submitted
    tries = f", attempt {bar.attempt}" if bar.attempt > 1 else ""
    memory = f", {render.size(bar.peak_rss)}" if bar.peak_rss else ""
    told = f"{bar.label}: {bar.status.lower()}{tries}, waited {render.duration(waited)}, ran {took}"
    shapes = _rect(bar.submitted, bar.started, clock_s, "queued", 6, 4)
    shapes += _rect(bar.started, bar.ended, clock_s, _kind(bar), 2, 12, colour(bar.process))
    return (
        f'<div class="row"><b title="{escape(told + memory)}">{escape(bar.label)}</b>'
        f'<svg height="16" role="img" aria-label="{escape(told)}"><title>{escape(told + memory)}'
        f"</title>{shapes}</svg><i>{took}{memory}</i></div>"
    )


KINDS = {"FAILED": "bad", "IGNORED": "bad", "ABORTED": "cut"}  # of bars; others: "ran"


def _kind(bar: Bar) -> str:
    return KINDS.get(bar.status, "ran")


def _rect(
    start: float, end: float, clock_s: float, kind: str, y: int, height: int, fill: str = ""
) -> str:
    width = 100 * (end - start) / clock_s
    if width <= 0 and kind == "queued":
        return ""
    style = f' style="fill:{fill}"' if fill and kind == "ran" else ""
    return (
        f'<rect class="{kind}"{style} x="{100 * start / clock_s:.3f}%" y="{y}" '
        f'width="{max(width, _SMALLEST):.3f}%" height="{height}"/>'
    )


def _lanes(process: str, bars: Sequence[Bar], clock_s: float, colour: Callable[[str], str]) -> str:
    """All attempts of a process, each in the first lane that is free when it starts."""
    free: list[tuple[float, int]] = []  # when a lane is free, and which
    count, placed = 0, []
    for bar in bars:
        if free and free[0][0] <= bar.started:
            _, lane = heapq.heappop(free)
        else:
            lane, count = count, count + 1
        heapq.heappush(free, (bar.ended, lane))
        placed.append((bar, lane))
    height = 8 if count <= 16 else 3
    shapes, drawn = [], set[tuple[int, int, str]]()
    for bar, lane in placed:
        width = max(bar.ended - bar.started, clock_s * _SMALLEST / 100)
        cell = (lane, round(2000 * bar.started / clock_s), _kind(bar))
        if cell in drawn and width <= clock_s / 2000:
            continue  # under what is there already
        drawn.add(cell)
        shapes.append(
            _rect(
                bar.started, bar.started + width, clock_s, _kind(bar),
                lane * (height + 1), height, colour(process),
            )
        )  # fmt: skip
    told = f"{process}: {render.count_of(len(bars), 'attempt')}, at most {count} at a time"
    return (
        f'<div class="row"><b title="{escape(told)}">{escape(process)}</b><svg '
        f'height="{count * (height + 1)}" role="img" aria-label="{escape(told)}">'
        f"<title>{escape(told)}</title>{''.join(shapes)}</svg>"
        f"<i>{len(bars):,} attempts, {count} at a time</i></div>"
    )


def boxes(
    values: Mapping[str, Sequence[float]],
    say: Callable[[float], str],
    colour: Callable[[str], str],
    asked: Mapping[str, float],
) -> str:
    """Return one box per process: quartiles, median, least and most, the single values as dots.

    `asked` is what each process asked for, drawn as a line where it lies within the scale.
    """
    filled = {name: sorted(each) for name, each in values.items() if each}
    if not filled:
        return '<p class="faint">nothing was measured</p>'
    highest = max(each[-1] for each in filled.values()) or 1.0
    rows = "".join(
        _box(name, each, highest, say, colour(name), asked.get(name))
        for name, each in filled.items()
    )
    scale = "".join(
        f'<span style="left:{50 * part}%">{escape(say(highest * part / 2))}</span>'
        for part in range(3)
    )
    axis = f'<div class="row axis"><b></b><div class="ticks">{scale}</div><i></i></div>'
    return f'<div class="chart">{axis}{rows}</div>'


def _box(
    name: str,
    ordered: Sequence[float],
    highest: float,
    say: Callable[[float], str],
    fill: str,
    asked: float | None,
) -> str:
    def at(value: float) -> str:
        return f"{98 * value / highest + 1:.2f}%"

    low, middle, high = quartiles(ordered)
    least, most = ordered[0], ordered[-1]
    told = (
        f"{name}: {render.count_of(len(ordered), 'task')}, median {say(middle)}, half of them "
        f"{say(low)} to {say(high)}, all {say(least)} to {say(most)}"
    )
    step = max(1, len(ordered) // _DOTS)
    dots = "".join(
        f'<circle cx="{at(value)}" cy="{6 + (place * 5) % 9}" r="1.6"/>'
        for place, value in enumerate(ordered[::step])
    )
    limit = ""
    if asked and asked <= highest * 1.02:
        told += f", asked for {say(asked)}"
        limit = f'<line class="asked" x1="{at(asked)}" x2="{at(asked)}" y1="0" y2="20"/>'
    width = max(98 * (high - low) / highest, 0.2)
    shapes = (
        f'<line x1="{at(least)}" x2="{at(most)}" y1="10" y2="10" class="whisker"/>'
        f'<rect x="{at(low)}" width="{width:.2f}%" y="4" height="12" rx="2" style="fill:{fill}" '
        f'class="box"/><g style="fill:{fill}" class="dots">{dots}</g>'
        f'<line x1="{at(middle)}" x2="{at(middle)}" y1="2" y2="18" class="median"/>{limit}'
    )
    return (
        f'<div class="row"><b title="{escape(name)}">{escape(name)}</b><svg height="20" role="img" '
        f'aria-label="{escape(told)}"><title>{escape(told)}</title>{shapes}</svg>'
        f"<i>{escape(say(middle))}</i></div>"
    )


def quartiles(ordered: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles and the median of sorted values."""
    if len(ordered) == 1:
        return ordered[0], ordered[0], ordered[0]
    low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return low, middle, high
