"""Why the tasks of a process ran or were hits, in a few lines: `nbcache why PROCESS`.

Groups the tasks of one run by the reason that their rows give; each group names a task, of which
`explanations.why` tells more. Reads only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from nbcache.engine.record import history
from nbcache.engine.record.explanations import Told, why_of
from nbcache.engine.record.finding import Found, run_with, tasks_of
from nbcache.store.cache import Cache

MOST = 5  # reasons that are listed


def why_process(cache: Cache, words: Sequence[str], *, run: str | None = None) -> Told | None:
    """Say why the tasks of a process ran or were hits; None where the words mean a single task.

    `differences` are those of one task of the largest group that ran: what it is compared with.

    Raises:
        RunError: there is no such run.
    """
    known = history.runs(cache)
    chosen = run_with(cache, words[0], run, known) if len(words) == 1 else None
    tasks = [] if chosen is None else tasks_of(cache, chosen, words[0])
    if chosen is None or len(tasks) < 2:
        return None
    names = {each.id: each.name for each in known}
    groups: dict[tuple[str, str], list[Found]] = {}
    for task in tasks:
        groups.setdefault(_said_of(task, names), []).append(task)
    outcomes = Counter(what for (what, _), members in groups.items() for _ in members)
    nearest = _nearest_of_those_that_ran(cache, groups, known)
    said = sorted(outcomes.items(), key=lambda each: (each[0] != "ran", each[0]))
    counts = ", ".join(f"{count:,} {what}" for what, count in said)
    return Told(
        task=words[0],
        hash="",
        run=chosen.name,
        outcome=", ".join(what for what, _ in said),
        head=f"{words[0]}: {counts} in run {chosen.name}",
        lines=tuple(_lines(groups)),
        differences=nearest.differences if nearest is not None else (),
        compared_with=nearest.compared_with if nearest is not None else None,
    )


def _nearest_of_those_that_ran(
    cache: Cache,
    groups: Mapping[tuple[str, str], Sequence[Found]],
    known: Sequence[history.RunSummary],
) -> Told | None:
    ran = [members for members in groups.values() if members[0].use is None]
    return why_of(cache, max(ran, key=len)[0], known=known) if ran else None


def _lines(groups: Mapping[tuple[str, str], Sequence[Found]]) -> Iterator[str]:
    """Yield a line for each group, the largest first; new inputs may give each task its own."""
    ordered = sorted(groups.items(), key=lambda each: -len(each[1]))
    for said, members in ordered[:MOST]:
        yield _line(*said, members)
    others = [task for _, members in ordered[MOST:] for task in members]
    if others:
        yield f"{len(others):,} more, for reasons of their own · such as {others[0].label}"


def _said_of(task: Found, names: dict[str, str]) -> tuple[str, str]:
    """Return what became of a task, and why."""
    made = task.made
    if task.use is None:
        return "ran" if made.status == "completed" else made.status, made.reason
    if made.run == task.use.run:
        return "equal", "took what another task of this run made"
    by = f" of {made.user}" if made.user and made.run not in names else ""
    source = f"run {names.get(made.run, made.run)}{by}"
    if task.is_trusted:
        return "cached", f"the result of {source}, trusted after an edit"
    return "cached", f"every component is equal to that of {source}"


def _line(what: str, reason: str, members: Sequence[Found]) -> str:
    said = f"{len(members):,} {what}{f': {reason}' if reason else ''}"
    return f"{said} · {'such as ' if len(members) > 1 else ''}{members[0].label}"
