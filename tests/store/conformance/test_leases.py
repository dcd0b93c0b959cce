"""Claims on a shared store: what is claimed runs once, whoever dies and whatever the clocks say."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nbcache.errors import StoreGoneError, StoreUnavailableError
from nbcache.model.digest import Digest
from nbcache.store.remote.beating import BeatingProcess
from nbcache.store.remote.leases import Done, Heartbeat, Held, Lease, Leases
from nbcache.store.remote.memory import MemoryStore
from tests.servers.proxy import LoseReply, Proxy, Refuse, Request
from tests.store.conformance.claimants import hashes
from tests.store.conformance.places import Place
from tests.waiting import PATIENCE_S, wait_until

HASH = Digest("xxh3:" + "ab" * 16)


class Clocked(MemoryStore):
    """A store whose server's clock goes only when it is told to."""

    now_us = 1_000_000_000

    def server_time(self) -> int:
        return self.now_us


def member(store: MemoryStore, name: str) -> Leases:
    heartbeat = Heartbeat(store, name, beat_s=0.0, says=lambda: {"fit": 0.5, "who": name})
    heartbeat.beat()
    return Leases(store, heartbeat, run=f"run of {name}", host="h", user=name, stale_s=60.0)


@pytest.fixture
def store() -> Clocked:
    return Clocked()


def test_a_free_claim_costs_one_request_and_its_end_another() -> None:
    asked: list[str] = []
    store = MemoryStore(on_request=lambda doing, key: asked.append(f"{doing} {key[:6]}"))
    ada = member(store, "ada")
    asked.clear()

    lease = ada.claim(HASH, "fit")
    assert isinstance(lease, Lease)
    ada.end(lease, b"row")

    assert asked == ["create claims", "put claims"]


def test_who_waits_is_told_whose_it_is_and_gets_the_row(store: Clocked) -> None:
    ada, bob = member(store, "ada"), member(store, "bob")
    lease = ada.claim(HASH, "fit")
    assert isinstance(lease, Lease)

    held = bob.claim(HASH)

    assert isinstance(held, Held)
    assert (held.owner.user, held.owner.run, held.owner.process) == ("ada", "run of ada", "fit")
    assert bob.progress(held) == {"fit": 0.5, "who": "ada"}
    assert bob.look(held) == held
    ada.end(lease, b"the row")
    assert bob.look(held) == Done(HASH, 1, b"the row")
    assert bob.claim(HASH) == Done(HASH, 1, b"the row")


def test_a_result_that_is_of_no_use_is_claimed_anew(store: Clocked) -> None:
    ada, bob = member(store, "ada"), member(store, "bob")
    lease = ada.claim(HASH)
    assert isinstance(lease, Lease)
    ada.end(lease, b"evicted since")

    again = bob.claim(HASH, after=1)

    assert again == Lease(HASH, 2)
    held = ada.claim(HASH, after=1)
    assert isinstance(held, Held)
    assert held.epoch == 2


def test_a_task_that_failed_leaves_its_claim_to_the_next(store: Clocked) -> None:
    ada, bob = member(store, "ada"), member(store, "bob")
    lease = ada.claim(HASH)
    assert isinstance(lease, Lease)
    held = bob.claim(HASH)
    assert isinstance(held, Held)

    ada.end(lease)

    assert bob.look(held) is None
    assert bob.claim(HASH) == Lease(HASH, 2)


def test_a_claim_is_taken_over_when_its_heartbeat_stops_by_the_servers_clock(
    store: Clocked,
) -> None:
    ada, bob, eve = (member(store, name) for name in ("ada", "bob", "eve"))
    assert isinstance(ada.claim(HASH), Lease)
    held = bob.claim(HASH)
    assert isinstance(held, Held)

    store.now_us += 60_000_000
    assert bob.look(held) == held  # just as old as it may be
    store.now_us += 1_000_000

    assert bob.look(held) is None
    assert bob.claim(HASH) == Lease(HASH, 2)
    new = eve.claim(HASH)
    assert isinstance(new, Held)
    assert (new.epoch, new.owner.user) == (2, "bob")


def test_a_holder_that_came_after_the_last_look_is_not_taken_for_dead(store: Clocked) -> None:
    bob = Leases(store, Heartbeat(store, "bob", beat_s=3600.0), user="bob")
    other = Digest("xxh3:" + "cd" * 16)
    assert isinstance(member(store, "ada").claim(other), Lease)
    assert isinstance(bob.claim(other), Held)  # looks at who lives, and remembers it for long

    assert isinstance(member(store, "eve").claim(HASH), Lease)

    found = bob.claim(HASH)
    assert isinstance(found, Held)
    assert found.owner.user == "eve"


def test_an_owner_that_ends_and_goes_while_another_looks_has_left_its_row() -> None:
    moments: list[Callable[[], None]] = []

    def on_request(doing: str, key: str) -> None:
        if (doing, key) == (
            "put",
            "runs/bob",
        ) and moments:  # between his look for a row and for her
            moments.pop()()

    store = MemoryStore(on_request=on_request)
    ada, bob = member(store, "ada"), member(store, "bob")
    lease = ada.claim(HASH)
    assert isinstance(lease, Lease)
    held = bob.claim(HASH)
    assert isinstance(held, Held)

    def end() -> None:
        ada.end(lease, b"row")
        store.delete(["runs/ada"])

    moments.append(end)

    assert bob.look(held) == Done(HASH, 1, b"row")


def test_a_heartbeat_that_was_stopped_gives_its_claims_free(store: Clocked) -> None:
    heartbeat = Heartbeat(store, "ada")
    heartbeat.start()
    assert isinstance(Leases(store, heartbeat).claim(HASH), Lease)
    bob = member(store, "bob")
    assert isinstance(bob.claim(HASH), Held)

    heartbeat.stop()

    assert bob.claim(HASH) == Lease(HASH, 2)


class Away(MemoryStore):
    """Does not answer."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        raise StoreUnavailableError(self.url, "create", key, "no answer")


class Deaf(Clocked):
    """Creates, and does not answer when it is asked who lives."""

    def list(self, prefix: str = "", start_after: str = "") -> object:  # type: ignore[override]
        raise StoreUnavailableError(self.url, "list", prefix, "no answer")


def test_without_an_answer_the_work_goes_on_and_a_held_claim_is_not_taken() -> None:
    away, deaf = Away(), Deaf()

    assert member(away, "ada").claim(HASH) == Lease(HASH, 1)
    assert isinstance(member(deaf, "ada").claim(HASH), Lease)
    assert isinstance(member(deaf, "bob").claim(HASH), Held)


# ---------------------------------------------------------------------- many processes


class Crowd:
    """Claimants, each a process."""

    def __init__(self, place: Place, log: Path, count: int) -> None:
        self._job = {"url": place.url, "options": place.options, "log": str(log), "count": count}
        self._log, self._processes = log, list[subprocess.Popen[bytes]]()
        log.touch()

    def add(
        self, *, skew_s: float = 0.0, hangs_at: str = "", stale_s: float = 300.0
    ) -> subprocess.Popen[bytes]:
        job = {**self._job, "skew_s": skew_s, "hangs_at": hangs_at, "stale_s": stale_s}
        words = [sys.executable, "-m", "tests.store.conformance.claimants", json.dumps(job)]
        process = subprocess.Popen(words, cwd=Path(__file__).parents[3])
        self._processes.append(process)
        return process

    def finish(self) -> None:
        for process in self._processes:
            assert process.wait(PATIENCE_S) == 0

    def wait_for(self, line: str) -> None:
        wait_until(lambda: line in self._log.read_text().splitlines(), repr(line))

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def said(self, what: str) -> list[str]:
        lines = self._log.read_text().splitlines()
        return [line.partition(" ")[2] for line in lines if line.startswith(what)]


@pytest.fixture(params=["folder", "s3-obstore", "azure-fsspec"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    name, _, backend = request.param.partition("-")
    if name == "folder":
        return Place(str(tmp_path))
    place: Place = request.getfixturevalue(name).fresh()
    return replace(place, options={**place.options, "backend": backend})


def test_of_many_processes_one_computes_each_task(shared: Place, tmp_path: Path) -> None:
    """Of three, one's clock is an hour fast and one's an hour slow."""
    wanted = hashes(12)
    crowd = Crowd(shared, tmp_path / "log", len(wanted))
    try:
        for skew_s in (0.0, 3600.0, -3600.0):
            crowd.add(skew_s=skew_s)
        crowd.finish()
    finally:
        crowd.end()

    assert sorted(crowd.said("run")) == sorted(wanted)  # each once, without exception
    assert Counter(crowd.said("got")) == {f"{hash} row-of-{hash}": 3 for hash in wanted}


def test_what_a_killed_process_held_is_taken_over(s3: Place, tmp_path: Path) -> None:
    wanted = hashes(4)
    crowd = Crowd(s3.fresh(), tmp_path / "log", len(wanted))
    try:
        killed = crowd.add(hangs_at="3")
        crowd.wait_for(f"run {wanted[3]}")
        crowd.add(skew_s=-3600.0, stale_s=5.0)
        crowd.wait_for(f"got {wanted[0]} row-of-{wanted[0]}")
        killed.kill()
        killed.wait()
        crowd._processes.remove(killed)
        crowd.finish()
    finally:
        crowd.end()

    assert crowd.said("run").count(wanted[3]) == 2  # by the dead, and by whoever took over
    assert set(crowd.said("got")) == {f"{hash} row-of-{hash}" for hash in wanted}


def test_lost_replies_and_refusals_lose_no_result(s3: Place, tmp_path: Path) -> None:
    wanted = hashes(10)
    chance = random.Random(5)
    proxy = Proxy(s3.options["endpoint"])
    place = replace(s3.fresh(), options={"endpoint": proxy.url, "backend": "obstore"})
    busy = Refuse(503, b"<Error><Code>SlowDown</Code><Message>no</Message></Error>")

    def rule(request: Request) -> LoseReply | Refuse | None:
        """Of the requests about claims, one in four meets with something."""
        if "claims" not in request.path:
            return None
        return chance.choice([LoseReply(), busy, None, None, None, None, None, None])

    crowd = Crowd(place, tmp_path / "log", len(wanted))
    try:
        with proxy.when(rule):
            crowd.add()
            crowd.add()
            crowd.finish()
    finally:
        crowd.end()
        proxy.close()

    assert set(crowd.said("run")) == set(wanted)
    assert set(crowd.said("got")) == {f"{hash} row-of-{hash}" for hash in wanted}


# ---------------------------------------------------------------------- a heartbeat of its own

PARENT = """
import sys
from nbcache.store.remote.beating import BeatingProcess
beating = BeatingProcess(sys.argv[1], "parent", beat_s=0.1)
beating.start()
beating.say({"fit": 0.5})
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_heartbeat_in_a_process_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    store = Place(str(tmp_path)).open()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        wait_until(lambda: store.get("runs/parent") == b'{"fit": 0.5}')
        before = store.head("runs/parent").modified_us
        wait_until(lambda: store.head("runs/parent").modified_us > before)
    finally:
        parent.kill()
        parent.communicate()

    wait_until(lambda: not list(store.list("runs/")))


def test_a_heartbeat_that_cannot_start_says_why(tmp_path: Path) -> None:
    beating = BeatingProcess(str(tmp_path / "gone"), "name")

    with pytest.raises(StoreGoneError, match="the folder is not there"):
        beating.start()
    beating.stop()


def test_a_heartbeat_in_a_process_is_gone_when_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "json.py").write_text("raise RuntimeError('a file of the user')")
    monkeypatch.chdir(tmp_path / "notebooks")
    store = Place(str(tmp_path)).open()
    beating = BeatingProcess(str(tmp_path), "name")
    beating.start()
    beat = Heartbeat(store, beating.name)
    assert isinstance(Leases(store, beat).claim(HASH), Lease)
    bob = Heartbeat(store, "bob")
    assert isinstance(Leases(store, bob).claim(HASH), Held)

    beating.stop()
    beating.stop()

    assert Leases(store, bob).claim(HASH) == Lease(HASH, 2)
