"""Hash and rewrite files in several threads, for ever or for some rounds; say what is wrong.

usage: files_actor.py CACHE FOLDER SEED ROUNDS

Each file has a lock: whoever holds it shared knows what stands in the file, and asks the table.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import threading
from pathlib import Path

from nbcache.errors import InputChangedError
from nbcache.model.digest import identity_digest
from nbcache.store.filestate import FileTable

TEXTS = [f"text number {number}\n".encode() for number in range(4)]  # all of one size


def rewrite(path: Path, chance: random.Random) -> None:
    """Write another text: in place or by a rename, often with the times of before."""
    old, text = path.stat(), chance.choice(TEXTS)
    if chance.random() < 0.5:
        path.write_bytes(text)
    else:
        new = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
        new.write_bytes(text)
        new.replace(path)
    if chance.random() < 0.7:
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


def work(table: FileTable, files: list[Path], chance: random.Random, rounds: int) -> None:
    for _ in range(rounds):
        path = chance.choice(files)
        is_writing = chance.random() < 0.3
        with open(f"{path}.lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if is_writing else fcntl.LOCK_SH)
            if is_writing:
                rewrite(path, chance)
            elif table.digest(path) != identity_digest(path.read_bytes()):
                print(f"WRONG {path.name}", flush=True)
        try:  # without the lock it may change meanwhile: then it is said, never guessed
            if table.digest(path) not in map(identity_digest, [*TEXTS, b""]):
                print(f"NEVER {path.name}", flush=True)
        except (InputChangedError, FileNotFoundError):
            pass


def main() -> None:
    root, folder, seed, rounds = sys.argv[1:]
    table = FileTable(root)
    files = [Path(folder) / f"f{number}" for number in range(12)]
    threads = [
        threading.Thread(
            target=work, args=(table, files, random.Random(f"{seed} {number}"), int(rounds))
        )
        for number in range(3)
    ]
    for each in threads:
        each.start()
    print("at work", flush=True)
    for each in threads:
        each.join()
    print("done", flush=True)


if __name__ == "__main__":
    main()
