"""What a clean-up chooses, and when a run lets go of its results."""

from __future__ import annotations

from typing import Any

import pytest

from nbcache.model.digest import Digest, identity_digest
from nbcache.model.holding import Holding, Pins, RunFacts
from nbcache.plan.cleaning import Choice, Selection, choose
from nbcache.plan.retention import Retention, expired, parse_retention

HOUR = 3_600_000_000  # microseconds
NOW = 1000 * HOUR


def holding(name: str, **changes: Any) -> Holding:
    values: dict[str, Any] = {
        "row": name,
        "hash": identity_digest(name.encode()),
        "process": "fit",
        "label": name,
        "status": "completed",
        "run": "R1",
        "used_at": NOW - HOUR,
        "users": frozenset({"R1"}),
        "realtime": 1.0,
        "current": True,
        "blobs": (name,),
    }
    return Holding(**(values | changes))


def run(name: str, **changes: Any) -> RunFacts:
    values: dict[str, Any] = {
        "id": name,
        "name": name.lower(),
        "notebook": "a.ipynb",
        "ended": NOW - 9 * HOUR,
        "succeeded": True,
        "live": False,
    }
    return RunFacts(**(values | changes))


RUNS = {"R1": run("R1")}


def chosen(
    selection: Selection, *holdings: Holding, runs: dict[str, RunFacts] = RUNS, **how: Any
) -> list[str]:
    return [each.row for each in choice(selection, *holdings, runs=runs, **how).holdings]


def choice(
    selection: Selection,
    *holdings: Holding,
    runs: dict[str, RunFacts] = RUNS,
    pins: Pins | None = None,
    **how: Any,
) -> Choice:
    sizes = how.pop("sizes", {each.row: 100 for each in holdings})
    return choose(selection, holdings, runs, pins or Pins(), now=NOW, sizes=sizes, **how)


def test_nothing_selected_is_nothing_taken() -> None:
    assert not Selection()
    assert chosen(Selection(), holding("a")) == []


@pytest.mark.parametrize("selection", [Selection(older_than=0.0), Selection(keep_last=0)])
def test_a_selection_of_zero_is_a_selection(selection: Selection) -> None:
    assert selection
    assert chosen(selection, holding("a"), holding("now", used_at=NOW)) == ["a", "now"]


def test_age_counts_from_the_last_use() -> None:
    old, used = holding("old", used_at=NOW - 50 * HOUR), holding("used", used_at=NOW - HOUR)

    assert chosen(Selection(older_than=10 * 3600), old, used) == ["old"]


def test_all_conditions_have_to_hold() -> None:
    right = holding("right", process="fit", status="failed")
    others = holding("b", process="map", status="failed"), holding("c", process="fit")
    selection = Selection(processes=frozenset({"fit"}), statuses=frozenset({"failed"}))

    assert chosen(selection, right, *others) == ["right"]


def test_a_hash_is_named_by_how_it_begins() -> None:
    one, other = holding("one", hash=Digest("xxh3:abcd")), holding("other", hash=Digest("xxh3:ef"))

    assert chosen(Selection(hashes=("abc",)), one, other) == ["one"]


def test_of_a_run_goes_only_what_no_other_run_used() -> None:
    own = holding("own")
    shared = holding("shared", users=frozenset({"R1", "R2"}))
    runs = {**RUNS, "R2": run("R2")}

    assert chosen(Selection(runs=frozenset({"R1"})), own, shared, runs=runs) == ["own"]


def test_incomplete_takes_no_result() -> None:
    failed, done = holding("failed", status="failed"), holding("done")

    assert chosen(Selection(incomplete=True), failed, done) == ["failed"]


def test_the_last_runs_of_each_notebook_keep_what_they_used() -> None:
    runs = {
        "A1": run("A1", notebook="a"),
        "A2": run("A2", notebook="a"),
        "B1": run("B1", notebook="b"),
    }
    holdings = [holding(name, users=frozenset({name})) for name in runs]
    both = holding("both", users=frozenset({"A1", "A2"}))

    assert chosen(Selection(keep_last=1), *holdings, both, runs=runs) == ["A1"]


def test_what_is_pinned_stays_and_is_counted() -> None:
    by_hash, by_run = holding("h"), holding("r", users=frozenset({"R1", "R2"}))
    by_process, free = holding("p", process="map"), holding("free")
    pins = Pins(runs={"R2": ""}, processes={"map": ""}, hashes={by_hash.hash: ""})

    found = choice(Selection(older_than=0), by_hash, by_run, by_process, free, pins=pins)

    assert [each.row for each in found.holdings] == ["free"]
    assert found.pinned == 3


def test_what_a_run_uses_that_goes_on_stays() -> None:
    used = holding("used", users=frozenset({"R1", "R2"}))
    runs = {**RUNS, "R2": run("R2", ended=None, live=True)}

    found = choice(Selection(older_than=0), used, holding("free"), runs=runs)

    assert [each.row for each in found.holdings] == ["free"]
    assert found.live == 1


def test_for_a_size_nothing_goes_that_frees_nothing() -> None:
    large, small = holding("large"), holding("small", blobs=())

    assert chosen(Selection(max_size=0), large, small, sizes={"large": 5}, total=9) == ["large"]


def test_for_a_size_what_stays_in_any_case_is_no_gain() -> None:
    kept, free = holding("kept", used_at=NOW - 9 * HOUR), holding("free")
    sizes = {"kept": 5, "free": 5}

    assert chosen(Selection(max_size=5), kept, free, sizes=sizes, total=10) == ["kept"]
    found = chosen(Selection(max_size=5), kept, free, sizes=sizes, total=10, always={"kept"})
    assert found == ["free"]


def test_for_a_size_the_cheapest_per_byte_go_first_and_only_as_many_as_it_takes() -> None:
    cheap, dear = holding("cheap", realtime=1.0), holding("dear", realtime=90.0)
    middle = holding("middle", realtime=20.0)

    assert chosen(Selection(max_size=200), dear, middle, cheap, total=300) == ["cheap"]
    assert chosen(Selection(max_size=50), dear, middle, cheap, total=300) == [
        "cheap", "middle", "dear",
    ]  # fmt: skip
    assert chosen(Selection(max_size=300), dear, middle, cheap, total=300) == []


def test_a_blob_that_several_need_is_freed_with_the_last_of_them() -> None:
    first, second = holding("a", blobs=("x",)), holding("b", blobs=("x",))
    other = holding("c", realtime=9.0)
    sizes = {"x": 100, "c": 100}

    found = chosen(Selection(max_size=100), first, second, other, sizes=sizes, total=200)

    assert sorted(found) == ["a", "b"]


def test_a_superseded_result_costs_nothing() -> None:
    old = holding("old", realtime=1e6, current=False)

    assert chosen(Selection(max_size=100), holding("new"), old, total=200) == ["old"]


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("keep", Retention()),
        ("2h", Retention(7200.0, 7200.0)),
        ("failure=1d", Retention(failure=86_400.0)),
        ("success=7d, failure=24h", Retention(7 * 86_400.0, 86_400.0)),
        ("keep, intermediate", Retention(intermediate=0.0)),
        ("intermediate=1h", Retention(intermediate=3600.0)),
    ],
)
def test_a_policy_is_read(text: str, policy: Retention) -> None:
    assert parse_retention(text) == policy


@pytest.mark.parametrize("text", ["", "sometimes", "success", "3 parsecs", "other=1h", "1h, 2h"])
def test_a_policy_that_means_nothing_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_retention(text)


@pytest.mark.parametrize(
    ("policy", "succeeded", "process", "gone"),
    [
        ("8h", True, "fit", True),
        ("10h", True, "fit", False),
        ("failure=1h", True, "fit", False),
        ("failure=1h", False, "fit", True),
        ("intermediate", True, "fit", False),
        ("intermediate", True, "prepare", True),
        ("intermediate", False, "prepare", False),
        ("", True, "fit", False),
    ],
)
def test_a_run_lets_go_of_its_results(
    policy: str, succeeded: bool, process: str, gone: bool
) -> None:
    facts = run("R1", retention=policy, succeeded=succeeded, handed_on=frozenset({"prepare"}))

    found = expired([holding("a", process=process)], {"R1": facts}, NOW)

    assert [each.row for each in found] == ["a"] * gone


def test_a_result_goes_only_when_every_run_that_used_it_lets_go() -> None:
    shared = holding("shared", users=frozenset({"R1", "R2"}))
    short, ever = run("R1", retention="1h"), run("R2")

    assert expired([shared], {"R1": short, "R2": ever}, NOW) == []
    assert expired([shared], {"R1": short}, NOW) == []  # of a run that nobody knows
    both = {"R1": short, "R2": run("R2", retention="2h")}
    assert expired([shared], both, NOW) == [shared]
