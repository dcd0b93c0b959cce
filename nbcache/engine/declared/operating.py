"""Call a function on a channel: with items of its own, and an error that says where it failed.

A function gets copies of mutable items and its results are copied where they are lists, dicts or
sets, so that one that changes what it was given, or goes on filling a list that it has returned,
cannot change what another branch or a task sees (digest and pickle of an item would then differ).
Used by runs, dry runs and cards alike.
"""

from __future__ import annotations

import copy
import datetime
import linecache
import pathlib
from collections.abc import Callable

from nbcache.errors import ChannelError, NbcacheError
from nbcache.model.channel import CompiledNode
from nbcache.model.value import FilePath, Gathered, Record, RemoteFile, Stored
from nbcache.plan.identity.canonical import summarise

_FIXED = frozenset(
    {
        *(str, int, float, bool, bytes, complex, type(None), range, slice),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
        *(pathlib.PosixPath, FilePath, RemoteFile, Stored),
    }
)
_FIXED_LIBRARIES = ("pyarrow", "polars")
_DECODED = (Stored, Gathered, Record)  # decoding gives a new object each time
_PACKAGE = __name__.partition(".")[0]


def call_operator(
    node: CompiledNode, arguments: tuple[object, ...], decode: Callable[[object], object]
) -> object:
    """Return what a node's function makes of `arguments` (items are tuples, still encoded).

    Raises:
        ChannelError: the function failed; says in which channel, with what, and on which line.
    """
    assert node.function is not None
    given: list[object] = []
    for argument in arguments:
        lend = _keep if node.op == "reduce" and not given else own_copy
        if type(argument) is tuple:
            given.append(tuple(lend(held, decode) for held in argument))
        else:
            given.append(lend(argument, decode))
    try:
        result = node.function(*given)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # exit() in a lambda must not end the kernel
        raise operator_error(node, arguments, error) from error
    return result if node.op == "reduce" else _contained(result)


def own_copy(held: object, decode: Callable[[object], object] = lambda held: held) -> object:
    """Return a value that may be changed without changing `held`."""
    if type(held) in _FIXED and type(held) is not Stored:
        return held
    value = decode(held)
    if value is not held or isinstance(held, _DECODED):
        return value
    return _copied(value)


def _keep(held: object, decode: Callable[[object], object]) -> object:
    """The accumulator of a fold: nobody else sees it, and copying it at each step is quadratic."""
    return decode(held)


def _copied(value: object) -> object:
    if type(value) in _FIXED or type(value).__module__.startswith(_FIXED_LIBRARIES):
        return value
    if type(value) is tuple:
        return tuple(map(_copied, value))
    try:
        return copy.deepcopy(value)
    except Exception:  # an open file, a lock: what cannot be copied is shared, as in any cell
        return value


def _contained(value: object) -> object:
    """Return a value whose lists, dicts and sets are new; what they hold is not copied."""
    if type(value) is tuple:
        return tuple(map(_contained, value))
    if type(value) is list:
        return list(map(_contained, value))
    if type(value) is dict:
        return {key: _contained(member) for key, member in value.items()}
    if type(value) is set:
        return set(value)
    return value


def operator_error(
    node: CompiledNode, arguments: tuple[object, ...], error: BaseException
) -> ChannelError:
    """Return an error that names channel, item and line."""
    label = node.name or node.label
    if isinstance(error, NbcacheError):
        said = str(error)
        if label in said:
            return ChannelError(said)
    else:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    item = arguments[-1] if arguments else ()
    members = item if type(item) is tuple else (item,)
    shown = ", ".join(summarise(member) for member in members)[:80]
    return ChannelError(f"channel {label}: {said} (the item: {shown}){_line(error)}")


def _line(error: BaseException) -> str:
    """Return the last line of the user's that the error came through."""
    found, traceback = "", error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        text = linecache.getline(code.co_filename, traceback.tb_lineno).strip()
        if text and module.partition(".")[0] != _PACKAGE:
            where = "" if code.co_name.startswith("<") else f" of {code.co_name}()"
            found = f"\n  line {traceback.tb_lineno}{where}: {text}"
        traceback = traceback.tb_next
    return found
