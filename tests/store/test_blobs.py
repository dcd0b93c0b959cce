from __future__ import annotations

import os
import stat
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.errors import BlobDamagedError, BlobMissingError, StoreError
from nbcache.model.digest import blob_digest, identity_digest
from nbcache.store.blobs import Blobs
from nbcache.store.cache import Cache
from nbcache.store.placing import HOW, place_file
from nbcache.store.tree import TreeEntry, manifest, parse_manifest, tree_identity
from tests.exploring import examples


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Cache.open(tmp_path / "cache").blobs


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "cache" / "work" / "a"
    folder.mkdir(parents=True)
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def of(path: Path) -> str:
    return identity_digest(path.read_bytes())


def test_bytes_come_back_and_are_kept_once(blobs: Blobs) -> None:
    digest = blobs.put_bytes(b"hello")

    assert digest == blob_digest(b"hello")
    assert blobs.read(digest) == b"hello"
    assert blobs.put_bytes(bytearray(b"hello")) == digest
    assert len([path for path in blobs.folder.rglob("*") if path.is_file()]) == 1
    assert os.listdir(blobs.root / "tmp") == []


def test_has_says_whether_a_blob_is_there_with_its_size(blobs: Blobs) -> None:
    digest = blobs.put_bytes(b"hello")

    assert blobs.has(digest)
    assert blobs.has(digest, 5)
    assert not blobs.has(digest, 6)
    assert not blobs.has(blob_digest(b"other"))


def test_a_missing_blob_and_a_damaged_one_are_two_errors(blobs: Blobs) -> None:
    digest = blobs.put_bytes(b"hello")
    with pytest.raises(BlobMissingError, match="not in the cache"):
        blobs.read(blob_digest(b"other"))
    os.chmod(blobs.path(digest), 0o644)
    blobs.path(digest).write_bytes(b"jello")

    with pytest.raises(BlobDamagedError):
        blobs.read(digest)
    assert not blobs.verify(digest)
    aside = blobs.set_aside(digest)
    assert aside is not None
    assert aside.read_bytes() == b"jello"
    assert not blobs.has(digest)
    assert blobs.set_aside(digest) is None


@pytest.mark.parametrize("put", ["bytes", "file"])
@pytest.mark.parametrize("damage", ["", "jello", "folder", "loop"])
def test_a_damaged_blob_is_replaced_when_it_is_put_again(
    blobs: Blobs, work: Path, damage: str, put: str
) -> None:
    """Also one of the same size: its result would be made again by each run."""
    path = blobs.path(blobs.put_bytes(b"hello"))
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "loop":
        path.symlink_to(path)
    else:
        path.write_text(damage)
    digest = blob_digest(b"hello")
    with pytest.raises(BlobDamagedError):
        blobs.read(digest)
    (work / "x").write_bytes(b"hello")

    _ = blobs.put_file(work / "x") if put == "file" else blobs.put_bytes(b"hello")

    assert blobs.read(digest) == b"hello"


def test_a_large_blob_that_is_as_it_was_is_not_read_when_it_is_put_again(tmp_path: Path) -> None:
    data = os.urandom(9 << 20)
    with Cache.open(tmp_path / "cache") as first, Cache.open(tmp_path / "cache") as second:
        digest = first.blobs.put_bytes(data)
        assert read_while_putting(second, data) < 1.5 * len(data)  # the new one, to have its digest
        assert read_while_putting(first, data) < 1.5 * len(data)  # after another one has wanted it
        path = first.blobs.path(digest)
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.write(b"damaged")

        assert read_while_putting(second, data) > 1.5 * len(data)

        assert first.blobs.read(digest) == data


def read_while_putting(cache: Cache, data: bytes) -> int:
    """Keep a file with these bytes; return how many bytes were read from files for it."""
    new = cache.work / "new"
    new.write_bytes(data)
    before = psutil.Process().io_counters().read_chars
    cache.blobs.put_file(new)
    return int(psutil.Process().io_counters().read_chars - before)


def test_nobody_waits_for_a_pipe_that_lies_where_an_empty_blob_should(
    blobs: Blobs, work: Path
) -> None:
    path = blobs.path(blobs.put_bytes(b""))
    path.unlink()
    os.mkfifo(path)
    (work / "x").touch()

    kept = blobs.put_file(work / "x")

    assert path.is_file()
    assert blobs.read(kept.blob) == b""


def test_a_file_is_moved_digested_and_made_read_only(blobs: Blobs, work: Path) -> None:
    data = os.urandom(3_000_000)
    path = work / "x.bin"
    path.write_bytes(data)
    inode = path.stat().st_ino

    kept = blobs.put_file(path)

    assert not path.exists()
    assert (kept.blob, kept.identity, kept.size) == (
        blob_digest(data), identity_digest(data), len(data),
    )  # fmt: skip
    assert blobs.path(kept.blob).stat().st_ino == inode
    assert mode(blobs.path(kept.blob)) == 0o444
    assert not kept.executable


def test_the_executable_bit_is_kept_and_comes_with_whoever_wants_it(
    blobs: Blobs, work: Path, tmp_path: Path
) -> None:
    for name in ("plain", "tool"):
        (work / name).write_bytes(b"#!/bin/sh\n")
    (work / "tool").chmod(0o755)

    plain, tool = blobs.put_file(work / "plain"), blobs.put_file(work / "tool")

    assert plain.blob == tool.blob
    assert tool.executable
    source = str(blobs.path(tool.blob))
    place_file(tool.blob, source, tmp_path / "1", HOW, True)
    place_file(tool.blob, source, tmp_path / "2", HOW, False)
    assert os.access(tmp_path / "1", os.X_OK)
    assert mode(tmp_path / "2") == 0o444
    blobs.materialise(plain.blob, "file", tmp_path / "3", how="symlink", executable=False)
    assert (tmp_path / "3").is_symlink()  # and no copy of what may be large
    blobs.materialise(plain.blob, "file", tmp_path / "4", how=("reflink", "copy"), executable=False)
    assert mode(tmp_path / "4") == 0o444


def test_a_file_with_other_names_is_copied_so_that_nobody_can_write_to_the_blob(
    blobs: Blobs, work: Path
) -> None:
    (work / "a").write_bytes(b"before")
    os.link(work / "a", work / "b")

    kept = blobs.put_file(work / "a")
    (work / "b").write_bytes(b"after!")

    assert blobs.read(kept.blob) == b"before"


def test_a_link_is_kept_as_what_is_behind_it_and_the_original_stays(
    blobs: Blobs, work: Path, tmp_path: Path
) -> None:
    (tmp_path / "original").write_bytes(b"data")
    (work / "link").symlink_to(tmp_path / "original")

    kept = blobs.put_file(work / "link")

    assert blobs.read(kept.blob) == b"data"
    assert (tmp_path / "original").read_bytes() == b"data"
    assert not (work / "link").is_symlink()


@pytest.mark.parametrize("how", ["symlink", "copy"])
def test_a_blob_is_placed_read_only_and_never_as_a_hard_link(
    blobs: Blobs, tmp_path: Path, how: str
) -> None:
    digest = blobs.put_bytes(b"hello")
    target = tmp_path / "x.txt"

    assert blobs.materialise(digest, "file", target, how=how) == how  # type: ignore[arg-type]

    assert target.read_bytes() == b"hello"
    assert target.is_symlink() == (how == "symlink")
    assert blobs.path(digest).stat().st_nlink == 1
    assert not mode(target) & 0o222


def make_tree(root: Path) -> None:
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "a b%.txt").write_bytes(b"one")
    (root / "sub" / "tool").write_bytes(b"two")
    (root / "sub" / "tool").chmod(0o755)
    (root / "sub" / "up").symlink_to("../a b%.txt")
    with open(os.fsencode(root) + b"/\xff\n", "wb") as file:
        file.write(b"three")


def test_a_tree_comes_back_with_names_bits_links_and_empty_directories(
    blobs: Blobs, work: Path, tmp_path: Path
) -> None:
    make_tree(work / "out")
    before = tree_identity(work / "out", of)  # type: ignore[arg-type]

    kept = blobs.put_tree(work / "out")

    assert not (work / "out").exists()
    assert kept.identity == before
    assert (kept.files, kept.size) == (3, 11)
    assert blobs.has_tree(kept.blob)
    for how in ("symlink", "copy"):
        target = tmp_path / how
        blobs.materialise(kept.blob, "tree", target, how=how)
        assert (target / "a b%.txt").read_bytes() == b"one"
        assert (target / "sub" / "empty").is_dir()
        assert os.readlink(target / "sub" / "up") == "../a b%.txt"
        assert os.access(target / "sub" / "tool", os.X_OK)
        with open(os.fsencode(target) + b"/\xff\n", "rb") as file:
            assert file.read() == b"three"
    assert blobs.tree_identity(tmp_path / "copy", of) == kept.identity  # type: ignore[arg-type]


def test_a_staged_tree_that_is_put_again_is_the_same_tree(
    blobs: Blobs, work: Path, tmp_path: Path
) -> None:
    make_tree(work / "out")
    kept = blobs.put_tree(work / "out")
    blobs.materialise(kept.blob, "tree", work / "staged", how="symlink")

    assert blobs.put_tree(work / "staged") == kept


def test_every_difference_gives_a_tree_another_identity(tmp_path: Path) -> None:
    seen = set()
    for number, change in enumerate(
        [
            lambda root: None,
            lambda root: (root / "sub" / "empty").rmdir(),
            lambda root: (root / "sub" / "tool").chmod(0o644),
            lambda root: (root / "a b%.txt").write_bytes(b"ONE"),
            lambda root: (root / "a b%.txt").rename(root / "b"),
            lambda root: (root / "new").symlink_to("sub"),
        ]
    ):
        root = tmp_path / str(number)
        make_tree(root)
        change(root)
        seen.add(tree_identity(root, of))  # type: ignore[arg-type]
    assert len(seen) == 6


@pytest.mark.parametrize("target", ["../../x", "/etc/passwd", "sub/../../y"])
def test_a_link_out_of_the_tree_is_refused_and_nothing_is_moved(
    blobs: Blobs, work: Path, target: str
) -> None:
    make_tree(work / "out")
    (work / "out" / "bad").symlink_to(target)

    with pytest.raises(StoreError, match="leads out of its directory"):
        blobs.put_tree(work / "out")

    assert (work / "out" / "a b%.txt").read_bytes() == b"one"
    assert not any(path.is_file() for path in blobs.folder.rglob("*"))


def test_an_absolute_link_inside_the_tree_becomes_relative(
    blobs: Blobs, work: Path, tmp_path: Path
) -> None:
    (work / "out" / "sub").mkdir(parents=True)
    (work / "out" / "x").write_bytes(b"x")
    (work / "out" / "sub" / "link").symlink_to(work / "out" / "x")

    kept = blobs.put_tree(work / "out")
    blobs.materialise(kept.blob, "tree", tmp_path / "t")

    assert os.readlink(tmp_path / "t" / "sub" / "link") == "../x"


def test_a_link_out_of_the_tree_by_way_of_another_link_is_refused(blobs: Blobs, work: Path) -> None:
    (work / "out").mkdir()
    (work / "out" / "here").symlink_to(".")
    (work / "out" / "bad").symlink_to("here/..")

    with pytest.raises(StoreError, match="leads out of its directory"):
        blobs.put_tree(work / "out")


def test_a_link_in_a_result_to_a_staged_input_is_kept_as_the_file(blobs: Blobs, work: Path) -> None:
    digest = blobs.put_bytes(b"input")
    blobs.materialise(digest, "file", work / "input.txt", how="symlink")
    (work / "out").mkdir()
    (work / "out" / "same.txt").symlink_to("../input.txt")

    kept = blobs.put_tree(work / "out")

    (entry,) = blobs.open_tree(kept.blob)
    assert (entry.kind, entry.blob) == ("file", digest)


def test_a_pipe_in_a_tree_is_refused(blobs: Blobs, work: Path, tmp_path: Path) -> None:
    (work / "out").mkdir()
    os.mkfifo(work / "out" / "pipe")
    with pytest.raises(StoreError, match="neither a file"):
        blobs.put_tree(work / "out")


_FILE = b"f b3:%s xxh3:%s 1 %%s" % (b"0" * 64, b"0" * 32)


@pytest.mark.parametrize(
    "line",
    [
        _FILE % b"../x",
        (_FILE % b"x").replace(b"b3:00000", b"b3:../.."),
        b"d /x",
        b"l ../../x a",
        b"l /etc a",
        b"l d/.. a",
        b"d a//b",
        b"q a",
        b"f 1 2",
    ],
)
def test_a_manifest_that_leads_out_of_its_tree_is_refused(line: bytes) -> None:
    with pytest.raises(StoreError):
        parse_manifest(b"nbcache-tree 1\n" + line + b"\n")


@pytest.mark.parametrize(
    "lines",
    [
        (b"d a", b"l .. a/b", _FILE % b"a/b/evil"),
        (b"d a", b"d a/b", b"l .. a/c", b"l ../.. a/c/d", _FILE % b"a/c/d/evil"),
        (_FILE % b"nowhere/x",),
        (b"d a", b"l b a"),
        (b"l b A", b"d a", _FILE % b"a/x"),
    ],
    ids=["below a link", "a link below a link", "in no folder", "twice", "twice but for case"],
)
def test_a_manifest_whose_files_would_land_behind_a_link_is_refused(lines: list[bytes]) -> None:
    """Two links, each of them within the tree, lead out of it one behind the other."""
    with pytest.raises(StoreError):
        parse_manifest(b"nbcache-tree 1\n" + b"".join(line + b"\n" for line in lines))


names = st.binary(min_size=1, max_size=6).filter(
    lambda each: b"\0" not in each and b"/" not in each and each not in (b".", b"..")
)


@examples(100)
@given(st.lists(st.tuples(names, st.booleans(), st.binary(max_size=4)), max_size=6))
def test_any_manifest_comes_back(members: list[tuple[bytes, bool, bytes]]) -> None:
    entries = {
        name: TreeEntry(
            name, "file", bit, b"", blob_digest(data), identity_digest(data), len(data)
        )
        for name, bit, data in members
    }  # fmt: skip

    parsed = parse_manifest(manifest(entries.values()))

    assert parsed == [entries[name] for name in sorted(entries)]


def test_a_cache_on_which_nothing_may_be_written_says_so(tmp_path: Path) -> None:
    Cache.open(tmp_path)
    blobs = Blobs(tmp_path, read_only="no permission to write")

    with pytest.raises(StoreError, match="read-only"):
        blobs.put_bytes(b"x")
