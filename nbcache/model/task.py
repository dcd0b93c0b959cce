"""The life of a task and of a run, written once.

    PENDING --fingerprinted--> READY --started--> RUNNING --reported--> COMMITTING --kept--> DONE

State (where a task is) and outcome (how it ended) are two things. Every other move is a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum


class TaskState(Enum):
    PENDING = "pending"  # its inputs are there; its hash is not known yet
    READY = "ready"  # missed the cache: waits for room, a twin, a retry or another kernel
    RUNNING = "running"
    COMMITTING = "committing"  # the attempt reported; its outputs are being kept
    DONE = "done"


class Outcome(Enum):
    COMPLETED = "completed"
    CACHED = "cached"
    STORED = "stored"
    FAILED = "failed"
    IGNORED = "ignored"
    ABORTED = "aborted"
    SKIPPED = "skipped"

    def __init__(self, text: str) -> None:
        self.succeeded = text in ("completed", "cached", "stored")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTask:
    """What `task` is in the expression of a directive."""

    attempt: int
    index: str  # its position
    process: str
    tag: str | None
    hash: str | None
    exit: int | None  # this and what follows: of the attempt before
    signal: str | None
    error: str | None


def hit_rate(counts: Mapping[str, int], own: int) -> float | None:
    """Which part of the tasks that were found or performed got its result from other runs, 0 to
    1; None where there is none. own: of those cached, how many got it from their own run."""
    cached = counts.get(Outcome.CACHED.value, 0)
    performed = (Outcome.COMPLETED, Outcome.FAILED, Outcome.IGNORED)
    total = cached + sum(counts.get(each.value, 0) for each in performed)
    return (cached - own) / total if total else None


TRANSITIONS: dict[tuple[TaskState, str], TaskState] = {
    (TaskState.PENDING, "missed"): TaskState.READY,
    (TaskState.PENDING, "ended"): TaskState.DONE,  # hit, skipped, or could not be fingerprinted
    (TaskState.READY, "started"): TaskState.RUNNING,
    (TaskState.READY, "ended"): TaskState.DONE,  # a twin's result, or the run was stopped
    (TaskState.READY, "recalled"): TaskState.PENDING,  # an input was made again and differs
    (TaskState.RUNNING, "reported"): TaskState.COMMITTING,
    (TaskState.RUNNING, "retried"): TaskState.READY,
    (TaskState.RUNNING, "postponed"): TaskState.READY,  # somebody else computes the same
    (TaskState.RUNNING, "recalled"): TaskState.PENDING,  # an input's blob is gone
    (TaskState.RUNNING, "ended"): TaskState.DONE,
    (TaskState.COMMITTING, "ended"): TaskState.DONE,
    (TaskState.DONE, "recalled"): TaskState.PENDING,  # its own blob is gone and is needed
}


class RunStatus(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    RESUMING = "resuming"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # never written: shown for a run that is RUNNING and held by nobody
