"""How long a run's results are kept: the words of `--retention`, and when they are over.

`keep` (for ever), a time (after the run's end), `success=TIME`, `failure=TIME`, `intermediate`
(when the run has succeeded, what its tasks took of one another and nobody else: at once, or with
`intermediate=TIME` then).
A result goes only when every run that made or used it lets go of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nbcache.model.holding import Holding, RunFacts
from nbcache.plan.language.quantities import parse_duration

KEEP = "keep"
RETENTION_OVER = "its time was over (retention)"  # why a result went, in its tombstone


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds after the run's end; None: for ever."""

    success: float | None = None
    failure: float | None = None
    intermediate: float | None = None


def parse_retention(text: str) -> Retention:
    """Return what a policy says.

    Raises:
        ValueError: a word is none of the known, is given twice, or its time is no time.
    """
    found: dict[str, float | None] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in word.partition("="))
        if word == KEEP:
            names, after = ["success", "failure"], None
        elif word == "intermediate":
            names, after = [word], 0.0
        elif equals and name in ("success", "failure", "intermediate"):
            names, after = [name], parse_duration(value)
        elif equals:
            raise ValueError(f"{name!r} is none of success, failure, intermediate")
        else:
            names, after = ["success", "failure"], parse_duration(word)
        for each in names:
            if each in found:
                raise ValueError(f"{each} is given twice")
            found[each] = after
    if not found:
        raise ValueError("it is empty")
    return Retention(**found)


def expired(holdings: Iterable[Holding], runs: Mapping[str, RunFacts], now: int) -> list[Holding]:
    """Return the holdings that every run which made or used them has let go of."""
    policies = {run: parse_retention(facts.retention or KEEP) for run, facts in runs.items()}
    return [
        each
        for each in holdings
        if all(run in runs and _lets_go(runs[run], policies[run], each, now) for run in each.users)
    ]


def _lets_go(run: RunFacts, policy: Retention, holding: Holding, now: int) -> bool:
    if run.ended is None or run.live:
        return False
    waits = [policy.success if run.succeeded else policy.failure]
    if run.succeeded and holding.process in run.handed_on:
        waits.append(policy.intermediate)
    return any(wait is not None and now >= run.ended + wait * 1e6 for wait in waits)
