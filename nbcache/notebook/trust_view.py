"""How `nbcache trust` looks: what is taken for equal, and what somebody took for equal before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from nbcache.engine.record.trusted import standing_words
from nbcache.engine.trusting import Trusting, revoke
from nbcache.errors import UsageError, command
from nbcache.model.row import TrustRow
from nbcache.notebook import render
from nbcache.notebook.answer import Answer, answer, moment
from nbcache.notebook.render import Rendered
from nbcache.notebook.verbs import Parsed
from nbcache.plan.identity import explain
from nbcache.store.cache import Cache

_NAMED = 5  # tasks that are refused


def render_trusting(found: Sequence[Trusting], *, written: bool) -> Rendered:
    """Show what is taken for equal in each process, with the edit as a diff."""
    parts = [part for each in found for part in _process(each, written)]
    first = next((each.process for each in found if each.words), None)
    if first is not None:
        hint = (
            f"Take it back: {command(f'trust --revoke {first}')}"
            if written
            else 'nothing is written yet: add --why "..." and say why the edit changes no result'
        )
        parts.append(render.line(hint, render.FAINT))
    return render.stack(parts)


def _process(each: Trusting, written: bool) -> Iterator[Rendered]:
    verb = "trusted" if written else "would be trusted"
    for edit in each.edits:
        said = ", ".join(explain.phrase(one, each.process) for one in edit.differences)
        count = render.count_of(edit.tasks, "task")
        text = f"{each.process}: {count} {verb} with the results of run {edit.run}: {said}"
        yield Rendered(text, f"<b>{escape(text)}</b>")
        for one in edit.differences:
            diff = explain.source_diff(one.old, one.new)
            if diff:
                yield Rendered(diff, f'<pre style="{render.PRE}">{escape(diff)}</pre>')
    if each.waiting:
        count = render.count_of(each.waiting, "task")
        wait = "waits" if each.waiting == 1 else "wait"
        yield render.line(
            f"{each.process}: {count} {wait} for processes above that would run: trust these as "
            "well, or run them"
        )
    elif not each.words and not each.refused:
        yield render.line(f"{each.process}: nothing would run; there is nothing to trust")
    reasons = Counter(each.refused.values())
    for why, number in reasons.items():
        names = [label for label, said in each.refused.items() if said == why]
        more = f" and {number - _NAMED} more" if number > _NAMED else ""
        yield render.line(f"not trusted: {', '.join(names[:_NAMED])}{more}: {why}")


def words_of(parsed: Parsed, cache: Cache) -> Answer:
    """Answer `trust` without a process: list the words that stand, or revoke some."""
    target = parsed.text("--revoke")
    if target is not None:
        if parsed.words:
            raise UsageError("--revoke names what it is about: leave the processes out")
        rows = revoke(cache, target, parsed.text("--why") or "")
        said = f"revoked for {render.count_of(len(rows), 'task')} of {rows[0].process}"
        return answer(f"{said}: an edited task runs again", _records(rows))
    if "--why" in parsed:
        raise UsageError(f"name the processes: {command('trust PROCESS --why TEXT')}")
    rows = sorted(standing_words(cache.log).values(), key=lambda row: (row.at, row.id))
    if not rows:
        return answer("nothing is trusted in this cache", [])
    grid = render.table(("process", "tasks", "when", "who", "why"), list(_grouped(rows)))
    return answer(grid, _records(rows))


def _grouped(rows: Sequence[TrustRow]) -> Iterator[tuple[str, ...]]:
    """One line for what was said at once."""
    groups: dict[tuple[str, str, str], list[TrustRow]] = {}
    for row in rows:
        groups.setdefault((row.process, row.user, row.reason), []).append(row)
    for (process, user, reason), members in groups.items():
        yield process, str(len(members)), moment(members[-1].at), user, reason


def _records(rows: Sequence[TrustRow]) -> list[dict[str, object]]:
    return [dict(row.record()) for row in rows]
