"""Makes the sample cache of the current format. Never run it over one that is committed.

python -m tests.golden.make_cache tests/golden/cache/format2
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from nbcache.model.digest import identity_digest
from nbcache.model.fingerprint import Component
from nbcache.model.row import (
    AttemptRow,
    EvictRow,
    InputSummary,
    PinRow,
    Port,
    ProcessRecord,
    Row,
    RunRow,
    TrustRow,
    UseRow,
    WatchedRead,
)
from nbcache.model.value import Stored
from nbcache.store.cache import Cache
from nbcache.store.journal import JournalWriter

AT = 1_763_770_000_000_000


def hash_of(text: str) -> str:
    return identity_digest(text.encode())


def folded_rows(file: Stored, tree: Stored) -> list[Row]:
    """The rows of the sample's segment: one of each kind, all columns used."""
    code = Component("code", "body", 1, hash_of("code"), "1 line", "x + 1")  # type: ignore
    process = ProcessRecord(name="fit", components=(code,), source="x + 1", inputs=("x",))
    everything = AttemptRow(
        id="01KAM000000000000000000001", at=AT, run="01KAM0000000000000000RVN01", session=1,
        process="fit", position="0.2", tag="a", hash=hash_of("1"), generation=2,  # type: ignore
        status="completed", attempt=2, exit=0, submit=AT - 3_000_000, start=AT - 2_000_000,
        complete=AT, duration=3.0, realtime=2.0, peak_rss=1 << 20, cpu_time=1.5, rchar=10,
        wchar=20, host="golden", user="someone", executor="local", workdir="/work/1", cpus=2,
        memory=1 << 30, time=60.0,
        components=(Component("input", "x", 1, hash_of("3"), "x = 3"),),  # type: ignore
        watched=(WatchedRead("env", "HOME", None), WatchedRead("file", "d.csv", hash_of("d"))),  # type: ignore
        inputs=(InputSummary("x", hash_of("3"), "3", "3"),),  # type: ignore
        outputs=(Port("f", file), Port("t", tree)),
        shown=Stored(hash_of("shown"), "value", "json", 2, inline=b"[]"),  # type: ignore
        reason="first run",
    )  # fmt: skip
    failed = AttemptRow(
        id="01KAM000000000000000000002", at=AT, run="01KAM0000000000000000RVN01", process="fit",
        position="1", hash=hash_of("2"), status="failed", exit=1, signal="SIGKILL",  # type: ignore
        error="ValueError: x", traceback="Traceback ...",
    )  # fmt: skip
    begun = RunRow(
        id="01KAM000000000000000000000", at=AT, run="01KAM0000000000000000RVN01", name="calm-otter",
        status="running", notebook="a.ipynb", parameters={"alpha": "0.1"}, processes=(process,),
    )  # fmt: skip
    return [begun, everything, failed]


def journal_rows() -> list[Row]:
    """The rows of the sample's journal."""
    run = "01KAM0000000000000000RVN02"
    return [
        UseRow(
            id="01KAM000000000000000000003", at=AT, run=run, process="fit", position="0.2", tag="a",
            hash=hash_of("1"), cached_from="01KAM000000000000000000001",  # type: ignore
        ),
        AttemptRow(
            id="01KAM000000000000000000004", at=AT, run=run, process="fit", position="2",
            hash=hash_of("3"), status="completed", realtime=1.0,  # type: ignore
            outputs=(Port("y", Stored(hash_of("y"), "value", "text", 1, inline=b"y")),),  # type: ignore
        ),
        AttemptRow(
            id="01KAM000000000000000000005", at=AT, run=run, process="fit", position="3",
            hash=hash_of("4"), status="completed",  # type: ignore
        ),
        EvictRow(id="01KAM000000000000000000006", at=AT, hash=hash_of("4"), generation=1),  # type: ignore
        PinRow(id="01KAM000000000000000000007", at=AT, target=run),
        TrustRow(id="01KAM000000000000000000008", at=AT, hash=hash_of("5"), same_as=hash_of("6")),  # type: ignore
        RunRow(
            id="01KAM000000000000000000009", at=AT + 1, run=run, name="brave-owl",
            status="succeeded", counts={"completed": 1, "cached": 1}, saved=2.0,
        ),
    ]  # fmt: skip


def make(root: Path) -> None:
    """Write the sample cache."""
    cache = Cache.open(root)
    (cache.work / "file").write_bytes(b"a file\n")
    file = cache.blobs.put_file(cache.work / "file")
    tree = cache.work / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "tool.sh").write_bytes(b"#!/bin/sh\n")
    (tree / "tool.sh").chmod(0o755)
    (tree / "link").symlink_to("tool.sh")
    kept = cache.blobs.put_tree(tree)
    rows = folded_rows(
        Stored(file.identity, "file", "file", file.size, blob=file.blob, name="a.txt"),
        Stored(kept.identity, "tree", "tree", kept.size, blob=kept.blob, name="tree"),
    )
    cache.log.append(rows)
    cache.log.rotate()
    cache.log.fold()
    JournalWriter(root, host="golden").append(journal_rows())  # then renamed: boot 00000000
    for name in ("index", "filestate", "claims", "tmp", "work"):
        shutil.rmtree(root / name)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
