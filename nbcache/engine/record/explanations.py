"""Why one task ran or was a hit, told from the log: `nbcache why TASK`.

`identity.explain` compares the components of the task that people mean (`finding`) with those of
the nearest earlier one (`nearest`): the same components that made the two hashes, so the reason
told is the reason there was. Reads only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nbcache.engine.record import history, task_ends
from nbcache.engine.record.finding import Found, find_task, label_of
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.kept_components import components_of, recorded_components, with_texts
from nbcache.engine.record.nearest import maker_of, members_of, nearest_earlier, seen_apart
from nbcache.engine.record.trusted import words_on
from nbcache.model.digest import short
from nbcache.model.fingerprint import Component
from nbcache.model.row import AttemptRow, Record, TrustRow
from nbcache.plan.identity import explain
from nbcache.plan.identity.explain import Difference
from nbcache.plan.language.quantities import duration_text
from nbcache.store.cache import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Why a task ran or was a hit: one line, then more lines, then (title, text) to unfold."""

    task: str
    hash: str
    run: str
    outcome: str
    head: str
    lines: tuple[str, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    differences: tuple[Difference, ...] = ()
    compared_with: str | None = None

    def record(self) -> Record:
        """Return what `--json` prints."""
        return {
            "task": self.task,
            "hash": self.hash,
            "run": self.run,
            "outcome": self.outcome,
            "reason": self.head,
            "lines": list(self.lines),
            "differences": [difference_record(each) for each in self.differences],
            "sources": [{"title": title, "diff": text} for title, text in self.details],
            "compared_with": self.compared_with,
        }


def why(
    cache: Cache,
    words: Sequence[str],
    *,
    run: str | None = None,
    full: bool = False,
    known: Sequence[RunSummary] | None = None,
) -> Told:
    """Say why a task ran or was a hit; `words`, `run` and `known` as in `find_task`.

    full: list all components that its hash is made of.
    """
    known = history.runs(cache) if known is None else known
    found = find_task(cache, words, run=run, known=known)
    return why_of(cache, found, full=full, known=known)


def why_of(
    cache: Cache,
    found: Found,
    *,
    full: bool = False,
    known: Sequence[RunSummary] | None = None,
) -> Told:
    """Say why a task that was found ran or was a hit."""
    runs = {each.id: each for each in (history.runs(cache) if known is None else known)}
    components = components_of(found.made, runs)
    if found.use is not None:
        return _why_cached(cache, found, runs, components if full else ())
    made, name = found.made, history.name_in(runs, found.made.run)
    earlier = nearest_earlier(cache, made, runs)
    different: tuple[Difference, ...] = ()
    began = task_ends.was_begun(made)
    lines = [f"error: {made.error}"] if made.error and began else []
    if earlier is None:
        reason = f"no earlier task of {made.process} is known"
    else:
        before = components_of(earlier, runs)
        different = explain.differences(before, components)
        reason = _reason(cache, made, earlier, different, before, components, runs)
        lines.append(f"compared with {label_of(earlier)} of {_run_words(runs, earlier.run)}")
        lines += [f"  {line}" for line in explain.value_lines(different)]
    what = "ran" if made.status == "completed" else made.status
    head = f"{found.label} {what}: {reason}"
    if not began:
        head = f"{found.label} was not begun, since run {name} ended first"
        lines.insert(0, f"it would have run: {reason}")
    return Told(
        task=found.label,
        hash=made.hash,
        run=name,
        outcome=made.status,
        head=head,
        lines=(*lines, *(_listed(components) if full else ())),
        details=tuple(_details(cache, different)),
        differences=different,
        compared_with=earlier.hash if earlier is not None else None,
    )


def _why_cached(
    cache: Cache, found: Found, runs: Mapping[str, RunSummary], components: Sequence[Component]
) -> Told:
    assert found.use is not None
    if found.is_trusted:
        return _why_trusted(cache, found, runs, components)
    took = f", {duration_text(found.made.realtime)}" if found.made.realtime is not None else ""
    what = "was cached"
    if found.made.run == found.use.run:
        at = f" (position {found.made.position})" if found.made.position else ""
        source = f"{label_of(found.made)} of this run{at}{took}"
        its_own = (found.use.process, found.use.position)  # which a resume finds
        if (found.made.process, found.made.position) != its_own:
            what = "was equal to one that ran"
    else:
        by = f" by {found.made.user}" if found.made.user else ""
        source = f"{_run_words(runs, found.made.run)}{took}{by}"
    head = f"{found.label} {what}: every component is equal to that of {source}"
    return Told(
        task=found.label,
        hash=found.use.hash,
        run=history.name_in(runs, found.use.run),
        outcome="cached",
        head=head,
        lines=tuple(_listed(components)),
        compared_with=found.made.hash,
    )


def _why_trusted(
    cache: Cache,
    found: Found,
    runs: Mapping[str, RunSummary],
    components: Sequence[Component],
) -> Told:
    """The result is of other code, which somebody took for equal."""
    assert found.use is not None
    words = words_on(cache.log, found.use.hash)
    given = [each for each in words if not each.revoked]
    who = _said_by(given[-1]) if given else "somebody"
    lines = [f"revoked since by {_said_by(each)}" for each in words[-1:] if each.revoked]
    # Of several scripts a hit's row does not tell which it was: all are compared.
    before, now = (recorded_components(row, runs) for row in (found.made, found.use))
    different = explain.differences(before, now)
    said = ", ".join(explain.phrase(each, found.use.process) for each in different[:3])
    return Told(
        task=found.label,
        hash=found.use.hash,
        run=history.name_in(runs, found.use.run),
        outcome="cached",
        head=f"{found.label} was cached: the result of {_run_words(runs, found.made.run)} was "
        f"trusted by {who}, though {said}",
        lines=(*lines, *explain.value_lines(different), *_listed(components)),
        details=tuple(_details(cache, different)),
        differences=different,
        compared_with=found.made.hash,
    )


def _said_by(word: TrustRow) -> str:
    when = datetime.fromtimestamp(word.at / 1e6, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{word.user} on {when}{f' ({word.reason})' if word.reason else ''}"


def _run_words(runs: Mapping[str, RunSummary], run: str) -> str:
    return f"run {history.name_in(runs, run)}"


def _listed(components: Sequence[Component]) -> list[str]:
    return [
        f"  {each.kind} {each.name}  {short(each.digest)}  {each.summary}".rstrip()
        for each in components
    ]


def difference_record(each: Difference) -> Record:
    """Return what `--json` prints of a component that differs."""
    return {
        "kind": each.component.kind,
        "name": each.component.name,
        "change": each.change,
        "before": each.old and each.old.summary,
        "after": each.new and each.new.summary,
        "parts": explain.other_parts(each),
    }


def _reason(
    cache: Cache,
    row: AttemptRow,
    earlier: AttemptRow,
    different: Sequence[Difference],
    before: Sequence[Component],
    components: Sequence[Component],
    runs: Mapping[str, RunSummary],
) -> str:
    if not different:
        return _same_components(row, earlier, runs)
    kinds = ("input", "file")
    inputs = [each.new for each in different if each.component.kind in kinds and each.new]
    if len(inputs) == len(different) and seen_apart(cache, row, inputs):
        names = " and ".join(f"{each.name} {each.summary}" for each in inputs)
        return f"new combination: no earlier task has {names} together with its other inputs"
    total = len({each.key for each in (*before, *components)})
    name = _run_words(runs, earlier.run)
    rest = f"{total - len(different)} of {total} components equal to {name}"
    line = explain.one_line(row.process, different, total, rest)
    if not len(inputs) == len(different) == 1:
        return line
    said = _made_of(cache, row, different[0], _all_above(row, runs))
    return f"{line} ({said})" if said else line


def _all_above(row: AttemptRow, runs: Mapping[str, RunSummary]) -> set[str]:
    """Return the processes whose results a task may have been given."""
    processes = runs[row.run].processes_of(row.session) if row.run in runs else ()
    upstream = {each.name: each.upstream for each in processes}
    found: set[str] = set()
    waiting = [row.process]
    while waiting:
        new = set(upstream.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found


def _made_of(cache: Cache, row: AttemptRow, different: Difference, above: Collection[str]) -> str:
    """Say which new results an input is, or was gathered of, and why they were made; "" where no
    task of the run made them."""
    name = different.component.name
    now = next((each for each in row.inputs if each.name == name), None)
    if now is None or now.scalar is not None:  # numbers and texts are equal by chance
        return ""
    members = members_of(cache, now.digest)
    if not members:
        made = maker_of(cache, row, [each for each in (now.digest, now.content) if each], above)
        return "" if made is None else f"{name} is a new result of {_with_reason(made)}"
    before = set(members_of(cache, different.old.digest)) if different.old is not None else set()
    new = [each for each in members if each not in before]
    made = maker_of(cache, row, new, above) if new else None
    if made is None:
        return ""
    share = f"{len(new):,} of the {len(members):,}"
    said = "is new, that" if len(new) == 1 else "are new, such as that"
    return f"{share} {said} of {_with_reason(made)}"


def _with_reason(made: AttemptRow) -> str:
    because = made.reason.partition("; ")[0]
    return f"{label_of(made)}{f', which ran: {because}' if because else ''}"


def _same_components(row: AttemptRow, earlier: AttemptRow, runs: Mapping[str, RunSummary]) -> str:
    """The hash was known, and the task ran all the same."""
    if not task_ends.was_begun(earlier):
        return f"{_run_words(runs, earlier.run)} ended before it began"
    if earlier.status not in ("completed", "stored"):
        was = "" if earlier.status == "failed" else "was "
        return f"the earlier attempt with the same components {was}{earlier.status}"
    return row.reason or (
        "nothing differs from the earlier row; it was asked to run afresh, or its result was gone"
    )


def _details(cache: Cache, different: Sequence[Difference]) -> list[tuple[str, str]]:
    """A diff of the text of each component that has one: source, or a value as it was."""
    found: list[tuple[str, str]] = []
    for each in different:
        known = with_texts(cache, each)
        if diff := explain.source_diff(known.old, known.new):
            found.append((f"{each.component.kind} {each.component.name}", diff))
    return found
