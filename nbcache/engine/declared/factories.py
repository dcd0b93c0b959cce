"""Channel factories: where items come from. The globs, tables and files are read at each run.

A factory returns a lazy `Channel`; its `load` runs when a run, a read or a plan starts. Relative
paths are looked up beside the notebook. Files become `FilePath` items, which count by content.
"""

from __future__ import annotations

import glob as globbing
import itertools
import os
import pathlib
import re
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from nbcache.engine.identity.missing_files import no_file, no_match
from nbcache.engine.identity.remote import matching
from nbcache.errors import ChannelError, kind_of
from nbcache.model.channel import Fields, Item, Node
from nbcache.model.value import FilePath, RemoteFile
from nbcache.plan.dataflow.channel import Channel

_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Factories:
    """The factories of one folder; `names` are those that a `%channel` expression may call."""

    names = (
        "of", "value", "empty", "from_iterable", "from_path", "from_file_pairs", "from_table",
        "product", "path",
    )  # fmt: skip

    def __init__(self, folder: Callable[[], pathlib.Path]) -> None:
        self._folder = folder
        self._drained: deque[tuple[Callable[[], object], list[object]]] = deque(maxlen=16)

    def of(self, *items: object) -> Channel:
        """Return a queue channel of the arguments; equally long tuples are items with fields.

        >>> of(1, 2, 3)
        """
        return _listed(list(items), "of(...)")

    def value(self, item: object) -> Channel:
        """Return a value channel: one item, which every task may read."""
        return _source(lambda: [(item,)], (None,), "value(...)", is_value=True)

    def empty(self) -> Channel:
        """Return a queue channel without items."""
        return _source(list, (None,), "empty()")

    def from_iterable(self, items: Iterable[object]) -> Channel:
        """Return a queue channel of the members of `items`, in their order."""
        if is_table(items):
            raise ChannelError(
                f"from_iterable: the members of {kind_of(items)} are its columns\n"
                f"  for its rows: from_table(...)"
            )
        if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
            way_out = "; for its characters: list(...)" if isinstance(items, str) else ""
            raise ChannelError(
                f"from_iterable takes a list, range or other iterable, not {items!r:.60}\n"
                f"  for this one item: of(...){way_out}"
            )
        return _listed(self._members(items), "from_iterable(...)")

    def _members(self, items: Iterable[object]) -> list[object]:
        """Return what is in `items`. A generator can be read once, and its channel is evaluated
        at every run: it gives each time what it gave the first time."""
        if not isinstance(items, Iterator):
            return list(items)
        for iterator, members in self._drained:
            if iterator() is items:
                return list(members)
        members = list(items)
        try:
            held: Callable[[], object] = weakref.ref(items)
        except TypeError:  # map, zip: no weak references
            held = lambda: items  # noqa: E731
        self._drained.append((held, members))
        return list(members)

    def path(self, name: str | os.PathLike[str]) -> FilePath | RemoteFile:
        """Return one file or folder as a value whose content counts.

        Raises:
            ChannelError: there is no such file; says where it was looked for.
        """
        text = os.fspath(name)
        if _URL.match(text):
            return RemoteFile(text)
        found = self._folder() / text
        if not found.exists():
            raise ChannelError(no_file(text, self._folder()) + _as_it_is(text))
        return FilePath(found)

    def from_path(self, *patterns: str | os.PathLike[str], optional: bool = False) -> Channel:
        """Return a queue channel of the files that match the globs, sorted by name.

        `**` matches folders at any depth. A URL of any fsspec file system works as well.

        Raises (at the run):
            ChannelError: nothing matches and `optional` is not set.
        """

        def load() -> list[Item]:
            found: list[Item] = []
            for pattern in [os.fspath(each) for each in patterns]:
                files = _match(pattern, self._folder())
                if not files and not optional:
                    raise _no_match(pattern, self._folder())
                found += [(file,) for file in files]
            return found

        return _source(load, (None,), f"from_path({', '.join(map(_shown, patterns))})")

    def from_file_pairs(self, pattern: str, *, size: int = 2) -> Channel:
        """Return items (key, file, file, ...) of files that belong together.

        `{1,2}` tells the members apart, in this order; what `*` matches is the key, without a `*`
        what stands in front of the braces. `size` is for patterns without braces, such as
        ``*.{fq}``: the number of files of each key.

        >>> from_file_pairs("data/ggal_*_{1,2}.fq")    # ("gut", .../ggal_gut_1.fq, ...2.fq)

        Raises (at the run):
            ChannelError: nothing matches, or a key has too few or too many files.
        """
        alternatives = _expand_braces(pattern)
        expected = len(alternatives) if len(alternatives) > 1 else size
        alone = _shared_part(alternatives)

        def load() -> list[Item]:
            groups: dict[str, list[FilePath | RemoteFile]] = {}
            for alternative in alternatives:
                for file in _match(alternative, self._folder()):
                    key = alone or _wild_part(alternative, str(file))
                    groups.setdefault(key, []).append(file)
            if not groups:
                raise _no_match(pattern, self._folder())
            for key, files in groups.items():
                if len(files) != expected:
                    names = ", ".join(file.name for file in files)
                    raise ChannelError(
                        f"{pattern}: {key!r} has {len(files)} of {expected} files ({names})"
                    )
            return [(key, *groups[key]) for key in sorted(groups)]

        return _source(load, (None,) * (expected + 1), f"from_file_pairs({_shown(pattern)})")

    def from_table(self, table: object, *, columns: Sequence[str] | None = None) -> Channel:
        """Return one item per row, with the columns as fields.

        `table` is a CSV or Parquet file, a pandas, polars or Arrow table, or a SQL query that
        DuckDB runs beside the notebook (``"SELECT ... FROM 'samples.csv'"``).
        """
        names, rows = _read_table(table, self._folder())
        if columns is not None:
            missing = [name for name in columns if name not in names]
            if missing:
                raise ChannelError(
                    f"the table has no column {missing[0]!r}; it has {', '.join(names)}"
                )
            order = [names.index(name) for name in columns]
            names = tuple(columns)
            rows = [tuple(row[index] for index in order) for row in rows]
        return _source(lambda: rows, names, "from_table(...)")

    def product(self, *unnamed: object, **fields: Iterable[object]) -> Channel:
        """Return every combination of the fields' values; the last field varies fastest.

        >>> product(depth=[2, 4, 8], rep=range(3))     # 9 items (depth, rep)
        """
        if unnamed or not fields:
            raise ChannelError("product takes named fields: product(depth=[2, 4], rep=range(3))")
        for name, values in fields.items():
            if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
                raise ChannelError(
                    f"product: {name} takes a list of values, not {values!r:.60}; "
                    f"write {name}=[{values!r:.60}]"
                )
        lists = [list(values) for values in fields.values()]
        label = f"product({', '.join(fields)})"
        return _source(lambda: list(itertools.product(*lists)), tuple(fields), label)


def _source(
    load: Callable[[], Sequence[Item]], names: Fields, label: str, *, is_value: bool = False
) -> Channel:
    return Channel(Node(op="source", names=names, is_value=is_value, load=load, label=label))


def _listed(members: Sequence[object], label: str) -> Channel:
    arity = _common_arity(members)
    if arity is None:
        return _source(lambda: [(member,) for member in members], (None,), label)
    return _source(lambda: [tuple(cast(Item, each)) for each in members], (None,) * arity, label)


def _shown(pattern: str | os.PathLike[str]) -> str:
    """Return a pattern as a channel's label shows it: rows hold it, and secrets do not go there."""
    text = os.fspath(pattern)
    return repr(RemoteFile(text).place if "://" in text else text)


def _common_arity(members: Sequence[object]) -> int | None:
    arities = {len(member) if type(member) is tuple else 0 for member in members}
    if len(arities) == 1 and (arity := arities.pop()) > 1:
        return arity
    return None


def _match(pattern: str, folder: pathlib.Path) -> list[FilePath | RemoteFile]:
    if _URL.match(pattern):
        return list(matching(pattern))
    found: set[str] = set()
    for alternative in _expand_braces(pattern):
        if os.path.isabs(alternative):
            found.update(globbing.glob(alternative, recursive=True))
        else:
            names = globbing.glob(alternative, root_dir=folder, recursive=True)
            found.update(str(folder / name) for name in names)
    return [FilePath(name) for name in sorted(found)]


def _no_match(pattern: str, folder: pathlib.Path) -> ChannelError:
    if "://" in pattern:
        return ChannelError(f"no file matches {RemoteFile(pattern).place}")
    return ChannelError(no_match(pattern, folder) + _as_it_is(pattern))


def _as_it_is(name: str) -> str:
    """Return what to say of a name that only a shell would understand."""
    if not name.startswith("~") and "$" not in name:
        return ""
    return "\n  names are taken as they are: write os.path.expanduser(...), os.path.expandvars(...)"


def _expand_braces(pattern: str) -> list[str]:
    """Return the pattern once per combination of its `{a,b}` alternatives (as in a shell)."""
    match = re.search(r"\{([^{}]*,[^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [
        before + alternative + rest
        for alternative in match[1].split(",")
        for rest in _expand_braces(after)
    ]


def _shared_part(alternatives: Sequence[str]) -> str:
    """Return what the names of one pair share, "" where wildcards stand for several pairs."""
    names = [each.rpartition("/")[2] for each in alternatives]
    if len(names) == 1 or any(mark in name for name in names for mark in "*?["):
        return ""
    alike = itertools.takewhile(lambda each: len(set(each)) == 1, zip(*names, strict=False))
    return "".join(each[0] for each in alike).rstrip("_-.")


def _wild_part(pattern: str, path: str) -> str:
    """Return what the wildcards of the pattern's last part matched in the file's name."""
    name = path.rstrip("/").rpartition("/")[2]
    regex = "".join(
        {"*": "(.*)", "?": "(.)"}.get(piece, re.escape(piece))
        if piece in ("*", "?")
        else (f"({piece})" if piece.startswith("[") else re.escape(piece))
        for piece in re.findall(r"\*|\?|\[[^\]]+\]|[^*?\[]+|\[", pattern.rpartition("/")[2])
    )
    match = re.fullmatch(regex, name)
    return "_".join(match.groups()) if match and match.groups() else name


def is_table(value: object) -> bool:
    """Whether this is a pandas, polars or Arrow table, of which each row can be an item."""
    by_row = hasattr(value, "itertuples") or hasattr(value, "iter_rows")
    return hasattr(value, "columns") if by_row else hasattr(value, "column_names")


def _read_table(table: object, folder: pathlib.Path) -> tuple[tuple[str, ...], list[Item]]:
    if isinstance(table, (str, os.PathLike)):
        return _query(os.fspath(table), folder)
    if hasattr(table, "to_pylist") and hasattr(table, "column_names"):  # Arrow
        names = tuple(map(str, table.column_names))
        return names, [tuple(row[name] for name in names) for row in table.to_pylist()]
    if hasattr(table, "iter_rows") and hasattr(table, "columns"):  # polars
        return tuple(table.columns), list(table.iter_rows())
    if hasattr(table, "itertuples") and hasattr(table, "columns"):  # pandas
        names = tuple(map(str, table.columns))
        columns = [_plain(table.iloc[:, index]) for index in range(len(names))]  # type: ignore[attr-defined]
        return names, list(zip(*columns, strict=True)) if columns else []
    if isinstance(table, Sequence) and table and all(isinstance(row, dict) for row in table):
        names = tuple(table[0])
        for number, row in enumerate(table, 1):
            if row.keys() != table[0].keys():
                key = next(iter(row.keys() ^ table[0].keys()))
                first, other = ("has none", "has") if key in row else ("has", "has none")
                raise ChannelError(
                    f"from_table: the dicts have other keys: of {key!r} the first {first}, "
                    f"number {number} {other}"
                )
        return names, [tuple(row[name] for name in names) for row in table]
    raise ChannelError(
        f"from_table takes a file name, a SQL query, a DataFrame or a list of dicts, "
        f"not {kind_of(table)}"
    )


def _plain(column: object) -> list[object]:
    """Return a pandas column's values as Python objects (numpy scalars have a twin in Python)."""
    return [
        value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value
        for value in column.tolist()  # type: ignore[attr-defined]
    ]


def _query(text: str, folder: pathlib.Path) -> tuple[tuple[str, ...], list[Item]]:
    import duckdb

    connection = duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    )
    try:
        if re.match(r"\s*(SELECT|WITH|FROM)\b", text, re.IGNORECASE):
            connection.execute(
                f"SET file_search_path = '{str(folder).replace(chr(39), chr(39) * 2)}'"
            )
            connection.execute(text)
        else:
            file = folder / text
            if not file.exists():
                raise ChannelError(no_file(text, folder))
            reader = "read_parquet" if file.suffix in (".parquet", ".pq") else "read_csv"
            connection.execute(f"SELECT * FROM {reader}(?)", [str(file)])
        names = tuple(column[0] for column in connection.description or ())
        return names, connection.fetchall()
    except duckdb.Error as error:
        raise ChannelError(f"from_table({text!r:.80}): {error}") from error
    finally:
        connection.close()
