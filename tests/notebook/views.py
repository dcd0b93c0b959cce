"""Snapshots and a run made of them, for the tests of what people see."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from nbcache.errors import RunFailed
from nbcache.model.view import (
    CaptureView,
    CardView,
    FailureView,
    PlacePlan,
    PlaceProgress,
    RunProgress,
    ShownChunk,
)

FIT = CardView(
    name="fit",
    signature="fit(depth, trees, rep) → score",
    wiring="from grid",
    captures=(
        CaptureView(name="X", summary="25 kB"),
        CaptureView(name="y", summary="3 kB"),
    ),
    reads=(),
    plan=PlacePlan(name="fit", tasks=18, cached=0, to_run=18),
)


def place(name: str = "fit", expected: int | None = 18, **counts: int) -> PlaceProgress:
    return PlaceProgress(name=name, upstream=(), counts=counts, expected=expected)


def running(*places: PlaceProgress, left_s: float | None = 6.2) -> RunProgress:
    return progress("running", *places, left_s=left_s)


def progress(
    status: str,
    *places: PlaceProgress,
    elapsed_s: float = 9.1,
    left_s: float | None = None,
    saved_s: float = 0.0,
    failures: tuple[FailureView, ...] = (),
    notes: tuple[str, ...] = (),
    cached_at: int | None = None,
    cached_by: tuple[str, ...] = (),
) -> RunProgress:
    return RunProgress(
        run="01J" + "0" * 23,
        name="calm-otter",
        status=status,
        elapsed_s=elapsed_s,
        left_s=left_s,
        saved_s=saved_s,
        places=places,
        failures=failures,
        notes=notes,
        cached_at=cached_at,
        cached_by=cached_by,
    )


class ScriptedRun:
    """A run that goes through given snapshots, one per wait, and ends with the last."""

    name = "calm-otter"

    def __init__(
        self,
        *snapshots: RunProgress,
        shown: Mapping[str, list[tuple[str, str, list[ShownChunk]]]] | None = None,
        interrupt_at: int | None = None,
        when_cancelled: RunProgress | None = None,
        printed: Sequence[str] = (),
    ) -> None:
        self._snapshots: Sequence[RunProgress] = snapshots
        self._shown, self._printed = shown or {}, list(printed)
        self._interrupt_at, self._when_cancelled = interrupt_at, when_cancelled
        self.at = 0
        self.cancelled = False

    @property
    def done(self) -> bool:
        return self.at >= len(self._snapshots) - 1

    def progress(self) -> RunProgress:
        return self._snapshots[self.at]

    def wait(self, timeout: float | None = None) -> bool:
        if self.at == self._interrupt_at and not self.cancelled:
            raise KeyboardInterrupt
        if not self.done:
            self.at += 1
        return self.done

    def cancel(self) -> None:
        self.cancelled = True
        assert self._when_cancelled is not None
        self._snapshots, self.at = [self._when_cancelled], 0

    def raise_for_status(self) -> None:
        if self.progress().status == "failed":
            raise RunFailed("fit[3] ZeroDivisionError: division by zero")

    def showing(self, place: str) -> list[tuple[str, str, str]]:
        found = enumerate(self._shown.get(place, []))
        return [(label, outcome, str(k)) for k, (label, outcome, chunks) in found if chunks]

    def shown(
        self, place: str, only: Collection[str] | None = None
    ) -> list[tuple[str, str, list[ShownChunk]]]:
        found = enumerate(self._shown.get(place, []))
        return [each for k, each in found if only is None or str(k) in only]

    def printed(self) -> list[str]:
        printed, self._printed = self._printed, []
        return printed


class RecordedDisplays:
    """Displays that end in lists: what was shown, and what replaced it."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, dict[str, object]]] = []
        self.replaced: list[tuple[str, dict[str, object]]] = []

    def show(
        self,
        bundle: Mapping[str, object],
        display_id: str,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        self.shown.append((display_id, dict(bundle)))

    def replace(self, bundle: Mapping[str, object], display_id: str) -> None:
        self.replaced.append((display_id, dict(bundle)))
