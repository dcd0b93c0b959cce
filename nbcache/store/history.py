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
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from nbcache.store.columns import COLUMNS, table_of
from nbcache.store.files import new_ulid
from nbcache.store.index import SegmentIndex
from nbcache.store.journal_query import FEW, insert_lines
from nbcache.store.journal_view import JournalView
from nbcache.store.log import Log
from nbcache.store.segment import ROWS
from nbcache.store.sql import quoted, sql_type
from nbcache.store.views import TABLES, VIEWS, views_of

if TYPE_CHECKING:
    import duckdb

_EVERY_S = 0.5
_FEW_ROWS = 50_000  # of a log: to keep all its tasks in a table takes 0.1 s


class Logged(Protocol):
    """What has a history: a cache, or a shared one as it is mirrored here."""

    root: Path
    log: Log


def connect(cache: Logged, *, live: bool = True) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB connection with the views of docs/history.md.

    With `live`, what any process appends shows up within about a second, else at `refresh`.
    """
    connection, own = _database()
    history = _histories[connection] = _History(cache, own, VIEWS)
    if live:
        _Watch(history, connection).start()
    return connection


def _database() -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyConnection]:
    """Two connections to an empty database that fetches nothing by itself and spills to the
    system's own folder. The second is for whoever keeps its views: one that is busy in a cursor of
    the first would keep the caller from closing it."""
    import duckdb

    name = f":memory:nbcache-{new_ulid()}"
    config: dict[str, Any] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "temp_directory": os.path.join(tempfile.gettempdir(), f"nbcache-sql-{os.getpid()}"),
    }
    connection = duckdb.connect(name, config=config)
    # Segments do not change: what a long one says of its groups is read once, not by each view.
    connection.execute("SET GLOBAL parquet_metadata_cache = true")
    return connection, duckdb.connect(name, config=config)


def refresh(connection: duckdb.DuckDBPyConnection) -> None:
    """Show what was appended up to now on a connection that `connect` gave."""
    history = _histories.get(connection)
    if history is not None:
        history.refresh()


@contextlib.contextmanager
def reading(
    cache: Logged,
    query: str = "",
    *,
    within_s: float = 0.0,
    once: bool = False,
    runs: Collection[str] | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a cursor over the views as of now, in a transaction that can only read.

    It reaches no file but the log's, and no variable of Python. All cursors share one database per
    open cache: another question costs what came since the last. Making a view takes time, so only
    those are there that `query` names (none given: all).
    `within_s`: views that show how things stood so many seconds ago are good enough.
    `once`: no other question will come, so nothing is prepared for it.
    `runs`: the question is about these alone, so that the others may be left out.
    """
    if runs is not None and cache not in _shared and not _is_short(cache.log):
        with excerpt(cache, query, runs) as part:
            yield part
        return
    with _shared_lock:
        connection = _shared.get(cache)
        if connection is None:
            connection, own = _database()
            history = _histories[connection] = _History(cache, own, views_of(query), once)
            _fence(connection, cache)
            _shared[cache] = connection
            _refreshed[cache] = time.monotonic()
        else:
            history = _histories[connection]
            if time.monotonic() - _refreshed[cache] >= within_s:
                history.refresh()
                _refreshed[cache] = time.monotonic()
            history.show(views_of(query))
        cursor: duckdb.DuckDBPyConnection = connection.cursor()
    with contextlib.closing(cursor):
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        yield cursor
    history.questions += "tasks" in views_of(query)
    if history.questions == 2 and "tasks" in views_of(query):
        threading.Thread(target=_keep_tasks, args=[history], name="nbcache-history-tasks").start()


@contextlib.contextmanager
def excerpt(
    cache: Logged, query: str, runs: Collection[str]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a cursor as `reading` does, over the rows of some runs, of the attempts they used and of
    the lists that these took: of a long log they are read in a moment, and each further step of a
    query has little to do."""
    connection, own = _database()
    with contextlib.closing(own), contextlib.closing(connection):
        _History(cache, own, views_of(query), runs=runs)
        _fence(connection, cache)
        connection.execute("BEGIN TRANSACTION READ ONLY")
        yield connection


def _keep_tasks(history: _History) -> None:
    with contextlib.suppress(Exception):  # the next question says what is wrong
        history.keep_tasks()


def _fence(connection: duckdb.DuckDBPyConnection, cache: Logged) -> None:
    """Let queries reach the segments of a cache and no other file, and not undo this."""
    folders = ", ".join(quoted(each) for each in cache.log.folders())
    for setting in (
        f"allowed_directories = [{folders}]",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


_shared: weakref.WeakKeyDictionary[Logged, Any] = weakref.WeakKeyDictionary()
_refreshed: weakref.WeakKeyDictionary[Logged, float] = weakref.WeakKeyDictionary()
_shared_lock = threading.Lock()


class _History:
    """Keeps the views of one database up to date, through a connection of its own."""

    def __init__(
        self,
        cache: Logged,
        connection: duckdb.DuckDBPyConnection,
        views: Iterable[str],
        once: bool = False,
        runs: Collection[str] | None = None,
    ) -> None:
        """`once` and `runs` as in `reading`."""
        self._runs = runs
        self._log = cache.log
        self._folder = cache.root / "log"
        self._lock = threading.Lock()
        self._segments: tuple[str, ...] | None = None
        self._copied: dict[str, int] = {}  # journal -> lines that are in _live
        self._changed: set[str] = set()  # runs that have new rows
        keeps_tasks = not once and runs is None and _is_short(self._log)
        self._tables = [name for name in TABLES if name != "_tasks" or keeps_tasks]
        self._shown: set[str] = set()
        self.questions = 0  # about tasks
        self._cursor = connection
        columns = ", ".join(f'"{name}" {sql_type(shape)}' for name, shape in COLUMNS.items())
        self._cursor.execute(f"CREATE TABLE _live (_journal VARCHAR, {columns})")
        self._show_rows({})
        for name in self._tables:
            self._cursor.execute(f'CREATE TABLE "{name}" AS {TABLES[name].format("")}')
        self.show(views)  # over empty tables: making one reads all that it is made of, each time
        self.refresh()

    def show(self, views: Iterable[str]) -> None:
        """Make views that are not there yet; each comes after those it is made of."""
        with self._lock:
            for name in views:
                if name not in self._shown:
                    self._cursor.execute(f'CREATE VIEW "{name}" AS {self._select(name)}')
                    self._shown.add(name)

    def _select(self, view: str) -> str:
        return "FROM _tasks" if view == "tasks" and "_tasks" in self._tables else VIEWS[view]

    def keep_tasks(self) -> None:
        """Keep what `tasks` shows in a table from now on: for whoever asks often.

        Of many rows it takes longer than most questions, so that who asks once should not wait.
        """
        with self._lock:
            if "_tasks" not in self._tables:
                self._cursor.execute(f"CREATE TABLE _tasks AS {VIEWS['tasks']}")
                self._tables.append("_tasks")
                if "tasks" in self._shown:
                    self._cursor.execute("CREATE OR REPLACE VIEW tasks AS FROM _tasks")

    def refresh(self) -> None:
        """Bring the views up to date, in one transaction.

        Raises:
            StoreError: a segment is damaged.
        """
        import duckdb

        with self._lock:
            self._log.refresh()
            journals, segments = self._log.journals(), self._log.segments()
            is_same = self._segments == tuple(segments)
            lengths = {name: len(view.lines) for name, view in journals.items()}
            if is_same and self._copied == lengths:
                return
            self._cursor.begin()
            try:
                copied = self._follow_journals(journals)
                if not is_same:
                    self._show_rows(segments)
                self._follow_runs(segments)
                self._cursor.commit()
            except BaseException as error:
                self._cursor.rollback()
                if isinstance(error, duckdb.Error):
                    self._log.check_segments()
                raise
            self._segments, self._copied = tuple(segments), copied

    def _follow_journals(self, journals: Mapping[str, JournalView]) -> dict[str, int]:
        """Copy new lines; drop those that are in segments now. Returns how far it came."""
        for name in self._copied.keys() - journals.keys():
            self._cursor.execute("DELETE FROM _live WHERE _journal = ?", [name])
        self._changed.clear()
        return {
            name: self._copy(name, view, self._copied.get(name, 0))
            for name, view in journals.items()
        }

    def _follow_runs(self, segments: Mapping[str, SegmentIndex]) -> None:
        """Bring the tables up to date, for the runs that have new rows."""
        if self._segments is None:
            spread = _spread(segments)
            several = None if spread is None else spread | self._changed
            for name in self._tables:
                self._fill(name, several if name == "_earlier" else None)
            return
        new = segments.keys() - set(self._segments)
        if new:
            found = self._cursor.execute(
                f"SELECT DISTINCT run FROM read_parquet([{self._files(new)}])"
            ).fetchall()
            self._changed.update(run for (run,) in found if run is not None)
        for name in self._tables:
            if self._changed:
                self._cursor.execute(f'DELETE FROM "{name}" WHERE {_is_of(self._changed)}')
            self._fill(name, self._changed)

    def _fill(self, table: str, runs: Collection[str] | None) -> None:
        """Put the rows of some runs into a table; None: of all."""
        if runs is None or runs:
            condition = "" if runs is None else f"AND {_is_of(runs)}"
            self._cursor.execute(f'INSERT INTO "{table}" {TABLES[table].format(condition)}')

    def _files(self, segments: Iterable[str]) -> str:
        return ", ".join(quoted(str(self._folder / (name + ROWS))) for name in segments)

    def close(self) -> None:
        """Let go of the database, which ends with the last connection to it."""
        with self._lock:
            self._cursor.close()

    def _copy(self, name: str, view: JournalView, start: int) -> int:
        end = len(view.lines)
        if end > start:
            runs = None
            if end - start >= FEW:
                runs = insert_lines(self._cursor, "_live", name, view.lines[start:end])
            self._changed |= self._convert(name, view, start, end) if runs is None else runs
        return end

    def _convert(self, name: str, view: JournalView, start: int, end: int) -> set[str]:
        """Copy lines whatever they hold; return the runs that they are of."""
        records = list(islice(view.records(start), end - start))
        self._cursor.register("_new", table_of(records))
        self._cursor.execute("INSERT INTO _live SELECT ?, * FROM _new", [name])
        self._cursor.unregister("_new")
        return {record.get("run", "") for record in records}

    def _show_rows(self, segments: Mapping[str, SegmentIndex]) -> None:
        """Let `_rows`, of which all other views are made, show these segments and the journals."""
        if self._runs is None:
            self._cursor.execute(f"CREATE OR REPLACE VIEW _rows AS {self._all(segments)}")
            return
        segments = segments if self._runs else {}
        own = _is_of(self._runs)
        self._cursor.execute(f"CREATE OR REPLACE TABLE _rows AS {self._all(segments, own)}")
        used = """kind = 'attempt' AND id IN (SELECT cached_from FROM _rows WHERE kind = 'use')"""
        found = f"SELECT DISTINCT run FROM ({self._all(segments, used)})"
        makers = {str(run) for (run,) in self._cursor.execute(found).fetchall()}
        others = self._all(segments, f"{_is_of(makers - set(self._runs))} AND {used}")
        self._cursor.execute(f"INSERT INTO _rows BY NAME {others}")
        taken = """kind = 'list' AND hash IN (SELECT each.digest FROM (
            SELECT unnest(inputs) AS each FROM _rows WHERE kind = 'attempt'))"""
        lists = self._all(segments, f"NOT {own} AND {taken}")
        self._cursor.execute(f"INSERT INTO _rows BY NAME {lists}")

    def _all(self, segments: Mapping[str, SegmentIndex], condition: str = "true") -> str:
        """The rows of segments and journals for which a condition holds."""
        rows = f"SELECT * EXCLUDE (_journal) FROM _live WHERE {condition}"
        if segments:
            files = self._files(segments)
            rows += f""" UNION ALL BY NAME
FROM read_parquet([{files}], union_by_name = true) WHERE {condition}"""
        if _overlap(segments):
            rows = f"FROM ({rows}) QUALIFY row_number() OVER (PARTITION BY id) = 1"
        return rows


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
            connection = self._connection()
            if connection is None or _is_closed(connection):
                break
            del connection
            try:
                self._history.refresh()
                self._history.keep_tasks()
            except Exception:  # the cache was deleted, or the connection is closing
                break
        self._history.close()

    def stop(self) -> None:
        """End the thread before the interpreter takes its libraries away."""
        self._stop_now.set()
        self.join(5)


def _is_closed(connection: duckdb.DuckDBPyConnection) -> bool:
    import duckdb

    try:
        connection.cursor().close()
    except duckdb.ConnectionException:
        return True
    except duckdb.Error:  # it is busy
        return False
    return False


_watches: weakref.WeakSet[_Watch] = weakref.WeakSet()


@atexit.register
def _stop_watches() -> None:
    for watch in list(_watches):
        watch.stop()


def _overlap(segments: Mapping[str, SegmentIndex]) -> bool:
    """Say whether two segments may hold the same row: somebody was killed while folding, or they
    were sent to a shared cache, where nobody waits for anybody."""
    if len(segments) > 1 and any(each.meta.get("sent") for each in segments.values()):
        return True
    seen: set[str] = set()
    for segment in segments.values():
        sources = {source for source, _ in segment.meta.get("sources", ())}
        sources.update(segment.meta.get("replaces", ()))
        if sources & seen:
            return True
        seen |= sources
    return False


def _spread(segments: Mapping[str, SegmentIndex]) -> set[str] | None:
    """Return the runs of which a row may not be the last word on its task, by what segments say:
    they were resumed, or a task has several rows, in one segment or two. None: one does not say."""
    seen, spread = set[str](), set[str]()
    for segment in segments.values():
        runs, again = segment.meta.get("runs"), segment.meta.get("again")
        if not (_are_texts(runs) and _are_texts(again)):
            return None
        spread |= (seen & set(runs)) | set(again)
        seen |= set(runs)
    return spread


def _are_texts(note: object) -> TypeGuard[list[str]]:
    return isinstance(note, list) and all(isinstance(each, str) for each in note)


def _is_short(log: Log) -> bool:
    log.refresh()
    folded = sum(int(each.meta["rows"]) for each in log.segments().values())
    return folded + sum(len(each.lines) for each in log.journals().values()) <= _FEW_ROWS


def _is_of(runs: Collection[str]) -> str:
    """A condition that files can be passed over by: a list of values, which is told beforehand."""
    if not runs:
        return "false"
    return f"run IN ({', '.join(quoted(str(run)) for run in runs)})"
