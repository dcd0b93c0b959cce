from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nbcache.errors import CacheFormatError, StoreError
from nbcache.store.cache import Cache
from nbcache.store.files import make_folder
from tests.store.rows import attempt, hash_of


def test_a_cache_is_made_once_and_keeps_its_id(tmp_path: Path) -> None:
    first = Cache.open(tmp_path / "a" / "b")

    assert Cache.open(tmp_path / "a" / "b").id == first.id
    assert Cache.open(tmp_path / "other").id != first.id
    assert first.writable


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")

    with pytest.raises(CacheFormatError, match=r"thesis\.tex"):
        Cache.open(tmp_path)

    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(CacheFormatError, match="is a file"):
        Cache.open(tmp_path / "thesis.tex")


def test_without_create_a_missing_cache_is_an_error_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(CacheFormatError, match="no nbcache cache"):
        Cache.open(tmp_path / "no", create=False)

    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "x", "id": "y"}', '{"format": 1}'])
def test_a_damaged_header_is_named(tmp_path: Path, text: str) -> None:
    Cache.open(tmp_path / "c")
    (tmp_path / "c" / "nbcache.json").write_text(text)

    with pytest.raises(CacheFormatError, match=r"nbcache\.json is damaged"):
        Cache.open(tmp_path / "c")


def test_a_newer_format_opens_read_only_and_its_rows_can_be_read(tmp_path: Path) -> None:
    cache = Cache.open(tmp_path / "c")
    cache.log.append([attempt("a")])
    cache.close()
    header = json.loads((cache.root / "nbcache.json").read_text())
    (cache.root / "nbcache.json").write_text(json.dumps(header | {"format": 2}))

    newer = Cache.open(cache.root)

    assert not newer.writable
    assert newer.log.find(hash_of("a")) is not None
    with pytest.raises(StoreError, match="newer than this nbcache"):
        newer.log.append([attempt("b")])
    with pytest.raises(StoreError, match="newer than this nbcache"):
        newer.claims.try_claim(hash_of("a"))


def test_a_moved_cache_finds_and_reads_all_it_had(tmp_path: Path) -> None:
    cache = Cache.open(tmp_path / "here")
    digest = cache.blobs.put_bytes(b"content")
    cache.log.append([attempt("a")])
    cache.log.rotate()
    cache.log.fold()
    cache.log.append([attempt("b")])
    cache.close()

    shutil.move(tmp_path / "here", tmp_path / "there")

    moved = Cache.open(tmp_path / "there")
    assert moved.id == cache.id
    assert moved.blobs.read(digest) == b"content"
    assert moved.log.find(hash_of("a")) is not None
    assert moved.log.find(hash_of("b")) is not None


def test_folders_that_an_archive_left_out_are_made_again(tmp_path: Path) -> None:
    cache = Cache.open(tmp_path / "c")
    for name in ("tmp", "journal", "index", "work"):
        (cache.root / name).rmdir()

    again = Cache.open(cache.root)
    again.log.append([attempt("a")])

    assert again.log.find(hash_of("a")) is not None


def test_many_processes_that_make_one_cache_agree_on_its_id(tmp_path: Path) -> None:
    code = "import sys; from nbcache.store.cache import Cache; print(Cache.open(sys.argv[1]).id)"
    command = [sys.executable, "-c", code, str(tmp_path / "c")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]

    ids = {process.communicate()[0] for process in running}

    assert len(ids) == 1
    assert ids != {""}


NOBODY = """
import os, sys
from nbcache.errors import StoreError
from nbcache.store.cache import Cache
from nbcache.store.files import make_folder
from tests.store.rows import attempt, hash_of
os.setgroups([]); os.setgid(65534); os.setuid(65534)
cache = Cache.open(sys.argv[1])
print(cache.writable, cache.log.find(hash_of("a")) is not None, cache.log.fold())
for write in (
    lambda: cache.log.append([attempt("b")]), lambda: cache.blobs.put_bytes(b"x"),
    lambda: cache.claims.try_claim(hash_of("a")),
):
    try:
        write()
    except StoreError as error:
        print("read-only" in str(error))
cache.files.digest(sys.argv[1] + "/nbcache.json")
"""


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    """Nothing is written, what is there can be read."""
    with Cache.open(tmp_path / "cache") as cache:
        blob = cache.blobs.put_bytes(b"of a task")
    shutil.rmtree(tmp_path / "cache/index")
    (tmp_path / "cache/index").touch()
    with Cache.open(tmp_path / "cache") as cache:
        assert cache.read_only == "index in it is no folder: delete it"
        assert cache.blobs.read(blob) == b"of a task"


def test_who_may_use_a_cache_can_whatever_the_umask_of_another_is(tmp_path: Path) -> None:
    Cache.open(tmp_path / "c").close()
    for path in (tmp_path / "c", *(tmp_path / "c").rglob("*")):
        path.chmod(0o775 if path.is_dir() else 0o664)
    (tmp_path / "file").write_bytes(b"of somebody")
    before = os.umask(0o077)  # of another user in the folder's group
    try:
        with Cache.open(tmp_path / "c") as cache, cache.activity.working():
            cache.blobs.put_bytes(b"a result")
            cache.blobs.trash.new_batch()
            cache.files.digest(tmp_path / "file")
            for name in ("a", "b"):
                cache.log.append([attempt(name, outputs=())])
                cache.log.rotate()
                cache.log.fold()
            assert cache.log.compact() == 2
            cache.log.append([attempt("c", outputs=())])
            claim = cache.claims.try_claim(hash_of("x"))
            assert claim is not None
            claim.release()
    finally:
        os.umask(before)

    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "c").rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o775}
    closed = {path: oct(mode) for path, mode in modes.items() if mode & 0o044 != 0o044}
    assert closed == {}
    locks = [mode for path, mode in modes.items() if path.name in ("working", "locks", "compact")]
    assert locks
    assert set(locks) == {0o664}


def test_in_a_sticky_folder_users_of_a_cache_tidy_what_others_made(tmp_path: Path) -> None:
    root = tmp_path / "c"
    root.mkdir()
    root.chmod(0o1777)
    with Cache.open(root) as cache:
        blob = cache.blobs.path(cache.blobs.put_bytes(b"a result"))

    made = [blob.parent, *(path for path in root.iterdir() if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o777}


def test_a_cache_that_was_deleted_is_not_made_anew_by_a_folder_in_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_folder(tmp_path / "c" / "blobs" / "ab")

    assert not (tmp_path / "c").exists()


def test_a_cache_without_permission_to_write_opens_read_only(tmp_path: Path) -> None:
    cache = Cache.open(tmp_path / "c")
    cache.log.append([attempt("a", outputs=())])  # for whom it is foreign
    cache.close()
    paths = [cache.root, *cache.root.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & 0o555 | 0o444)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.parent.is_relative_to(tempfile.gettempdir()):
            folder.chmod(0o755)
    code = NOBODY if os.getuid() == 0 else "\n".join(
        line for line in NOBODY.splitlines() if "setuid" not in line
    )  # fmt: skip

    told = subprocess.run(
        [sys.executable, "-c", code, str(cache.root)],
        env={**os.environ, "XDG_STATE_HOME": "/proc"},  # no room for a private cache either
        capture_output=True,
        text=True,
    )

    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)
    assert told.stdout.split() == ["False", "True", "0", "True", "True", "True"], told.stderr
