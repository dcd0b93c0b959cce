"""Processes that share a cache with clean-ups: they use it as runs do and say what went wrong."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow.parquet  # noqa: F401  imported before the fork, so that kills land in our code

from nbcache.engine.upkeep.cleaning import clean, live_runs, run_facts
from nbcache.model.digest import Digest
from nbcache.model.row import AttemptRow, Port, RunRow
from nbcache.model.value import Stored
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.collect import collect
from nbcache.store.files import new_ulid
from tests.store.rows import attempt, hash_of, use

HASHES, CONTENTS = 12, 5  # so few that everybody wants the same


def run_tasks(root: str, seed: int, until: float, pipe: Connection) -> None:
    """Run short pipelines until the time is over; report (runs, hits) or what failed."""
    chance = random.Random(seed)
    runs = hits = 0
    pause = threading.Event()
    try:
        with Cache.open(root) as cache:
            while not runs or time.time() < until:
                hits += _run(cache, chance)
                runs += 1
                pause.wait(chance.uniform(0, 0.3))  # moments in which nobody works
        pipe.send(("done", runs, hits))
    except Exception:
        pipe.send(("error", traceback.format_exc(), 0))


def _run(cache: Cache, chance: random.Random) -> int:
    """One run: look up or make some results, and read all of them again at its end."""
    run, hits = new_ulid(), 0
    used: list[tuple[Stored, bytes]] = []
    cache.log.append([_status(run, "running")])
    with cache.activity.working():
        for _ in range(chance.randrange(1, 5)):
            number = chance.randrange(HASHES)
            hit, stored = _task(cache, chance, run, number)
            hits += hit
            used.append((stored, _content(number)))
            _read(cache, *used[-1])
        for stored, content in used:
            _read(cache, stored, content)
    cache.log.append([_status(run, "succeeded")])
    if chance.random() < 0.2:
        cache.log.rotate()
        cache.log.fold()
        if len(cache.log.segments()) > 8:
            cache.log.compact()  # replaced segments stay for their grace, as readers count on
    return hits


def _task(cache: Cache, chance: random.Random, run: str, number: int) -> tuple[bool, Stored]:
    hash = hash_of(f"task {number}")
    cache.log.refresh()
    entry = cache.log.find(hash)
    if entry is not None:
        stored = entry.outputs[0].stored
        assert stored.blob is not None
        there = cache.blobs.has_tree if stored.kind == "tree" else cache.blobs.has
        if there(stored.blob):
            made = attempt(id=entry.row_id, hash=hash)
            cache.log.append([use(made, id=new_ulid(), run=run, at=time.time_ns() // 1000)])
            return True, stored
    stored = _make(cache, number)
    row: AttemptRow = attempt(
        id=new_ulid(),
        at=time.time_ns() // 1000,
        complete=time.time_ns() // 1000,
        run=run,
        hash=hash,
        generation=cache.log.next_generation(hash),
        realtime=chance.random(),
        outputs=(Port("y", stored),),
    )
    cache.log.append([row])
    return False, stored


def _make(cache: Cache, number: int) -> Stored:
    content = _content(number)
    if number % 3:
        blob = cache.blobs.put_bytes(content)
        return Stored(hash_of(f"task {number}"), "value", "bytes", len(content), blob=blob)
    folder: Path = cache.work / new_ulid()
    folder.mkdir()
    (folder / "file").write_bytes(content)
    tree = cache.blobs.put_tree(folder)
    return Stored(tree.identity, "tree", "tree", tree.size, blob=tree.blob)


def _content(number: int) -> bytes:
    return f"content {number % CONTENTS} ".encode() * 500


def _read(cache: Cache, stored: Stored, content: bytes) -> None:
    assert stored.blob is not None
    digest = stored.blob
    if stored.kind == "tree":
        (entry,) = cache.blobs.open_tree(digest)
        assert entry.blob is not None
        digest = Digest(entry.blob)
    assert cache.blobs.read(digest) == content
    target = cache.work / new_ulid()
    cache.blobs.materialise(digest, "file", target)  # a link, as a task's input
    assert target.read_bytes() == content
    target.unlink()


def _status(run: str, status: str) -> RunRow:
    return RunRow(
        id=new_ulid(),
        at=time.time_ns() // 1000,
        run=run,
        name=run,
        status=status,
        host=socket.gethostname(),
        pid=os.getpid(),
    )


def clean_up(root: str, seed: int, until: float, pipe: Connection) -> None:
    """Clean until the time is over or the process is killed; report how often, and the bytes."""
    chance = random.Random(seed)
    times = freed = 0
    try:
        with Cache.open(root) as cache:
            while not times or time.time() < until:
                freed += clean_once(cache, chance)
                times += 1
        pipe.send(("done", times, freed))
    except Exception:
        pipe.send(("error", traceback.format_exc(), 0))


def clean_late(root: str, seed: int, until: float, pipe: Connection, *, now: float) -> None:
    """Clean until the time is over as at the moment `now`; report how often, and the bytes."""
    chance = random.Random(seed)
    times = freed = 0
    try:
        with Cache.open(root) as cache:
            while not times or time.time() < until:
                clean_once(cache, chance)
                live = live_runs(run_facts(cache))
                freed += collect(cache, live, clock=lambda _: now).freed
                times += 1
        pipe.send(("done", times, freed))
    except Exception:
        pipe.send(("error", traceback.format_exc(), 0))


def clean_once(cache: Cache, chance: random.Random) -> int:
    """Clean in one of the ways that there are, and compact at times; return the bytes freed."""
    selection = chance.choice(
        [
            Selection(older_than=0.0),
            Selection(older_than=chance.random()),
            Selection(max_size=chance.randrange(60_000)),
            Selection(keep_last=chance.randrange(3)),
            Selection(incomplete=True),
        ]
    )
    freed = clean(cache, selection, force=True).freed
    if chance.random() < 0.2:
        cache.log.compact()
    return freed
