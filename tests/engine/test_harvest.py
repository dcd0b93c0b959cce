"""What becomes of the files and values that an attempt made."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbcache.codec.registry import decode
from nbcache.engine.work.harvest import INLINE_MAX, NOTHING, Harvest, from_ports, to_ports
from nbcache.errors import OutputError
from nbcache.model.digest import blob_digest, identity_digest
from nbcache.model.process import Output, PortType
from nbcache.model.value import Gathered, Stored
from nbcache.plan.identity.canonical import canonical_digest
from nbcache.store.cache import Cache
from tests.engine.attempts import PATH, PATHS


class Place:
    """A work directory with files, and a harvest in it."""

    def __init__(self, folder: Path) -> None:
        self.cache = Cache.open(folder / "cache")
        self.folder = folder / "work"
        self.folder.mkdir()

    def write(self, name: str, text: str = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text or name)
        return path

    def harvest(self, staged: set[str] | None = None, **values: object) -> Harvest:
        return Harvest(self.cache, self.folder, staged or set(), values)

    def paths_in(self, stored: Stored) -> list[str]:
        place = self.folder.parent / "out"
        assert stored.blob is not None
        self.cache.blobs.materialise(stored.blob, "tree", place, how=("copy",))
        return sorted(str(each.relative_to(place)) for each in place.rglob("*"))

    def text(self, stored: object) -> str:
        assert isinstance(stored, Stored)
        assert stored.blob is not None
        return self.cache.blobs.read(stored.blob).decode()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def names(held: Stored | Gathered) -> list[str | None]:
    assert isinstance(held, Gathered)
    return [member.name for member in held if isinstance(member, Stored)]


def test_one_match_is_a_file_and_is_moved(place: Place) -> None:
    path = place.write("mask.png", "PNG")

    held = place.harvest().file(Output("mask", PATH, "*.png"))

    assert isinstance(held, Stored)
    assert (held.kind, held.name, held.size) == ("file", "mask.png", 3)
    assert held.digest == identity_digest(b"PNG")
    assert held.blob == blob_digest(b"PNG")
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "the output out is a named pipe"),
        (lambda path: path.symlink_to("gone"), "out is a link that leads nowhere: gone is not"),
    ],
)
def test_a_path_that_holds_no_content_is_named_for_what_it_is(
    place: Place, make: Callable[[Path], None], said: str
) -> None:
    make(place.folder / "out")
    with pytest.raises(OutputError, match=said):
        place.harvest().file(Output("out", PATH), "out")


def test_a_pattern_takes_inputs_literally(place: Place) -> None:
    place.write("quant_a[1]", "right")
    place.write("quant_a1", "wrong")

    held = place.harvest(sample="a[1]").file(Output("q", PATH, "quant_{sample}"))

    assert place.text(held) == "right"


def test_a_pattern_knows_the_stem_of_a_path(place: Place) -> None:
    place.write("reads.sorted.bam")

    held = place.harvest(f=Path("reads.fq")).file(Output("q", PATH, "{f.stem}.*.bam"))

    assert isinstance(held, Stored)


def test_lists_are_sorted_and_without_inputs_hidden_and_own_files(place: Place) -> None:
    for name in (
        "b.txt",
        "a.txt",
        "c.txt",
        ".hidden.txt",
        ".nbcache.inputs",
        ".command.sh",
        "in.txt",
    ):
        place.write(name)

    held = place.harvest(staged={"in.txt"}).file(Output("f", PATHS, "*.txt"))

    assert names(held) == ["a.txt", "b.txt", "c.txt"]


def test_two_stars_find_files_at_any_depth_and_not_below_inputs(place: Place) -> None:
    for name in ("x/a.txt", "x/y/b.txt", "c.txt", "in/d.txt"):
        place.write(name)

    held = place.harvest(staged={"in"}).file(Output("f", PATHS, "**/*.txt"))

    assert sorted(map(str, names(held))) == ["a.txt", "b.txt", "c.txt"]


def test_a_folder_is_a_tree_with_one_identity_wherever_it_was_made(place: Place) -> None:
    place.write("index/deep/a", "A")
    place.write("again/deep/a", "A")
    harvest = place.harvest()

    first = harvest.file(Output("index", PATH))
    second = harvest.file(Output("again", PATH))

    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert (first.kind, first.name) == ("tree", "index")
    assert first.digest == second.digest


def test_without_a_pattern_the_file_has_the_name_of_the_output(place: Place) -> None:
    place.write("report", "R")

    assert place.text(place.harvest().file(Output("report", PATH))) == "R"


def test_a_path_that_the_body_made_is_kept(place: Place) -> None:
    place.write("sub/x.csv", "X")

    held = place.harvest().file(Output("table", PATH), Path("sub/x.csv"))

    assert isinstance(held, Stored)
    assert (held.name, place.text(held)) == ("x.csv", "X")


def test_an_undeclared_path_of_the_body_is_kept_as_a_file_and_not_as_a_name(place: Place) -> None:
    place.write("x.csv", "X")
    place.write("y.csv", "Y")

    one = place.harvest().value("table", Path("x.csv"))
    many = place.harvest().value("tables", [Path("y.csv")])

    assert place.text(one) == "X"
    assert names(many) == ["y.csv"]


@pytest.mark.parametrize("given", ["", "absolute"])
def test_the_whole_folder_is_what_the_body_made_under_the_name_of_the_output(
    place: Place, given: str
) -> None:
    # A work directory's own name is another in every attempt.
    for name in ("input.csv", "made.csv", "deep/made.csv", ".nbcache-x"):
        place.write(name)
    os.symlink("input.csv", place.folder / "link.csv")

    path = place.folder if given else Path(given)
    held = place.harvest({"input.csv"}).value("result", path)

    assert isinstance(held, Stored)
    assert (held.kind, held.name) == ("tree", "result")
    assert place.paths_in(held) == ["deep", "deep/made.csv", "link.csv", "made.csv"]
    assert (place.folder / "input.csv").exists()


def test_the_path_of_a_folder_in_which_nothing_was_made_is_a_value(place: Place) -> None:
    held = place.harvest({place.write("input.csv").name}).value("result", Path(""))

    assert isinstance(held, Stored)
    assert held.kind == "value"
    assert decode(held.codec, held.inline or b"", vouched=True) == Path(".")


def test_somebody_else_s_file_is_copied(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "mine.txt"
    outside.write_text("mine")
    (place.folder / "linked").symlink_to(outside)
    harvest = place.harvest(staged={"in.txt"})
    place.write("in.txt", "input")

    for made in (outside, Path("linked"), Path("in.txt")):
        assert isinstance(harvest.file(Output("f", PATH), made), Stored)

    assert outside.read_text() == "mine"
    assert (place.folder / "in.txt").read_text() == "input"


def test_one_file_may_be_two_outputs(place: Place) -> None:
    place.write("a.txt", "A")
    place.write("tree/b.txt", "B")
    harvest = place.harvest()
    outputs = [
        Output("all", PATHS, "*.txt"),
        Output("first", PATH, "a.txt"),
        Output("tree", PATH),
        Output("inside", PATH, "tree/b.txt"),
    ]
    for output in outputs:
        harvest.find(output)

    all_of_them, first, tree, inside = map(harvest.file, outputs)

    assert isinstance(all_of_them, Gathered)
    assert all_of_them[0] == first
    assert isinstance(tree, Stored)
    assert [each.path for each in place.cache.blobs.open_tree(tree.blob)] == [b"b.txt"]  # type: ignore[arg-type]
    assert place.text(inside) == "B"


def test_a_missing_output_is_an_error_that_lists_what_is_there(place: Place) -> None:
    place.write("maks.png")
    place.write("input.png")

    with pytest.raises(OutputError, match=r"no file mask\.png") as caught:
        place.harvest(staged={"input.png"}).file(Output("mask", PATH, "mask.png"))

    assert "The task made: maks.png." in str(caught.value)


def test_a_missing_optional_output_is_nothing(place: Place) -> None:
    optional = PortType("path", optional=True)

    assert place.harvest().file(Output("mask", optional, "mask.png")) is NOTHING


def test_two_matches_for_one_path_are_an_error_with_their_names(place: Place) -> None:
    place.write("a.png")
    place.write("b.png")

    with pytest.raises(OutputError, match=r"2 match: a\.png, b\.png"):
        place.harvest().file(Output("mask", PATH, "*.png"))


@pytest.mark.parametrize(("made", "fits"), [(1, False), (2, True), (3, True), (4, False)])
def test_counts_outside_of_the_arity_are_an_error_with_both(
    place: Place, made: int, fits: bool
) -> None:
    for number in range(made):
        place.write(f"{number}.txt")
    output = Output("f", PortType("path", depth=1, arity=(2, 3)), "*.txt")

    if fits:
        assert len(names(place.harvest().file(output))) == made
    else:
        with pytest.raises(OutputError, match=f"2 to 3 declared, but there are {made}"):
            place.harvest().file(output)


@pytest.mark.parametrize("value", [1, "text", None, {"a": [1.5, True]}, (1, 2), {1, 2}, b"raw"])
def test_small_values_are_inline_with_the_digest_of_their_canonical_form(
    place: Place, value: Any
) -> None:
    held = place.harvest().value("y", value)

    assert isinstance(held, Stored)
    assert held.inline is not None
    assert decode(held.codec, held.inline, vouched=True) == value
    assert held.digest == canonical_digest(value)
    assert not held.opaque


def test_large_values_are_blobs(place: Place) -> None:
    value = "x" * INLINE_MAX
    held = place.harvest().value("y", value)

    assert isinstance(held, Stored)
    assert held.inline is None
    assert held.blob is not None
    assert decode(held.codec, place.cache.blobs.read(held.blob), vouched=True) == value


def test_a_row_holds_no_more_than_16_kb_inline(place: Place) -> None:
    harvest = place.harvest()
    held = [harvest.value(f"y{number}", "x" * 4000) for number in range(6)]

    inline = [each for each in held if isinstance(each, Stored) and each.inline is not None]
    assert len(inline) == 4


def test_a_value_without_canonical_form_is_opaque_and_known_by_its_bytes(place: Place) -> None:
    import re

    # a method of a C object: no form, and pickle refuses it
    value = re.compile("a+").scanner  # type: ignore[attr-defined]
    assert callable(value)

    held = place.harvest().value("y", Opaque())

    assert isinstance(held, Stored)
    assert held.opaque
    assert held.digest == blob_digest(held.inline or b"")


class Opaque:
    """An object that pickles and has no canonical form."""

    __slots__ = ()

    def __reduce__(self) -> tuple[object, ...]:
        return (Opaque, ())


def test_ports_give_back_what_they_were_made_of() -> None:
    def stored(name: str) -> Stored:
        return Stored(identity_digest(os.fsencode(name)), "file", "file", 1, name=name)

    outputs: dict[str, Stored | Gathered] = {
        "one": stored("a"),
        "many": Gathered([stored("b"), stored("c")]),
        "none": Gathered(),
        "nothing": NOTHING,
    }

    again = from_ports(to_ports(outputs))

    assert again == outputs
    assert list(again) == list(outputs)
    assert {type(held) for held in again.values()} == {Stored, Gathered}
