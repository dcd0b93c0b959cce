"""History: a DuckDB connection whose views show the log, and go on showing it while it grows.

Segments are read where they lie, from an explicit list of files; rows of journals are copied into
an in-memory table. Nothing is written to the cache. A small thread looks for new rows twice a
second for as long as the connection is alive; `refresh` does it at once. `connect` gives all of
DuckDB, `reading` a cursor that can read the history and nothing else.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from nbcache.store.cache import Cache
from nbcache.store.index import SegmentIndex
from nbcache.store.journal_view import JournalView
from nbcache.store.segment import COLUMNS, ROWS, table_of
from nbcache.store.views import VIEWS

if TYPE_CHECKING:
    import duckdb

_EVERY_S = 0.5
_SQL_TYPES = {"text": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN"}


def connect(cache: Cache, *, live: bool = True) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB connection with the views of docs/history.md.

    With `live`, what any process appends shows up within about a second, else at `refresh`.
    """
    connection = _database()
    history = _History(cache, connection)
    _histories[connection] = history
    if live:
        _Watch(history, connection).start()
    return connection


def _database() -> duckdb.DuckDBPyConnection:
    """An empty database that fetches nothing by itself and spills to the system's own folder."""
    import duckdb

    return duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": os.path.join(tempfile.gettempdir(), f"nbcache-sql-{os.getpid()}"),
        },
    )


def refresh(connection: duckdb.DuckDBPyConnection) -> None:
    """Show what was appended up to now on a connection that `connect` gave."""
    history = _histories.get(connection)
    if history is not None:
        history.refresh()


@contextlib.contextmanager
def reading(cache: Cache, *, within_s: float = 0.0) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a cursor over the views as of now, in a transaction that can only read.

    It reaches no file but the log's, and no variable of Python. Making the views reads the log, so
    all cursors share one database per open cache: another question costs what came since the last.
    `within_s`: views that show how things stood so many seconds ago are good enough.
    """
    with _shared_lock:
        connection = _shared.get(cache)
        if connection is None:
            connection = _shared[cache] = connect(cache, live=False)
            _fence(connection, cache)
            _refreshed[cache] = time.monotonic()
        elif time.monotonic() - _refreshed[cache] >= within_s:
            refresh(connection)
            _refreshed[cache] = time.monotonic()
        cursor: duckdb.DuckDBPyConnection = connection.cursor()
    with contextlib.closing(cursor):
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        yield cursor


def _fence(connection: duckdb.DuckDBPyConnection, cache: Cache) -> None:
    """Let queries reach the segments of a cache and no other file, and not undo this."""
    segments = _quoted(str(cache.root / "log"))
    for setting in (
        f"allowed_directories = [{segments}]",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


_shared: weakref.WeakKeyDictionary[Cache, Any] = weakref.WeakKeyDictionary()
_refreshed: weakref.WeakKeyDictionary[Cache, float] = weakref.WeakKeyDictionary()
_shared_lock = threading.Lock()


class _History:
    """Keeps the views of one connection up to date, through a cursor of its own."""

    def __init__(self, cache: Cache, connection: duckdb.DuckDBPyConnection) -> None:
        self._log = cache.log
        self._folder = cache.root / "log"
        self._lock = threading.Lock()
        self._segments: tuple[str, ...] | None = None
        self._copied: dict[str, int] = {}  # journal -> lines that are in _live
        self._changed: set[str] = set()  # runs that have new rows
        self._keeps_tasks = False  # from the second refresh on
        self._cursor = connection.cursor()  # the connection itself is the caller's alone
        columns = ", ".join(f'"{name}" {_sql_type(shape)}' for name, shape in COLUMNS.items())
        self._cursor.execute(f"CREATE TABLE _live (_journal VARCHAR, {columns})")
        self._show_rows({})
        self._make_views()
        self.refresh()

    def _make_views(self) -> None:
        """Make the views over empty tables: making one reads all that it is made of, each time."""
        for name, select in VIEWS.items():
            if name == "tasks":
                self._cursor.execute("CREATE TABLE _tasks AS FROM _last LIMIT 0")
                select = "FROM _tasks"
            self._cursor.execute(f'CREATE VIEW "{name}" AS {select}')
        self._cursor.execute(f"CREATE OR REPLACE VIEW tasks AS {VIEWS['tasks']}")

    def refresh(self) -> None:
        """Bring the views up to date, in one transaction."""
        with self._lock:
            self._log.refresh()
            journals, segments = self._log.journals(), self._log.segments()
            is_first = self._segments is None
            is_same = self._segments == tuple(segments)
            lengths = {name: len(view.lines) for name, view in journals.items()}
            if is_same and self._copied == lengths and self._keeps_tasks:
                return
            self._cursor.begin()
            try:
                copied = self._follow_journals(journals)
                if not is_same:
                    self._show_rows(segments)
                if not is_first:
                    self._keep_tasks(segments)
                self._cursor.commit()
            except BaseException:
                self._cursor.rollback()
                raise
            self._segments, self._copied = tuple(segments), copied
            self._keeps_tasks = not is_first

    def _follow_journals(self, journals: Mapping[str, JournalView]) -> dict[str, int]:
        """Copy new lines; drop those that are in segments now. Returns how far it came."""
        for name in self._copied.keys() - journals.keys():
            self._cursor.execute("DELETE FROM _live WHERE _journal = ?", [name])
        self._changed.clear()
        return {
            name: self._copy(name, view, self._copied.get(name, 0))
            for name, view in journals.items()
        }

    def _keep_tasks(self, segments: Mapping[str, SegmentIndex]) -> None:
        """Keep what `tasks` shows in a table, made again for the runs that have new rows.

        Whoever asks often should not wait for the last row of each task to be found; whoever asks
        once should not wait for all of the table's columns.
        """
        if not self._keeps_tasks:
            self._cursor.execute("INSERT INTO _tasks FROM _last")
            self._cursor.execute("CREATE OR REPLACE VIEW tasks AS FROM _tasks")
            return
        assert self._segments is not None
        new = segments.keys() - set(self._segments)
        if new:
            found = self._cursor.execute(
                f"SELECT DISTINCT run FROM read_parquet([{self._files(new)}])"
            ).fetchall()
            self._changed.update(run for (run,) in found if run is not None)
        runs = [list(self._changed)]
        self._cursor.execute("DELETE FROM _tasks WHERE run IN (SELECT unnest(?))", runs)
        self._cursor.execute("INSERT INTO _tasks FROM _last WHERE run IN (SELECT unnest(?))", runs)

    def _files(self, segments: Iterable[str]) -> str:
        return ", ".join(_quoted(str(self._folder / (name + ROWS))) for name in segments)

    def close(self) -> None:
        """Let go of the database, which ends with the last connection to it."""
        with self._lock:
            self._cursor.close()

    def _copy(self, name: str, view: JournalView, start: int) -> int:
        end = len(view.lines)
        if end > start:
            records = list(islice(view.records(start), end - start))
            self._changed.update(record.get("run", "") for record in records)
            table = table_of(records)
            self._cursor.register("_new", table)
            self._cursor.execute("INSERT INTO _live SELECT ?, * FROM _new", [name])
            self._cursor.unregister("_new")
        return end

    def _show_rows(self, segments: Mapping[str, SegmentIndex]) -> None:
        """Let `_rows`, of which all other views are made, show these segments and the journals."""
        rows = "SELECT * EXCLUDE (_journal) FROM _live"
        if segments:
            files = self._files(segments)
            rows += f" UNION ALL BY NAME FROM read_parquet([{files}], union_by_name = true)"
        if _overlap(segments):
            rows = f"FROM ({rows}) QUALIFY row_number() OVER (PARTITION BY id) = 1"
        self._cursor.execute(f"CREATE OR REPLACE VIEW _rows AS {rows}")


_histories: weakref.WeakKeyDictionary[Any, _History] = weakref.WeakKeyDictionary()


class _Watch(threading.Thread):
    """Refreshes a history until its connection is gone."""

    def __init__(self, history: _History, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(name="nbcache-history", daemon=True)
        self._history = history
        self._stop_now = threading.Event()
        self._connection = weakref.ref(connection, lambda _: self._stop_now.set())
        _watches.add(self)

    def run(self) -> None:
        while not self._stop_now.wait(_EVERY_S):
            try:
                self._history.refresh()
            except Exception:  # the cache was deleted, or the connection is closing
                break
        self._history.close()

    def stop(self) -> None:
        """End the thread before the interpreter takes its libraries away."""
        self._stop_now.set()
        self.join(5)


_watches: weakref.WeakSet[_Watch] = weakref.WeakSet()


@atexit.register
def _stop_watches() -> None:
    for watch in list(_watches):
        watch.stop()


def _overlap(segments: Mapping[str, SegmentIndex]) -> bool:
    """Say whether two segments may hold the same row (somebody was killed while folding)."""
    seen: set[str] = set()
    for segment in segments.values():
        sources = {source for source, _ in segment.meta.get("sources", ())}
        sources.update(segment.meta.get("replaces", ()))
        if sources & seen:
            return True
        seen |= sources
    return False


def _sql_type(shape: Any) -> str:
    if shape == "bytes":
        return "BLOB"
    if isinstance(shape, str):
        return _SQL_TYPES[shape]
    if isinstance(shape, list):
        return _sql_type(shape[0]) + "[]"
    if isinstance(shape, tuple):
        return f"MAP(VARCHAR, {_sql_type(shape[1])})"
    members = ", ".join(f'"{name}" {_sql_type(each)}' for name, each in shape.items())
    return f"STRUCT({members})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
