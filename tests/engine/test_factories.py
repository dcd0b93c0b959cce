"""Where items come from: files, pairs of files, tables, products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from nbcache.engine.declared.factories import Factories
from nbcache.errors import ChannelError
from nbcache.model.channel import Item
from nbcache.model.value import FilePath
from nbcache.plan.dataflow.channel import Channel
from tests.engine.notebooks import Notebook

Made = Callable[[], Factories]


@pytest.fixture
def factories(tmp_path: Path) -> Factories:
    return Factories(lambda: tmp_path)


def items(channel: Channel) -> list[Item]:
    assert channel.node.load is not None
    return list(channel.node.load())


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_equally_long_tuples_are_items_with_fields(factories: Factories) -> None:
    channel = factories.of((1, "a"), (2, "b"))
    assert channel.node.names == (None, None)
    assert items(channel) == [(1, "a"), (2, "b")]
    assert items(factories.of(1, (2, 3))) == [(1,), ((2, 3),)]


def test_a_source_without_a_name_is_called_as_it_was_written(factories: Factories) -> None:
    labels = [each.node.label for each in (factories.of(1), factories.from_iterable([1]))]
    assert labels == ["of(...)", "from_iterable(...)"]


def test_text_is_no_iterable_of_items(factories: Factories) -> None:
    with pytest.raises(ChannelError, match="from_iterable"):
        factories.from_iterable("abc")
    with pytest.raises(ChannelError, match=r"its columns\n  for its rows: from_table"):
        factories.from_iterable(pa.table({"a": [1]}))
    with pytest.raises(ChannelError, match=r"depth=\['2'\]"):
        factories.product(depth="2")


def test_the_last_field_of_a_product_varies_fastest(factories: Factories) -> None:
    channel = factories.product(depth=[2, 4], rep=range(2))
    assert channel.node.names == ("depth", "rep")
    assert items(channel) == [(2, 0), (2, 1), (4, 0), (4, 1)]


def test_files_come_sorted_and_count_by_content(factories: Factories, tmp_path: Path) -> None:
    touch(tmp_path, "b.txt", "a.txt", "deep/er/c.txt")
    assert [path.name for (path,) in items(factories.from_path("*.txt"))] == ["a.txt", "b.txt"]  # type: ignore[attr-defined]
    found = items(factories.from_path("**/*.txt"))
    assert len(found) == 3
    assert all(isinstance(path, FilePath) for (path,) in found)


def test_files_appear_at_the_next_load(factories: Factories, tmp_path: Path) -> None:
    channel = factories.from_path("*.txt", optional=True)
    assert items(channel) == []
    touch(tmp_path, "a.txt")
    assert len(items(channel)) == 1


def test_pairs_go_by_what_the_star_matches(factories: Factories, tmp_path: Path) -> None:
    touch(tmp_path, "d/ggal_gut_1.fq", "d/ggal_gut_2.fq", "d/ggal_liver_1.fq", "d/ggal_liver_2.fq")
    found = items(factories.from_file_pairs("d/ggal_*_{1,2}.fq"))
    assert [(key, one.name, two.name) for key, one, two in found] == [  # type: ignore[attr-defined]
        ("gut", "ggal_gut_1.fq", "ggal_gut_2.fq"),
        ("liver", "ggal_liver_1.fq", "ggal_liver_2.fq"),
    ]
    ((key, *files),) = items(factories.from_file_pairs("d/ggal_gut_{1,2}.fq"))
    assert (key, len(files)) == ("ggal_gut", 2)


def test_a_pair_that_lacks_a_file_is_named(factories: Factories, tmp_path: Path) -> None:
    touch(tmp_path, "a_1.fq", "a_2.fq", "b_1.fq")
    with pytest.raises(ChannelError, match="'b' has 1 of 2 files"):
        items(factories.from_file_pairs("*_{1,2}.fq"))


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_rows_of_a_table_are_items_of_python_values(
    factories: Factories, make: Callable[[dict[str, list[object]]], object]
) -> None:
    channel = factories.from_table(make({"sample": ["a", "b"], "depth": [1, 2]}))
    assert channel.node.names == ("sample", "depth")
    assert items(channel) == [("a", 1), ("b", 2)]
    assert [type(value) for value in items(channel)[0]] == [str, int]


def test_a_csv_and_a_query_give_rows(factories: Factories, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("sample,depth\na,1\nb,2\n")
    assert items(factories.from_table("s.csv")) == [("a", 1), ("b", 2)]
    found = factories.from_table("SELECT depth FROM 's.csv' WHERE sample = 'b'")
    assert items(found) == [(2,)]
    assert items(factories.from_table("s.csv", columns=["depth"])) == [(1,), (2,)]


def test_a_column_that_is_not_there_is_named(factories: Factories, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("sample,depth\na,1\n")
    with pytest.raises(ChannelError, match="no column 'x'; it has sample, depth"):
        factories.from_table("s.csv", columns=["x"])
    with pytest.raises(ChannelError, match=r"no file gone\.csv"):
        factories.from_table("gone.csv")
    with pytest.raises(ChannelError, match="SELEC"):
        factories.from_table("SELECT * FROM nothing")
    with pytest.raises(ChannelError, match="of 'b' the first has none, number 2 has"):
        factories.from_table([{"a": 1}, {"a": 2, "b": 2}])


def test_a_remote_glob_gives_urls(factories: Factories) -> None:
    import fsspec

    with fsspec.open("memory://bucket/a.txt", "wb") as file:
        file.write(b"x")
    ((found,),) = items(factories.from_path("memory://bucket/*.txt"))
    assert str(found).endswith("bucket/a.txt")


def test_a_generator_gives_the_same_items_at_every_run(notebook: Notebook) -> None:
    notebook.cell("numbers = (n * n for n in range(3))")
    notebook.cell("pairs = zip('ab', [1, 2])")
    notebook.cell("%channel src = from_iterable(numbers)")
    notebook.cell("%channel both = from_iterable(pairs)")
    notebook.cell("%%process work(v) -> out from src\nout = v")
    notebook.cell("%%process name(a, b) -> out from both\nout = a * b")
    for _ in range(2):
        run = notebook.run()
        assert list(run["work"]) == [0, 1, 4]
        assert list(run["name"]) == ["a", "bb"]
