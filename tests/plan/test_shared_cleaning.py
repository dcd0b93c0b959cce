"""What may be taken from a shared cache, whatever its users do at the same time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbcache.model.digest import Digest
from nbcache.model.holding import BlobCopy, Holding, Mark, Pins
from nbcache.plan.shared_cleaning import DAY_US, GRACE_US, SETTLE_US, deletable, due, still_unused
from nbcache.store.remote.layout import week_before, week_of, young_weeks


def holding(row: str, used_at: int, *users: str) -> Holding:
    return Holding(
        row=row, hash=Digest(f"xxh3:{row}"), process="fit", label="", status="completed", run="A",
        used_at=used_at, users=frozenset({"A", *users}),
    )  # fmt: skip


def test_only_what_was_not_used_pinned_or_taken_by_a_run_since_goes() -> None:
    names = ("used", "behind", "pinned", "running", "idle", "gone")
    users = {"behind": 1, "idle": 1}
    marks = [Mark("k", 0, dict.fromkeys(names, 5), "old", users)]
    holdings = [
        holding("used", 6), holding("behind", 4, "of a clock that is behind"), holding("pinned", 5),
        holding("running", 5, "LIVE"), holding("idle", 5),
        holding("other", 1),
    ]  # fmt: skip
    pins = Pins(hashes={"xxh3:pinned": ""})

    assert still_unused(marks, holdings, pins, {"LIVE"}) == {"idle": "old"}


def test_a_mark_is_due_when_its_grace_time_is_over() -> None:
    marks = [Mark("young", 10, {}), Mark("old", 0, {})]

    assert [each.key for each in due(marks, GRACE_US + 5)] == ["old"]


def test_a_blob_goes_only_from_an_old_week_unneeded_and_settled() -> None:
    copies = [BlobCopy(name, "2026-W01", 1) for name in ("needed", "free", "just evicted")]
    young = BlobCopy("free", "2026-W48", 1)
    now = 100 * DAY_US

    gone = deletable(
        [*copies, young],
        {"needed"},
        {"just evicted": (now - SETTLE_US + 1) / 1e6},
        {"2026-W48"},
        now,
    )

    assert gone == [copies[1]]


@given(
    decided=st.integers(0, 400 * DAY_US),
    until_row=st.integers(0, DAY_US),
    at=st.floats(0, 1),
    in_last_week=st.booleans(),
)
def test_nothing_goes_between_a_skipped_upload_and_the_row_that_relies_on_it(
    decided: int, until_row: int, at: float, in_last_week: bool
) -> None:
    """However the turn of a week falls between the three."""
    week = week_before(decided) if in_last_week else week_of(decided)
    cleaned = decided + int(until_row * at)

    assert deletable([BlobCopy("b", week, 1)], (), {}, young_weeks(cleaned), cleaned) == []
