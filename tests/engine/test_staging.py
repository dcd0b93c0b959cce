"""Inputs in front of a task: names, means, values, and what is noticed when they change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbcache.engine.spec import FileInput, Many, pack_value
from nbcache.engine.work.staging import Staging
from nbcache.errors import InputMissingError
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.value import Record, Stored
from nbcache.store.cache import Cache
from tests.engine.attempts import file_input


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache.open(tmp_path / "cache")


@pytest.fixture
def staging(cache: Cache, tmp_path: Path) -> Staging:
    folder = tmp_path / "work"
    folder.mkdir()
    return Staging(cache, folder)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_stands_under_its_own_name_and_is_no_hard_link(
    staging: Staging, tmp_path: Path
) -> None:
    source = write(tmp_path / "data" / "reads.fq", "ACGT")

    seen = staging.stage({"reads": file_input(source)})["reads"]

    assert seen == Path("reads.fq")
    assert (tmp_path / "work" / "reads.fq").read_text() == "ACGT"
    assert source.stat().st_nlink == 1


def test_equal_names_get_folders_of_their_own(staging: Staging, tmp_path: Path) -> None:
    first = write(tmp_path / "a" / "x.txt", "1")
    second = write(tmp_path / "b" / "x.txt", "2")
    other = write(tmp_path / "b" / "z.txt", "3")

    seen = staging.stage(
        {"x": Many([file_input(first), file_input(second)]), "z": file_input(other)}
    )

    assert seen == {"x": [Path("1/x.txt"), Path("2/x.txt")], "z": Path("z.txt")}
    assert (tmp_path / "work" / "2" / "x.txt").read_text() == "2"


def test_a_name_given_wins_over_the_file_s_own(staging: Staging, tmp_path: Path) -> None:
    source = write(tmp_path / "weird-4711.tmp", "x")

    assert staging.stage({"x": file_input(source, "genome.fa")}) == {"x": Path("genome.fa")}


def test_a_folder_is_staged_as_one(staging: Staging, tmp_path: Path) -> None:
    write(tmp_path / "index" / "deep" / "a.bin", "A")

    source = FileInput(str(tmp_path / "index"), None, "index")

    assert staging.stage({"index": source}) == {"index": Path("index")}
    assert (tmp_path / "work" / "index" / "deep" / "a.bin").read_text() == "A"
    assert staging.changed() == ()


def test_values_are_fresh_copies(staging: Staging) -> None:
    packed = pack_value([1, 2])

    first = staging.stage({"x": packed})["x"]
    assert isinstance(first, list)
    first.append(3)

    assert staging.stage({"x": packed})["x"] == [1, 2]


def test_nested_values_travel(staging: Staging) -> None:
    value = {"a": [1, (2, {3})], "b": None}

    assert staging.stage({"x": pack_value(value)}) == {"x": value}


def test_a_tuple_stays_a_tuple_and_its_members_too(staging: Staging) -> None:
    assert staging.stage({"x": pack_value((1, "a"))}) == {"x": (1, "a")}


def test_a_whole_item_is_a_record_with_its_fields(staging: Staging) -> None:
    item = Many([pack_value(1), pack_value("b")], ("n", "name"))

    seen = staging.stage({"item": item})["item"]

    assert isinstance(seen, Record)
    assert seen.name == "b"


def test_a_stored_file_and_tree_are_placed(staging: Staging, cache: Cache, tmp_path: Path) -> None:
    blob = cache.blobs.put_file(write(tmp_path / "out.txt", "hello"))
    write(tmp_path / "tree" / "sub" / "f", "F")
    tree = cache.blobs.put_tree(tmp_path / "tree")

    staging.stage(
        {
            "file": Stored(blob.identity, "file", "file", 5, blob.blob, name="out.txt"),
            "tree": Stored(tree.identity, "tree", "tree", 1, tree.blob, name="result"),
        }
    )

    assert (tmp_path / "work" / "out.txt").read_text() == "hello"
    assert (tmp_path / "work" / "result" / "sub" / "f").read_text() == "F"
    assert staging.changed() == ()


def test_a_missing_blob_is_named(staging: Staging) -> None:
    digest = Digest("b3:" + "0" * 64)
    for kind in ("value", "file", "tree"):
        stored = Stored(identity_digest(b""), kind, "json", 9000, digest, name="x")
        with pytest.raises(InputMissingError) as caught:
            staging.stage({"x": stored})
        assert caught.value.digest == digest


def test_a_damaged_blob_is_put_aside_and_counts_as_missing(staging: Staging, cache: Cache) -> None:
    digest = cache.blobs.put_bytes(b"[1, 2]")
    path = cache.blobs.path(digest)
    path.chmod(0o644)
    path.write_bytes(b"[1, 3]")

    with pytest.raises(InputMissingError):
        staging.stage({"x": Stored(identity_digest(b""), "value", "json", 6, digest)})

    assert not cache.blobs.has(digest)


def test_a_file_that_is_gone_says_so(staging: Staging, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        staging.stage({"x": FileInput(str(tmp_path / "nope"), None, "nope")})


def test_a_touched_input_has_not_changed(staging: Staging, tmp_path: Path) -> None:
    source = write(tmp_path / "x.txt", "same")
    staging.stage({"x": file_input(source)})

    os.utime(source, (1, 1))

    assert staging.changed() == ()


def test_an_input_that_was_written_to_has_changed(staging: Staging, tmp_path: Path) -> None:
    source = write(tmp_path / "x.txt", "before")
    staging.stage({"x": file_input(source), "n": pack_value(1)})

    source.write_text("after!")

    assert staging.changed() == ("x",)


def test_a_file_that_changed_between_hashing_and_staging_has_changed(
    staging: Staging, tmp_path: Path
) -> None:
    source = write(tmp_path / "x.txt", "before")
    known = file_input(source)
    source.write_text("after!")

    staging.stage({"x": known})

    assert staging.changed() == ("x",)


def test_a_new_file_in_an_input_folder_is_a_change(staging: Staging, tmp_path: Path) -> None:
    write(tmp_path / "index" / "a", "A")
    staging.stage({"index": FileInput(str(tmp_path / "index"), None, "index")})

    write(tmp_path / "index" / "b", "B")

    assert staging.changed() == ("index",)
