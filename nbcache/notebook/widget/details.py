"""One task, as the page shows it: what it was made of, what it did, what it said, and why.

Plain data for JSON. Nothing is decoded that could run code: outputs are described, not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbcache.engine.record import explanations, history
from nbcache.engine.record.finding import Found
from nbcache.engine.record.history import LIVE, RunSummary
from nbcache.engine.running.run import AtWork, Run
from nbcache.errors import UsageError, plain
from nbcache.model.digest import Digest
from nbcache.model.event import TaskKey
from nbcache.model.fingerprint import Component
from nbcache.model.ids import parse_position
from nbcache.model.row import ProcessRecord, UseRow
from nbcache.model.value import Stored
from nbcache.model.view import ShownChunk
from nbcache.notebook import markup, render
from nbcache.notebook.code_view import diff_block, source_block
from nbcache.notebook.widget.tables import FRESH_S
from nbcache.plan.identity.fingerprint import of_tasks
from nbcache.store.cache import Cache
from nbcache.store.history import reading

MOST_LOG = 60_000  # characters of a task's text that cross, from its end
MOST_SOURCE = 100_000
MOST_IMAGE = 2_000_000
_NAMELESS = re.compile(r"<[\w.]+ object(?: at 0x[0-9a-f]+)?>")  # as IPython calls what has no text
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")

Json = dict[str, Any]


_EXACT = """SELECT id, status, hash, coalesce(tag, '') FROM tasks
    WHERE run = ? AND process = ? AND position = ?"""


def find_exact(
    cache: Cache, run_id: str, process: str, position: str, *, known: Sequence[RunSummary]
) -> Found | None:
    """Return a task by its place in a run, None where the log has none yet. known: all runs.

    Of a run that is going the views of a moment ago do, where they have the task.
    """
    going = any(each.id == run_id and each.status in LIVE for each in known)
    rows: list[tuple[str, str, Digest, str]] = []
    for within_s in (FRESH_S, 0.0) if going else (0.0,):
        if not rows:
            with reading(cache, _EXACT, within_s=within_s) as cursor:
                rows = cursor.execute(_EXACT, [run_id, process, position]).fetchall()
    if not rows:
        return None
    row_id, status, hash_, tag = rows[0]
    made = cache.log.find_attempt(row_id)
    if made is None:
        return None
    run = history.find_run(cache, run_id, known=known)
    if status != "CACHED":
        return Found(run, made)
    use = UseRow(
        id="", at=0, run=run_id, process=process, position=position, tag=tag, hash=hash_,
        cached_from=row_id,
    )  # fmt: skip
    return Found(run, made, use)


def task_detail(cache: Cache, run_id: str, run: Run | None, process: str, position: str) -> Json:
    """Return all that is known of a task, but for its log and the reason.

    Raises:
        UsageError: the run has no such task yet, or the cache knows it no more.
    """
    working = _at_work(run, process, position)
    if working is not None and working.row is not None:
        found = Found(history.find_run(cache, run_id), working.row)
        detail = _detail(found, "running")
        detail["label"] = working.label
        return detail
    known = history.runs(cache)
    found_done = find_exact(cache, run_id, process, position, known=known)
    if found_done is not None:
        made_in = found_done.made.run  # its rows may be gone, and what it made be there
        hit = "equal" if made_in == run_id else "cached"
        outcome = hit if found_done.use is not None else found_done.made.status
        name = next((each.name for each in known if each.id == made_in), made_in)
        detail = _detail(found_done, outcome, name)
        detail["earlier"] = _earlier_attempts(cache, found_done)
        return detail
    if run is not None and not run.is_recorded:
        return _unkept(run, process, position, working)
    if run is None or run.done:  # of one of another kernel nobody can name a task before its end
        raise UsageError(f"{cache.root} knows no more of {process}[{position}]: was it deleted?")
    raise UsageError(f"{process}[{position}] waits for its inputs: nothing is known of it yet")


_EARLIER = """SELECT attempt, lower(status), realtime, coalesce(error, signal, '') FROM attempts
    WHERE run = ? AND process = ? AND position = ? AND attempt < ? AND attempt > 0
    ORDER BY attempt DESC LIMIT 20"""


def _earlier_attempts(cache: Cache, found: Found) -> list[Json]:
    """Return what became of the attempts before the one that counts, the last first."""
    made = found.made
    if made.attempt < 2 or found.use is not None:
        return []
    with reading(cache, _EARLIER, within_s=FRESH_S) as cursor:  # they are older than that one
        rows = cursor.execute(
            _EARLIER, [made.run, made.process, made.position, made.attempt]
        ).fetchall()
    return [
        {
            "attempt": attempt,
            "status": status,
            "took": "" if took is None else render.duration(took),
            "error": error,
        }
        for attempt, status, took, error in rows
    ]


def task_why(cache: Cache, run_id: str, process: str, position: str) -> Json:
    """Return why a task ran or was a hit, with the diffs of what changed.

    Raises:
        UsageError: the log has no such task.
    """
    known = history.runs(cache)
    found = find_exact(cache, run_id, process, position, known=known)
    if found is None:
        raise UsageError("the reason is known when the task has ended, and kept with it")
    told = explanations.why_of(cache, found, known=known)
    return {
        "head": told.head,
        "lines": [each for each in told.lines if not each.startswith("error: ")],  # it has its own
        "diffs": [
            {"title": title, "page": markup.record_of([diff_block(text)])}
            for title, text in told.details
        ],
        "differences": [explanations.difference_record(each) for each in told.differences],
    }


def task_log(
    cache: Cache,
    run_id: str,
    run: Run | None,
    process: str,
    position: str,
    read: Callable[[Stored], Sequence[ShownChunk]],
) -> Json:
    """Return what a task showed so far: texts from their end, and pictures."""
    chunks = task_chunks(cache, run_id, run, process, position, read)
    return {"live": _at_work(run, process, position) is not None, "chunks": _chunks(chunks)}


def task_chunks(
    cache: Cache,
    run_id: str,
    run: Run | None,
    process: str,
    position: str,
    read: Callable[[Stored], Sequence[ShownChunk]],
) -> Sequence[ShownChunk]:
    """Return all that a task showed so far."""
    if run is not None:
        return run.chunks(_key(run, process, position))
    found = find_exact(cache, run_id, process, position, known=history.runs(cache))
    return read(found.made.shown) if found is not None and found.made.shown is not None else []


def _key(run: Run, process: str, position: str) -> TaskKey:
    if process not in run.graph.places:
        raise UsageError(f"run {run.name} has no process {process!r}")
    return run.graph.places[process], parse_position(position)


def _at_work(run: Run | None, process: str, position: str) -> AtWork | None:
    return None if run is None else run.at_work.get(_key(run, process, position))


def _chunks(chunks: Sequence[ShownChunk]) -> list[Json]:
    found: list[Json] = []
    room = MOST_LOG
    for chunk in reversed(chunks):
        if chunk.stream == "display":
            found.append(_display(chunk.bundle))
            continue
        text = plain(render.settle_carriage_returns(chunk.text))
        if len(text) > room:
            text = f"… {len(text) - room:,} characters before this …\n{text[len(text) - room :]}"
        found.append({"stream": chunk.stream, "text": text})
        room -= len(text)
        if room <= 0:
            break
    return found[::-1]


def _display(bundle: Mapping[str, object]) -> Json:
    """A picture as it is; of anything else its text: HTML shows in the notebook's own output."""
    for kind in _IMAGES:
        data = "".join(str(bundle.get(kind, "")).split())
        if data and len(data) <= MOST_IMAGE:
            return {"stream": "image", "mime": kind, "data": data}
    text = str(bundle.get("text/plain", ""))
    if not text or _NAMELESS.fullmatch(text):
        kinds = ", ".join(kind.rpartition("/")[2] for kind in bundle if kind != "text/plain")
        text = f"[{kinds or 'something'} displayed: to be seen by 'show in the cell']\n"
    return {"stream": "display", "text": text}


def _detail(found: Found, outcome: str, made_in: str = "") -> Json:
    made, use = found.made, found.use
    record = _record_of(found)
    kept_hash = use.hash if use is not None else made.hash
    return {
        "label": found.label,
        "status": outcome,
        "process": made.process,
        "position": use.position if use is not None else made.position,
        "facts": [list(pair) for pair in _facts(found, outcome, made_in) if pair[1]],
        "error": plain(made.error or ""),
        "traceback": plain(made.traceback or ""),
        **(_source(record.source, record.language) if record else {}),
        "cell": record.cell if record else "",
        "inputs": [
            {"name": each.name, "value": each.scalar or each.summary} for each in made.inputs
        ],
        "outputs": [
            {"name": port.name, "value": _describe(port.stored), "digest": port.stored.digest}
            for port in (made.outputs if outcome != "running" else ())
        ],
        "hash": kept_hash,
        "components": [
            _component(each)
            for each in (*of_tasks(record.components if record else ()), *made.components)
        ],
    }


def _source(text: str, language: str) -> Json:
    block = source_block(text[:MOST_SOURCE], language)
    return {"source": markup.record_of([block]) if text else [], "language": language}


def _record_of(found: Found) -> ProcessRecord | None:
    """What the run keeps of the process once for all its tasks."""
    for record in found.run.processes if found.run is not None else ():
        if record.name == (found.use or found.made).process:
            return record
    return None


def _facts(found: Found, outcome: str, made_in: str) -> Sequence[tuple[str, str]]:
    made = found.made
    took = "" if made.realtime is None else render.duration(made.realtime)
    cpu = "" if made.cpu_time is None else render.duration(made.cpu_time)
    facts = [
        ("took", took),
        ("processor", cpu),
        ("memory", render.size(made.peak_rss) if made.peak_rss else ""),
        ("attempt", str(made.attempt) if made.attempt > 1 else ""),
        ("exit code", str(made.exit) if made.exit else ""),
        ("signal", made.signal or ""),
        ("on", " by ".join(filter(None, (made.host, made.user)))),
        ("work directory", (made.workdir or "") if outcome in ("failed", "ignored") else ""),
    ]
    if found.use is not None:
        facts.insert(0, ("made in", f"run {made_in}"))
    return facts


def _describe(stored: Stored) -> str:
    """Name an output without reading it; small values stand in the row as they are."""
    size = render.size(stored.size)
    if stored.kind == "none":
        return "not made"
    if stored.kind in ("file", "tree"):
        kind = "folder" if stored.kind == "tree" else "file"
        return f"{stored.name or kind} · {kind}, {size}"
    if stored.codec == "json" and stored.inline is not None:
        text = stored.inline.decode("utf-8", "replace")
        return text if len(text) <= 200 else f"{text[:199]}…"
    return f"{stored.codec}, {size}"


def _component(each: Component) -> Json:
    return {
        "kind": each.kind,
        "name": each.name,
        "summary": each.summary,
        "digest": each.digest.rpartition(":")[2][:8],
    }


def _unkept(run: Run, process: str, position: str, working: AtWork | None) -> Json:
    """A task of a run that keeps nothing: what the kernel remembers."""
    key = _key(run, process, position)
    task = run.tasks.get(key)
    if task is None and working is None:
        raise UsageError(f"{process}[{position}] waits for its inputs")
    decl = run.graph.nodes[key[0]].decl
    assert decl is not None
    label = task.label if task is not None else working.label if working is not None else process
    return {
        "label": label,
        "status": task.outcome.value if task is not None else "running",
        "process": process,
        "position": position,
        "facts": [["kept", "no: the run was started with --no-cache"]],
        "error": (task.error if task is not None else "") or "",
        "traceback": "",
        **_source(decl.source or decl.body, decl.language),
        "cell": decl.cell,
        "inputs": [],
        "outputs": [],
        "hash": task.hash if task is not None else "",
        "components": [],
    }
