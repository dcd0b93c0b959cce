"""Ask the history in SQL: the views of docs/history.md, read and never written.

A query reaches the history alone: no other file, nothing of the network, no variable of Python.
Whoever means more says so (`files`), and gets a database that is thrown away afterwards. What is
wrong with a query is told in words that name the nearest right ones.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nbcache.errors import UsageError
from nbcache.plan.language.header_text import meant
from nbcache.store.history import Logged, connect, reading
from nbcache.store.views import VIEWS

if TYPE_CHECKING:
    import duckdb

PUBLIC_VIEWS = tuple(name for name in VIEWS if not name.startswith("_"))

_READS_ONLY = (
    "a query reads the history and nothing else.\n  With --files it may read and write files; "
    "nbcache.connect() gives a DuckDB connection that can do all."
)
_NO_COLUMN = re.compile(r'column "([^"]+)" not found|does not have a column named "([^"]+)"')
_NO_TABLE = re.compile(r"Table with name (.+?) does not exist")
_PLACE = re.compile(r"^LINE \d+:.*", re.MULTILINE | re.DOTALL)


@contextlib.contextmanager
def asking(
    cache: Logged,
    query: str,
    values: Sequence[object] = (),
    *,
    files: bool = False,
    once: bool = False,
    runs: Collection[str] | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give DuckDB's cursor with the answer to a query over the history as of now.

    once: it is this process's only question. runs: it is about these alone.

    Raises:
        UsageError: the query is wrong, or wants more than to read the history; also raised for
            what only shows up while the answer is read.
        StoreError: a segment is damaged.
    """
    import duckdb

    database = (
        contextlib.closing(connect(cache, live=False))
        if files
        else reading(cache, query, once=once, runs=runs)
    )
    with database as cursor:
        try:
            _check(query, files)
            cursor.execute(query, list(values))
            yield cursor
        except duckdb.Error as error:
            mistakes = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)
            if not isinstance(error, (*mistakes, duckdb.PermissionException)):
                cache.log.check_segments()
            raise UsageError(_in_words(error, cursor, query, files)) from None


def fetch(
    cache: Logged,
    query: str,
    values: Sequence[object] = (),
    *,
    runs: Collection[str] | None = None,
) -> list[tuple[Any, ...]]:
    """Return all rows that a query gives; `runs` and errors as in `asking`."""
    with asking(cache, query, values, runs=runs) as cursor:
        return list(cursor.fetchall())


def _check(query: str, files: bool) -> None:
    import duckdb

    statements = duckdb.extract_statements(query)
    if not statements:
        raise UsageError("no query given: SELECT ... FROM tasks")
    if files:
        return
    kinds = duckdb.StatementType  # PIVOT is MULTI; before 2.0, several, the first without a text
    reads = (kinds.SELECT, kinds.EXPLAIN, kinds.MULTI)
    # What EXPLAIN ANALYZE performs is not told, and may end the transaction that can only read.
    explains = len(statements) > 1 and any(each.type == kinds.EXPLAIN for each in statements)
    writes = any(each.type not in reads and each.query for each in statements)
    if explains or writes or _copies(query):
        raise UsageError(_READS_ONLY)


def _copies(query: str) -> bool:
    """Say whether COPY stands in a query: it writes files also from within a WITH or EXPLAIN
    ANALYZE, in a transaction that can only read, and where the segments lie that are to be read."""
    import duckdb

    text = query.encode("utf-8")
    places = [place for place, _ in duckdb.tokenize(query)]
    words = (text[at:to].strip().lower() for at, to in pairwise([*places, len(text)]))
    return b"copy" in words


def _in_words(
    error: duckdb.Error, cursor: duckdb.DuckDBPyConnection, query: str, files: bool
) -> str:
    """Say what is wrong with a query, with the nearest name where one is unknown."""
    import duckdb

    text = str(error)
    place = _PLACE.search(text)
    where = f"\n{place[0]}" if place else ""
    if isinstance(error, duckdb.PermissionException) and not files:
        return _READS_ONLY + where
    found = _NO_COLUMN.search(text)
    if found:
        columns = _columns(cursor, query)
        name = found[1] or found[2]
        column = meant(name, columns, f"there are {', '.join(columns)}")
        quoted = " (a text stands in single quotes)" if f'"{name}"' in query else ""
        return f"no column {name!r}{quoted}; {column}{where}"
    found = _NO_TABLE.search(text)
    if found:
        if re.search(r"[./\\:]", found[1]) and not files:
            return f"no view {found[1]!r}: {_READS_ONLY}{where}"
        view = meant(found[1], PUBLIC_VIEWS, f"there are {', '.join(PUBLIC_VIEWS)}")
        return f"no view {found[1]!r}; {view}{where}"
    return f"the query cannot be answered: {text}"


def _columns(cursor: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    """The columns of the views that a query names, or of all."""
    named = [name for name in PUBLIC_VIEWS if re.search(rf"\b{name}\b", query)]
    with contextlib.suppress(Exception):
        cursor.execute("ROLLBACK")  # an error ended the transaction
    return list(
        dict.fromkeys(
            str(column[0])
            for name in named or PUBLIC_VIEWS
            for column in cursor.execute(f'DESCRIBE "{name}"').fetchall()
        )
    )
