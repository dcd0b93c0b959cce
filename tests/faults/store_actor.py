"""A process that uses a store as hard as it can until it is killed, and announces its rows."""

from __future__ import annotations

import json
import random
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow.parquet  # noqa: F401  imported before the fork, so that kills land in our code

from nbcache.engine.upkeep.cleaning import clean
from nbcache.model.row import AttemptRow, Port
from nbcache.model.value import Stored
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.journal import encode_row
from tests.store.rows import attempt, hash_of, new_id, use


def act(root: str, seed: int, pipe: Connection) -> None:
    """Append, fold, compact, clean up and keep files for ever; announce rows once appended."""
    try:
        cache = Cache.open(root)
        chance = random.Random(seed)
        number = 0
        while True:
            number += 1
            _step(cache, chance, f"{seed}-{number}", pipe)
    except Exception:
        pipe.send(("error", traceback.format_exc()))


def _step(cache: Cache, chance: random.Random, name: str, pipe: Connection) -> None:
    what = chance.random()
    if what < 0.6:
        with cache.activity.working():  # no clean-up takes a blob before its row is there
            rows = [_row(cache, chance, f"{name}-{i}") for i in range(chance.choice([1, 1, 1, 5]))]
            cache.log.append(rows)
        for row in rows:
            pipe.send(("row", json.loads(encode_row(row))))
        if chance.random() < 0.1:
            pipe.send(("evicting", rows[0].hash))  # it may be killed between the row and the word
            cache.log.evict(hash=rows[0].hash)
            pipe.send(("evict", rows[0].hash))
        if chance.random() < 0.3:
            hit = use(rows[-1], id=new_ids(chance))
            cache.log.append([hit])
            pipe.send(("row", json.loads(encode_row(hit))))
    elif what < 0.7:
        clean(cache, Selection(incomplete=True), force=True)
    elif what < 0.8:
        cache.log.rotate()
        cache.log.fold()
    elif what < 0.9:
        cache.log.compact(
            grace_s=chance.choice([-1.0, 86_400.0]), max_rows=chance.choice([50, 10**6])
        )
    elif what < 0.95:
        for path in (cache.root / "index").iterdir():
            path.unlink(missing_ok=True)
    else:
        count = len(list(cache.log.rows()))
        pipe.send(("count", count))


def new_ids(chance: random.Random) -> str:
    """Return an id that no other process of the test makes."""
    return new_id(chance.randrange(1 << 47))


def _row(cache: Cache, chance: random.Random, name: str) -> AttemptRow:
    return attempt(
        name, id=new_ids(chance), hash=hash_of(name), outputs=(_output(cache, chance, name),)
    )


def _output(cache: Cache, chance: random.Random, name: str) -> Port:
    data = (name.encode() * 40_000)[: chance.choice([10, 5_000, 300_000])]
    if chance.random() < 0.3:  # the same content from several processes at once
        data = b"common" * chance.choice([10, 5_000])
    path: Path = cache.work / name
    kind = chance.choice(["inline", "bytes", "file", "tree"])
    if kind == "inline":
        return Port("y", Stored(hash_of(name), "value", "text", 3, inline=b"abc"))
    if kind == "bytes":
        blob = cache.blobs.put_bytes(data)
        return Port("y", Stored(hash_of(name), "value", "text", len(data), blob=blob))
    if kind == "file":
        path.write_bytes(data)
        file = cache.blobs.put_file(path)
        return Port("y", Stored(file.identity, "file", "file", file.size, blob=file.blob))
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "a").write_bytes(data)
    (path / "b").write_bytes(b"b")
    tree = cache.blobs.put_tree(path)
    return Port("y", Stored(tree.identity, "tree", "tree", tree.size, blob=tree.blob))
