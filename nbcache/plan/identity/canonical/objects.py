"""Canonical form of any other object: what its pickle would carry, and who is refused.

A body never gets an object itself but an unpickled copy, so what `__reduce_ex__` returns (class,
arguments, state, items) is all that the body can see of it. Instances of a class that a notebook
or local module defines count with that class, which `leaf` identifies by its code.
"""

from __future__ import annotations

import copyreg
from typing import cast

from nbcache.plan.identity.canonical.encoder import Encoder, Foreign
from nbcache.plan.identity.canonical.lasting import lasting
from nbcache.plan.identity.canonical.names import (
    attribute,
    found_under_its_name,
    installed_function,
    is_installed,
)

_FILE = "an open file; pass its path instead"
_CONNECTION = "a database connection"
_LIVE = "it is bound to the running process"
_DRAWING = "a drawing, which changes with every look at it; capture its data and draw in the body"
_ASYNC = "it belongs to a running event loop"

REFUSED: dict[str, str] = {
    "_io.TextIOWrapper": _FILE,
    "_io.BufferedReader": _FILE,
    "_io.BufferedWriter": _FILE,
    "_io.BufferedRandom": _FILE,
    "_io.FileIO": _FILE,
    "tempfile._TemporaryFileWrapper": _FILE,
    "tempfile.TemporaryDirectory": "a temporary folder, which has another name every time",
    "zipfile.ZipFile": _FILE,
    "tarfile.TarFile": _FILE,
    "mmap.mmap": _FILE,
    "h5py._hl.files.File": _FILE,
    "socket.socket": "an open socket",
    "ssl.SSLContext": _LIVE,
    "_thread.lock": "a lock",
    "_thread.RLock": "a lock",
    "threading.Thread": "a thread",
    "threading.Condition": "a lock",
    "threading.Event": "a lock",
    "threading.Semaphore": "a lock",
    "_thread._local": _LIVE,
    "queue.Queue": _LIVE,
    "_queue.SimpleQueue": _LIVE,
    "subprocess.Popen": "a running program",
    "concurrent.futures._base.Executor": "a pool of workers",
    "concurrent.futures._base.Future": _LIVE,
    "multiprocessing.pool.Pool": "a pool of workers",
    "multiprocessing.process.BaseProcess": "a running program",
    "asyncio.events.AbstractEventLoop": _ASYNC,
    "_asyncio.Future": _ASYNC,
    "_asyncio.Task": _ASYNC,
    "builtins.generator": "a generator; make a list of it",
    "builtins.async_generator": "an async generator; make a list of it",
    "builtins.coroutine": "a coroutine; await it first",
    "builtins.module": "a module",
    "builtins.frame": _LIVE,
    "builtins.traceback": _LIVE,
    "builtins.code": "compiled code",
    "weakref.ReferenceType": "a weak reference",
    "builtins.weakref": "a weak reference",
    "builtins.weakproxy": "a weak reference",
    "_contextvars.Context": _LIVE,
    "_contextvars.ContextVar": _LIVE,
    "sqlite3.Connection": _CONNECTION,
    "sqlite3.Cursor": _CONNECTION,
    "_duckdb.DuckDBPyConnection": _CONNECTION,
    "_duckdb.DuckDBPyRelation": "a query on a database connection; fetch its result first",
    "duckdb.DuckDBPyConnection": _CONNECTION,
    "duckdb.DuckDBPyRelation": "a query on a database connection; fetch its result first",
    "duckdb.duckdb.DuckDBPyConnection": _CONNECTION,
    "psycopg2.extensions.connection": _CONNECTION,
    "psycopg2.extensions.cursor": _CONNECTION,
    "psycopg.Connection": _CONNECTION,
    "psycopg.Cursor": _CONNECTION,
    "pymysql.connections.Connection": _CONNECTION,
    "sqlalchemy.engine.base.Engine": _CONNECTION,
    "sqlalchemy.engine.base.Connection": _CONNECTION,
    "sqlalchemy.orm.session.Session": _CONNECTION,
    "pymongo.synchronous.mongo_client.MongoClient": _CONNECTION,
    "redis.client.Redis": _CONNECTION,
    "matplotlib.artist.Artist": _DRAWING,  # figures, axes, lines
    "polars.lazyframe.frame.LazyFrame": "a query that has not run; call .collect() first",
}

_IMMUTABLE = (int, float, complex, str, bytes, tuple)


def refusal(cls: type) -> str | None:
    """Return why instances of a class or of one derived from it are refused, or None."""
    for base in cls.__mro__:
        reason = REFUSED.get(f"{base.__module__}.{base.__qualname__}")
        if reason is not None:
            return reason
    return None


def write_object(encoder: Encoder, value: object) -> None:
    """Write an object by its class and what its pickle would carry."""
    cls = type(value)
    reason = refusal(cls)
    if reason is not None:
        encoder.refuse(value, reason)
    if callable(value) and installed_function(value) is None:  # compiled ones have many types
        named = cast("Foreign", value)
        encoder.tagged("function", named.__module__, named.__qualname__)
        return
    if _can_change(value, cls) and encoder.met_before(value):
        return
    reduced = _reduce(encoder, value, cls)
    if isinstance(reduced, str):  # a module-level constant, known by its name
        module = attribute(value, "__module__")
        if not (
            isinstance(module, str)
            and is_installed(module)
            and found_under_its_name(value, module, reduced)
        ):
            encoder.refuse(value, "it is known only by a name of the notebook or a local module")
        encoder.tagged("global", module, reduced)
        return
    function, arguments, state, items, pairs = (*reduced, None, None, None, None)[:5]
    _write_maker(encoder, value, function, cast("tuple[object, ...]", arguments))
    _write_state(encoder, lasting(cls, state))
    for content, write in ((items, encoder.write_sequence), (pairs, encoder.write_pairs)):
        if content is None:
            encoder.out += b"N"
        else:
            listed = list(cast("Foreign", content))
            write(listed, len(listed))


def _can_change(value: object, cls: type) -> bool:
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        return False
    return not (isinstance(value, _IMMUTABLE) and not getattr(value, "__dict__", None))


def _reduce(encoder: Encoder, value: object, cls: type) -> str | tuple[object, ...]:
    # An exception is what its class says: what dask registers for all of them adds a traceback,
    # and whether it is loaded may not count.
    is_exception = isinstance(value, BaseException)
    reducer = None if is_exception else copyreg.dispatch_table.get(cls)
    try:
        reduced = reducer(value) if reducer is not None else value.__reduce_ex__(4)
    except RecursionError:
        raise
    except Exception as error:  # whatever a foreign class raises, the answer is the same
        encoder.refuse(value, f"it cannot be pickled ({type(error).__name__}: {error})")
    if not isinstance(reduced, str | tuple):
        encoder.refuse(value, "its __reduce_ex__ returns no tuple")
    if is_exception and reduced[2:] == ({},):  # somebody looked at its attributes: it has none
        return reduced[:2]
    return reduced


def _write_maker(
    encoder: Encoder, value: object, function: object, arguments: tuple[object, ...]
) -> None:
    keywords: object = None
    if function is copyreg.__newobj__:  # type: ignore[attr-defined]  # private, but part of pickle
        encoder.out += b"O"
        encoder.write_class(cast("type", arguments[0]))
        arguments = arguments[1:]
    elif function is copyreg.__newobj_ex__:  # type: ignore[attr-defined]
        encoder.out += b"P"
        cls, arguments, keywords = cast("Foreign", arguments)
        encoder.write_class(cls)
    else:
        encoder.out += b"Q"
        encoder.write_class(type(value))
        encoder.write_step(" made by", function)
    encoder.write_step(".__new__", arguments)
    encoder.write(keywords)


def _write_state(encoder: Encoder, state: object) -> None:
    # Slots come as (dict, dict); see object.__reduce_ex__.
    if type(state) is tuple and len(state) == 2 and type(state[1]) is dict:
        encoder.out += b"2"
        _write_state(encoder, state[0])
        _write_state(encoder, state[1])
    elif type(state) is dict:
        encoder.out += b"1"
        encoder.write_pairs(state.items(), len(state), attributes=True)
    else:
        encoder.out += b"0"
        encoder.write_step(".__getstate__()", state)
