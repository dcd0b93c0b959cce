"""What the verbs that read the log answer, for the notebook and the shell alike.

Each answer carries the picture for people and the data for `--json`. Only `cancel`, `clean`, `pin`,
`unpin` and `trust` write. What one verb needs and others do not is imported by it: in a shell each
command is a process, which should not wait for what it does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nbcache.engine.record import history
from nbcache.errors import CacheFormatError, with_article
from nbcache.model.digest import short
from nbcache.notebook import place_progress, render
from nbcache.notebook.answer import Answer, answer, moment
from nbcache.notebook.render import Rendered
from nbcache.notebook.verbs import Parsed
from nbcache.store.cache import Cache

if TYPE_CHECKING:
    from nbcache.engine.record.results import Results
    from nbcache.engine.running.restoring import RestoredRun
    from nbcache.engine.session import Session
    from nbcache.store.history import Logged


def open_for_reading(place: Path) -> Cache:
    """Return the cache in a folder.

    Raises:
        CacheFormatError: there is none; says how to name it.
    """
    try:
        return Cache.open(place, create=False)
    except CacheFormatError as error:
        if not (place / "nbcache.json").exists():
            raise CacheFormatError(
                f"{error}\n  Go to the notebook's folder, or name the cache: --cache FOLDER"
            ) from None
        raise


def perform(parsed: Parsed, cache: Cache) -> Answer:
    """Return the answer to a verb that reads the log."""
    verbs: dict[str, Callable[[Parsed, Cache], Answer]] = {
        "status": _status,
        "cancel": _cancel,
        "runs": _runs,
        "show": _show,
        "log": _log,
        "why": _why,
        "diff": _diff,
        "lineage": _lineage,
        "report": _report,
        "sql": _sql,
        "verify": _verify,
        "doctor": doctor,
        "clean": _housekeeping,
        "pin": _housekeeping,
        "unpin": _housekeeping,
        "du": _housekeeping,
        "trust": _trusted,
        "push": _team,
        "pull": _team,
    }
    return verbs[parsed.verb.name](parsed, cache)


def _status(parsed: Parsed, cache: Cache) -> Answer:
    going = [history.as_it_stands(cache, run) for run in history.going_runs(cache)]
    if not going:
        return answer("no run is going", [])
    rows = [
        (
            run.name,
            moment(run.started),
            render.duration(run.elapsed_s),
            place_progress.outcome_phrase(run.counts, run.own) if run.counts else "none",
            f"{run.host} {run.pid}",
        )
        for run in going
    ]
    grid = render.table(["run", "since", "for", "tasks so far", "where"], rows)
    return answer(grid, [run.record() for run in going], "running")


def _cancel(parsed: Parsed, cache: Cache) -> Answer:
    run = history.request_cancel(cache, parsed.word)
    text = f"asked run {run.name} to end; what has finished is kept"
    return answer(text, run.record())


def _runs(parsed: Parsed, cache: Cache) -> Answer:
    limit = parsed.number("--limit", 20)
    known = history.runs(cache)
    if not known:
        return answer(f"the cache {cache.root} has no runs yet", [])
    chosen = [history.as_it_stands(cache, run) for run in known[:limit]]
    names = {run.id: run.name for run in known}
    rows = [
        (
            run.name,
            run.status,
            moment(run.started),
            render.duration(run.elapsed_s) if run.elapsed_s else "",  # killed before a task ended
            str(run.sessions) if run.sessions > 1 else "",
            place_progress.outcome_phrase(run.counts, run.own) if run.counts else "",
            place_progress.hit_share(run.counts, run.own),
            render.duration(run.saved_s) if run.saved_s else "",
            names.get(run.parent, run.parent) if run.parent else "",
            Path(run.notebook).name if run.notebook else "",
            _assignments(run.parameters),
        )
        for run in chosen
    ]
    headers = (
        *("run", "status", "when", "took", "sessions", "tasks", "hits", "saved", "parent"),
        *("notebook", "parameters"),
    )
    grid = render.filled_table(headers, rows)
    parts = [grid]
    if len(known) > len(chosen):
        parts.append(render.line(f"{len(known) - len(chosen)} older ones", render.FAINT))
    return answer(parts, [run.record() for run in chosen])


def _assignments(texts: Mapping[str, str]) -> str:
    return " ".join(f"{name}={text}" for name, text in texts.items())


def _show(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.engine.record.finding import label_of

    detail = history.show_run(cache, parsed.word)
    run = detail.run
    if "--mermaid" in parsed:
        return answer(_as_text(_mermaid_of(cache, run.id)), detail.record())
    head = f"run {run.name} · {run.status} · {moment(run.started)}"
    head += f" · {render.duration(run.elapsed_s)}"
    facts = {
        "id": run.id,
        "notebook": run.notebook or "",
        "by": " on ".join(filter(None, (run.user, run.host))),
        "parameters": ", ".join(f"{name} = {text}" for name, text in run.parameters.items()),
        "options": _assignments(run.options),
        "targets": " ".join(run.targets),
        "sessions": str(run.sessions) if run.sessions > 1 else "",
        "parent": _name_of(cache, run.parent) if run.parent else "",
        "hits": place_progress.hit_share(run.counts, run.own),
        "saved": render.duration(run.saved_s) if run.saved_s else "",
        "error": run.error or run.cut_words,
    }
    parts = [Rendered(head, f"<b>{escape(head)}</b>")]
    parts += [render.line(f"{name:<11}{text}") for name, text in facts.items() if text]
    none = "none has ended yet" if run.status in history.LIVE else "no tasks"
    rows = [
        (
            each.name,
            place_progress.outcome_phrase(each.counts, each.equal) if each.counts else none,
            render.duration(each.computed_s) if each.computed_s else "",
            ", ".join(each.upstream),
            each.reason,
        )
        for each in detail.processes
    ]
    if rows:
        parts.append(render.filled_table(("process", "tasks", "computing", "from", "why"), rows))
    for row in detail.failures[:10]:
        text = f"{row.status}: {label_of(row)} {row.error or ''} · why {short(row.hash)}"
        parts.append(render.line(text))
    if len(detail.failures) > 10:
        parts.append(render.line(f"… and {len(detail.failures) - 10} more failed"))
    ended = {"succeeded": "done", "failed": "failed"}.get(run.status, "pending")
    return answer(parts, detail.record(), "running" if run.status in history.LIVE else ended)


def _mermaid_of(cache: Cache, run: str) -> str:
    from nbcache.notebook import mermaid
    from nbcache.notebook.widget.source import StoredRun

    stored = StoredRun(cache, run)
    return mermaid.pipeline(stored.scene.outline, stored.progress())


def _as_text(text: str) -> Rendered:
    return Rendered(text, f'<pre style="{render.PRE}">{escape(text)}</pre>')


def _name_of(cache: Cache, run: str) -> str:
    """Return how people call a run: its name, or its id where it is of another cache."""
    return next((each.name for each in history.runs(cache) if each.id == run), run)


def restored_answer(restored: RestoredRun) -> Answer:
    """Say what a restore brought back, process by process."""
    run = restored.summary
    head = f"run {run.name} · {run.status} · {moment(run.started)}"
    rows = [
        (
            name,
            f"{len(results)} of {len(results.tasks)}",
            "; ".join(filter(None, (_left_alone(restored, name), _not_kept(results)))),
        )
        for name, results in restored.results.items()
    ]
    parts = [render.line(head), render.filled_table(("process", "results", "note"), rows)]
    return answer(parts, restored)


def _left_alone(restored: RestoredRun, name: str) -> str:
    held = restored.skipped.get(name)
    return "" if held is None else f"left alone: {name} is {with_article(held)}"


def _not_kept(results: Results) -> str:
    """Return which outputs cannot be read: values that were only passed on lie in no cache."""
    from nbcache.engine.record.results import NotKept

    names = dict.fromkeys(
        name or "its item"
        for task in results.tasks
        for name, held in zip(results.fields, task.outputs or (), strict=False)
        if isinstance(held, NotKept)
    )
    return f"without {', '.join(names)}: passed on, and not kept" if names else ""


def _log(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.notebook import task_table

    return task_table.log_of(parsed, cache)


def _why(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.engine.record import explanations, process_reasons
    from nbcache.notebook.code_view import diff_block
    from nbcache.notebook.markup import element, html_of

    words, run = parsed.words, parsed.text("--run")
    told = process_reasons.why_process(cache, words, run=run)
    if told is None:
        told = explanations.why(cache, words, run=run, full="--full" in parsed)
    parts = [Rendered(told.head, f"<b>{escape(told.head)}</b>")]
    parts += [render.line(text) for text in told.lines]
    for title, text in told.details:
        block = element("details", "", element("summary", "", title), diff_block(text), open="")
        parts.append(Rendered(f"{title}\n{text}", html_of([block])))
    return answer(parts, told.record())


def _diff(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.engine.record import compare
    from nbcache.notebook import differences

    found = compare.diff_runs(
        cache,
        parsed.words,
        data="--data" in parsed,
        process=parsed.text("--process"),
        limit=parsed.number("--limit", compare.DATA_LIMIT),
    )
    return answer(differences.render_diff(found), found.record())


def _lineage(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.engine.record import crate, lineage
    from nbcache.notebook import lineage_view

    found = lineage.lineage_of(cache, parsed.words, run=parsed.text("--run"))
    folder = parsed.text("--crate")
    if folder is not None:
        names = crate.write_crate(cache, found, Path(folder), license=parsed.text("--license"))
        return answer(f"wrote {folder}: {', '.join(names)}", names)
    if "--mermaid" in parsed:
        return answer(_as_text(lineage_view.mermaid(found)), found.record())
    told = answer(lineage_view.render_lineage(found), found.record())
    if "--html" in parsed:
        page = f"<!doctype html><meta charset=utf-8><title>{escape(found.title)}</title>"
        html = told.rendered.html
        told = Answer(Rendered(page + html, html), told.data)
    return told


def _report(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.notebook.run_page.writing import write_report

    page, path = write_report(cache, parsed.word, parsed.text("--output"))
    if path is None:
        return Answer(Rendered(page.rstrip("\n"), ""), None)
    link = f'wrote <a href="{escape(quote(str(path)))}" target="_blank">{escape(str(path))}</a>'
    return answer(Rendered(f"wrote {path}", link), {"file": str(path)})


def _sql(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.notebook import query_result

    history: Logged = cache
    if "--shared" in parsed:
        from nbcache.notebook import team_view

        history = team_view.history_of(team_view.tier_of(cache))
    return query_result.for_shell(history, " ".join(parsed.words), parsed)


def _verify(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.notebook import checkup

    return _check(checkup.verify(cache, quick="--quick" in parsed, mend="--repair" in parsed))


def doctor(parsed: Parsed, cache: Cache | None) -> Answer:
    """Look at the installation, and at the cache where there is one."""
    from nbcache.notebook import checkup

    found = checkup.doctor(cache)
    for url in parsed.words:
        checkup.examine_store(found, url)
    if cache is not None and not parsed.words:
        checkup.examine_sharing(found, cache)
    return _check(found)


def _housekeeping(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.notebook import housekeeping

    return housekeeping.ANSWERS[parsed.verb.name](parsed, cache)


def _team(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.notebook import team_view

    return team_view.TRANSFERS[parsed.verb.name](parsed, team_view.tier_of(cache))


def trust(parsed: Parsed, session: Session) -> Answer:
    """Take an edit for one that changes no meaning, or say what that would take."""
    from nbcache.notebook import trust_view

    if not parsed.words or "--revoke" in parsed:
        return _trusted(parsed, session.cache)
    reason = parsed.text("--why")
    found = session.trust(parsed.words, reason)
    picture = trust_view.render_trusting(found, written=reason is not None)
    return answer(picture, [each.record() for each in found])


def _trusted(parsed: Parsed, cache: Cache) -> Answer:
    from nbcache.notebook import trust_view

    return trust_view.words_of(parsed, cache)


def _check(found: Any) -> Answer:
    lines = [render.line(text) for text in found.lines]
    return answer(lines, found.record(), "done" if found.good else "failed", good=found.good)
