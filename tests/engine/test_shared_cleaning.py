"""A shared cache is cleaned beside whoever uses it, in steps, by anybody.

The server's clock is that of a folder, put forward: what lies there is then weeks old.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbcache.engine.running.run import Run
from nbcache.engine.upkeep.pins import let_go, pin, pins, pins_of_team
from nbcache.engine.upkeep.shared_cleaning import SharedCleaning, clean_shared
from nbcache.errors import StoreError, UsageError
from nbcache.model.digest import Digest
from nbcache.model.row import Record
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.remote.compact import compact_shared
from nbcache.store.remote.folder import FolderStore
from nbcache.store.remote.sending import send_segment
from nbcache.store.remote.shared import Shared
from nbcache.store.segment import KEYS
from tests.engine.notebooks import Notebook
from tests.engine.shared_users import KEYS as BORROWED
from tests.engine.test_team import Person, counts, person, sent
from tests.forked import Forked
from tests.store.rows import attempt
from tests.store.ticking import STORES, Ticks, a_store, open_ticking

__all__ = ["person"]  # a fixture

ALL = Selection(older_than=0.0)
DAY_US = 86_400_000_000
ROUNDS = int(os.environ.get("NBCACHE_TEST_ROUNDS", "5"))  # of each of those who race
PATIENCE_S = 240.0 + 10 * ROUNDS
Janitor = Callable[..., SharedCleaning]


class LaterStore(FolderStore):
    """A folder whose server's clock is `ahead_us` ahead of what its files say."""

    ahead_us = 0

    def server_time(self) -> int:
        return super().server_time() + self.ahead_us


def opened(tmp_path: Path, name: str, days: int = 0) -> Iterator[Shared]:
    cache = Cache.open(tmp_path / name)
    store = LaterStore(tmp_path / "team")
    store.ahead_us = days * DAY_US
    shared = Shared.open(store, cache.root, cache.blobs)
    yield shared
    shared.close()
    cache.close()


@pytest.fixture
def janitor(tmp_path: Path) -> Janitor:
    """Return a function that cleans the shared cache so many days from now."""

    def clean(selection: Selection, days: int = 0, *, force: bool = True) -> SharedCleaning:
        for shared in opened(tmp_path, "janitor", days):
            done = clean_shared(shared, selection, force=force)
        return done

    return clean


def files(notebook: Notebook, *numbers: int) -> None:
    notebook.cell(f"%channel numbers = of({', '.join(map(str, numbers))})")
    notebook.cell(
        "%%process big(n) -> table from numbers\n"
        f"import numpy\n{notebook.mark('n')}\ntable = numpy.full(50_000, n)"
    )


def blobs(tmp_path: Path) -> int:
    return sum(1 for path in (tmp_path / "team/blobs").rglob("*") if path.is_file())


def test_what_nobody_used_since_it_was_marked_goes_and_the_rest_stays(
    person: Person, tmp_path: Path, janitor: Janitor
) -> None:
    anna = person("anna")
    files(anna, 1, 2, 3)
    anna.run()
    sent(anna.session)
    before = blobs(tmp_path)

    marked = janitor(ALL)
    again = janitor(Selection())
    assert (marked.marked, marked.evicted, again.waiting) == (3, 0, 3)
    assert marked.marked_bytes > 3 * 300_000
    assert blobs(tmp_path) == before
    ben = person("ben")
    files(ben, 2)
    ben.run()
    assert ben.ran() == []
    sent(ben.session)

    evicted = janitor(Selection(), days=2)
    assert evicted.evicted == 2
    assert blobs(tmp_path) == before  # who has just hit one can still fetch it
    swept = janitor(Selection(), days=30)

    assert swept.deleted["blobs"] == 2
    assert blobs(tmp_path) == before - 2
    carl = person("carl")
    files(carl, 1, 2, 3)
    run = carl.run()
    assert carl.ran() == ["1", "3"]
    assert counts(run) == {"completed": 2, "cached": 1}
    assert [int(table[0]) for table in run["big"]] == [1, 2, 3]


def objects(tmp_path: Path) -> list[Path]:
    """Return what is in the store, but for heartbeats and the like, which come and go."""
    passing = ("runs", "clocks", "probes")
    places = [each for each in (tmp_path / "team").iterdir() if each.name not in passing]
    found = [each for place in places for each in (place, *place.rglob("*"))]
    return sorted(each for each in found if each.is_file())


def test_a_dry_run_says_what_would_go_and_leaves_all(
    person: Person, tmp_path: Path, janitor: Janitor
) -> None:
    anna = person("anna")
    files(anna, 1, 2)
    anna.run()
    sent(anna.session)
    everything = objects(tmp_path)

    told = janitor(ALL, days=30, force=False)

    assert (told.done, told.marked, told.evicted) == (False, 2, 0)
    assert objects(tmp_path) == everything


def test_what_no_row_names_goes_when_its_week_is_old_and_not_before(
    person: Person, tmp_path: Path, janitor: Janitor
) -> None:
    anna = person("anna")
    files(anna, 1)
    anna.run()
    sent(anna.session)
    (week,) = (tmp_path / "team/blobs").iterdir()
    orphan = week / "ab" / ("ab" + "0" * 62)
    half = tmp_path / "team/log/01KAM000000000000000000001.rows.parquet"
    torn = tmp_path / "team/tmp/01KAM000000000000000000002"
    for path in (orphan, half, torn):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half an upload")

    assert janitor(Selection(), days=5).deleted["blobs"] == 0
    assert not half.exists()
    assert orphan.exists()
    assert torn.exists(), "a large one may take days"
    swept = janitor(Selection(), days=30)
    assert swept.deleted["uploads"] == 1
    assert not torn.exists()

    assert swept.deleted["blobs"] == 1
    assert not orphan.exists()
    assert blobs(tmp_path) == 1


def test_nothing_goes_where_a_part_of_the_log_cannot_be_read(
    person: Person, tmp_path: Path, janitor: Janitor
) -> None:
    anna = person("anna")
    files(anna, 1)
    anna.run()
    sent(anna.session)
    janitor(ALL)
    keys = next((tmp_path / "team/log").glob("*" + KEYS))
    (tmp_path / "team/log" / f"01KAM000000000000000000001{KEYS}").write_bytes(b"no Parquet")
    before = objects(tmp_path)

    with pytest.raises(StoreError, match="cannot be read"):
        janitor(Selection(), days=30)

    assert keys.exists()
    assert objects(tmp_path) == before


def test_a_run_that_goes_on_keeps_what_it_uses(
    person: Person, tmp_path: Path, janitor: Janitor
) -> None:
    anna = person("anna")
    files(anna, 1)
    run = anna.run()
    sent(anna.session)
    janitor(ALL)
    for shared in opened(tmp_path, "somebody"):
        shared.mirror.read_whole_log()
        (first, *_) = [each for each in shared.log.records(("run",)) if each["run"] == run.id]
        going = {**first, "id": "01KAM0000000000000000000ZZ", "run": "GOING", "status": "running"}
        attempt = next(iter(shared.log.records(("attempt",))))
        use = {
            "kind": "use", "id": "01KAM0000000000000000000ZY", "at": 1, "run": "GOING",
            "hash": attempt["hash"], "process": "big", "cached_from": attempt["id"],
        }  # fmt: skip
        send_segment(shared, [{**going, "at": time.time_ns() // 1000}, use])

    _beats(tmp_path, "GOING", days=2)
    assert janitor(Selection(), days=2).evicted == 0
    assert janitor(ALL, days=2).live == 1
    assert janitor(ALL, days=5).marked == 1, "it gave no sign of life for days"


def _beats(tmp_path: Path, run: str, days: int) -> None:
    beat = tmp_path / "team/runs" / run
    beat.parent.mkdir(exist_ok=True)
    beat.write_text("{}")
    at = time.time() + days * 86_400
    os.utime(beat, (at, at))


def test_a_run_that_is_resumed_keeps_what_it_uses(
    person: Person, tmp_path: Path, janitor: Janitor
) -> None:
    anna = person("anna")
    files(anna, 1)
    run = anna.run()
    sent(anna.session)
    janitor(ALL)
    _says(tmp_path, run, "resuming", session=2)

    _beats(tmp_path, run.id, days=2)
    assert janitor(Selection(), days=2).evicted == 0
    assert janitor(ALL, days=2).live == 1
    _says(tmp_path, run, "failed", session=2)
    assert janitor(ALL, days=2).marked == 1


def _says(tmp_path: Path, run: Run, status: str, session: int) -> None:
    """Send a row of a run, as another session of it does."""
    for shared in opened(tmp_path, "somebody"):
        shared.mirror.read_whole_log()
        first = next(each for each in shared.log.records(("run",)) if each["run"] == run.id)
        row = {**first, "id": new_ulid(), "status": status, "session": session}
        send_segment(shared, [{**row, "at": time.time_ns() // 1000}])


def test_what_anybody_has_pinned_stays_until_that_one_lets_go(
    person: Person, tmp_path: Path, janitor: Janitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = person("anna"), person("ben")
    files(anna, 1, 2, 3)
    run = anna.run()
    sent(anna.session)
    files(ben, 1, 2, 3)
    ben.run()
    sent(ben.session)

    def says(who: Notebook, user: str, **what: object) -> None:
        monkeypatch.setenv("LOGNAME", user)
        pin(who.session.cache, **what)  # type: ignore[arg-type]
        tier = who.session.tier()
        assert tier is not None
        tier.send_pins()

    unsent = attempt("something that waits to be sent", id=new_ulid())
    ben.session.cache.log.append([unsent])
    says(anna, "anna", words=["big", "0"])
    says(ben, "ben", words=["big", "0"])
    says(ben, "ben", words=["big", "1"])
    says(ben, "ben", words=["big", "1"], pinned=False)
    says(ben, "ben", words=["big", "0"], pinned=False)
    says(ben, "ben", process="big")  # a name, which others may use for something else

    marked = janitor(ALL)
    assert (marked.marked, marked.pinned) == (2, 1)
    says(anna, "anna", run=run.id)
    assert janitor(Selection(), days=2).evicted == 0
    says(anna, "anna", run=run.id, pinned=False)
    assert janitor(ALL, days=2).pinned == 1

    team = ben.session.tier()
    assert team is not None
    (left,) = pins_of_team(team.shared)
    assert (left.user, left.what[:5]) == ("anna", "task ")
    with pytest.raises(UsageError, match=r"carl has pinned nothing in .*: anna"):
        let_go(team.shared, "carl", None, run=None)
    assert let_go(team.shared, "anna", None, run=None, here=anna.session.cache) == [left]
    assert pins_of_team(team.shared) == []
    assert pins(anna.session.cache) == [], "nor does her own cache hold it"
    assert janitor(ALL, days=2).pinned == 0
    assert unsent.id not in {row["id"] for row in team.shared.log.records()}, "pins go alone"


def test_claims_that_ended_go_and_those_of_the_living_stay(
    tmp_path: Path, person: Person, janitor: Janitor
) -> None:
    person("anna")
    team = tmp_path / "team"
    old = time.time() - 3 * 86_400

    def put(key: str, held: object, *, is_old: bool = True) -> Path:
        path = team / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(held))
        if is_old:
            os.utime(path, (old, old))
        return path

    alive = put("runs/alive", {}, is_old=False)
    dead = put("runs/dead", {})
    done = [
        put("claims/aa/aa1/000001", {"heartbeat": "dead"}),
        put("claims/aa/aa1/000001.done", {}),
    ]
    left = put("claims/bb/bb1/000001", {"heartbeat": "dead"})
    held = put("claims/cc/cc1/000001", {"heartbeat": "alive"})
    young = put("claims/dd/dd1/000001", {"heartbeat": "dead"}, is_old=False)

    assert janitor(Selection()).deleted["claims"] == 4

    assert [path.exists() for path in (dead, *done, left)] == [False] * 4
    assert [path.exists() for path in (alive, held, young)] == [True] * 3


def test_merging_keeps_every_row_once_also_where_two_merge_different_segments(
    person: Person, tmp_path: Path, janitor: Janitor
) -> None:
    anna = person("anna")
    for number in range(6):
        files(anna, number)
        anna.run()
        sent(anna.session)
    for one in opened(tmp_path, "one"):
        ids = {each["id"] for each in _read(one)}
        two_sees = dict(one.log.segments())
        assert len(two_sees) >= 6
        for two in opened(tmp_path, "two"):
            two.mirror.read_whole_log()
            files(anna, 6)
            anna.run()
            sent(anna.session)
            assert compact_shared(one, enough=1) > compact_shared_as_seen(two) >= 2
            rows = _read(two)
            assert ids < {each["id"] for each in rows}
            ids = {each["id"] for each in rows}
        done = janitor(Selection(), days=2)
        assert done.deleted["segments"] >= 12
        rows = _read(one)
        assert {each["id"] for each in rows} == ids
        compact_shared(one, enough=1)
        rows = _read(one)
        assert sorted(each["id"] for each in rows) == sorted(ids)  # each once
    ben = person("ben")
    files(ben, *range(7))
    ben.run()
    assert ben.ran() == []


def compact_shared_as_seen(shared: Shared) -> int:
    """Merge what a reader has seen, without looking again: somebody else has merged meanwhile."""
    from nbcache.store.compact import merge
    from nbcache.store.remote.layout import LOG
    from nbcache.store.segment import ROWS

    segments = shared.log.segments()
    merged = merge(shared.root, sorted(segments), segments)
    for suffix in (ROWS, KEYS):
        shared.store.put_file(LOG + merged + suffix, shared.root / "log" / (merged + suffix))
    return len(segments)


def _read(shared: Shared) -> list[Record]:
    shared.mirror.read_whole_log()
    return list(shared.log.records())


def start(root: Path, what: str, name: str, *words: str) -> Forked:
    return Forked(root, name, "tests.engine.shared_users", what, str(root), name, *words)


def beside(root: Path, janitor: str, *users: tuple[str, str, int]) -> tuple[list[int], int, int]:
    """Let people use a shared cache while two clean it; return what each said, and how many
    results were evicted, and blobs deleted."""
    cleaning = [start(root, "clean", name, janitor) for name in ("janitor", "concierge")]
    using = [start(root, what, name, str(rounds)) for what, name, rounds in users]
    try:
        hits = [int(each.ended(PATIENCE_S).split()[0]) for each in using]
        (root / "stop").touch()
        done = [map(int, each.ended(PATIENCE_S).split()) for each in cleaning]
        evicted, blobs_deleted = map(sum, zip(*done, strict=True))
    finally:
        for each in (*cleaning, *using):
            each.kill()
    return hits, evicted, blobs_deleted


@pytest.fixture
def where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Make the store of a race, of the kind that the test asks for."""
    with a_store(getattr(request, "param", "folder"), tmp_path, monkeypatch) as url:
        (tmp_path / "where").write_text(url)
        yield url


@pytest.mark.timeout(600 + 20 * ROUNDS)
@pytest.mark.parametrize("where", STORES, indirect=True)
def test_who_uses_a_shared_cache_never_fails_whatever_is_cleaned_under_his_hands(
    tmp_path: Path, where: str
) -> None:
    users = [("use", "anna", 1), ("borrow", "ben", ROUNDS), ("borrow", "carl", ROUNDS)]
    if "://" in where:
        del users[0]

    hits, evicted, blobs_deleted = beside(tmp_path, "later", *users)

    assert evicted > 0
    assert blobs_deleted > 0
    assert sum(hits) > 0


@pytest.mark.timeout(600 + 20 * ROUNDS)
@pytest.mark.parametrize("where", STORES if ROUNDS > 5 else ["folder"], indirect=True)
def test_what_was_made_while_results_of_last_month_were_evicted_and_deleted_is_there(
    tmp_path: Path, where: str
) -> None:
    Ticks(tmp_path).leap(-30 * DAY_US)
    start(tmp_path, "borrow", "dora", "1").ended(PATIENCE_S)
    Ticks(tmp_path).leap(30 * DAY_US)
    users = (("borrow", "ben", ROUNDS), ("borrow", "carl", ROUNDS))

    hits, evicted, blobs_deleted = beside(tmp_path, "now", *users)

    assert evicted > 0
    assert blobs_deleted > 0
    assert min(hits) > 0
    start(tmp_path, "borrow", "emil", "1").ended(PATIENCE_S)
    cache = Cache.open(tmp_path / "reader")
    shared = Shared.open(open_ticking(where, Ticks(tmp_path)), cache.root, cache.blobs)
    rows = _read(shared)
    gone = {each.get("row") for each in rows if each["kind"] == "evict"}
    kept = [each for each in rows if each["kind"] == "attempt" and each["id"] not in gone]
    assert len({each["hash"] for each in kept}) == len(BORROWED)
    for row in kept:
        (output,) = row["outputs"]
        assert shared.fetching.bring(Digest(output["blob"]))
    shared.close()
    cache.close()
