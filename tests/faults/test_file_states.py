"""The file-state table under processes and threads that hash and write at once, and are killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nbcache.model.digest import identity_digest
from nbcache.store.cache import Cache
from nbcache.store.filestate import FileTable
from tests.faults.files_actor import TEXTS

ROOT = Path(__file__).parents[2]
FOR_EVER = 10**9


def start(root: Path, folder: Path, seed: int, rounds: int) -> subprocess.Popen[str]:
    actor = [sys.executable, "-m", "tests.faults.files_actor"]
    return subprocess.Popen(
        [*actor, str(root), str(folder), str(seed), str(rounds)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def rest_of(process: subprocess.Popen[str]) -> str:
    """Return what it prints until it ends. (`communicate` would lose what was read ahead.)"""
    assert process.stdout is not None
    return process.stdout.read()


def test_a_digest_is_that_of_the_content_whoever_writes_hashes_or_is_killed(
    tmp_path: Path,
) -> None:
    root, folder = Cache.open(tmp_path / "cache").root, tmp_path / "files"
    folder.mkdir()
    for number in range(12):
        (folder / f"f{number}").write_bytes(TEXTS[0])
    working = [start(root, folder, seed, 150) for seed in range(3)]
    victims = [start(root, folder, seed, FOR_EVER) for seed in (10, 11)]
    try:
        for each in victims:
            assert line_of(each) == "at work"
        told = []
        for number, each in enumerate(working):
            assert line_of(each) == "at work"
            if number < len(victims):
                victims[number].kill()
            told.append(rest_of(each))
        assert told == ["done\n"] * 3
        assert [rest_of(each) for each in victims] == ["", ""]
    finally:
        for each in (*working, *victims):
            each.kill()
            each.wait()

    paths = sorted(each for each in folder.iterdir() if each.suffix == "" and each.is_file())
    for table in (FileTable(root), FileTable(root)):
        found = table.digests(paths)
        assert found == [identity_digest(path.read_bytes()) for path in paths]
