"""Puts a warm worker back into the state in which it started: nothing leaks to the next task.

What is cheap to compare is compared and restored after each attempt (working directory,
environment, signal handlers, warning filters, import path, umask, locale, builtins, the state of
the process, the settings of well-known libraries). What cannot be restored ends the worker instead
(`retire`): a local module whose globals the task changed, an installed module into which the body
or a helper assigned or registered something, threads or child processes that were left running,
many descriptors that were left open. Random generators are seeded anew
before each attempt.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # 20 times as quick as signal: no enums
import builtins
import contextlib
import copy
import locale
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from nbcache.engine.work.process_state import ProcessState

# Libraries keep some open; a body that leaves one in each task would have none at last.
_MORE_DESCRIPTORS = 64
_SIGNALS = tuple(sorted(int(number) for number in signal.valid_signals() if int(number) < 32))


class Baseline:
    """The state of this process as a task should find it; made once, when the worker is ready.

    `is_users` says whether a file holds code of the user's.
    """

    def __init__(self, is_users: Callable[[str], bool]) -> None:
        self._is_users = is_users
        self._environ = dict(os.environ)
        self._wanted: dict[str, dict[bytes, bytes]] = {}  # by process: its environment, encoded
        self._umask = _umask()
        self._handlers = [_signal.getsignal(number) for number in _SIGNALS]
        self._filters = list(warnings.filters)
        self._path = list(sys.path)
        self._argv = list(sys.argv)
        self._builtins = dict(builtins.__dict__)
        self._locale = locale.setlocale(locale.LC_ALL)
        self._state = ProcessState()
        self._displayhook, self._excepthook = sys.displayhook, sys.excepthook
        self._threads = set(threading.enumerate())
        self._descriptors = _next_descriptor()
        self._libraries: dict[str, Any] = {}

    def prepare(
        self,
        key: str,
        environ: Mapping[str, str] | None,
        extra: Mapping[str, str],
        path: tuple[str, ...],
    ) -> None:
        """Set what an attempt of the process `key` starts from; cheap when nothing differs."""
        wanted = self._wanted.get(key)
        if wanted is None:
            merged = {**(self._environ if environ is None else environ), **extra}
            wanted = {os.fsencode(name): os.fsencode(text) for name, text in merged.items()}
            self._wanted[key] = wanted
        if os.environ._data != wanted:  # type: ignore[attr-defined]
            _set_environ(wanted)
        self._path_now = list(path) or self._path
        if sys.path != self._path_now:
            sys.path[:] = self._path_now
        _reset_warning_registries()
        self._remember_libraries()

    def forget(self, key: str) -> None:
        """Let go of a process's environment."""
        self._wanted.pop(key, None)

    def seed(self, seed: int | None) -> None:
        """Seed the random generators that are loaded, from `seed` or anew from the system."""
        random.seed(int.from_bytes(os.urandom(16), "little") if seed is None else seed)
        numpy = sys.modules.get("numpy")
        if seed is not None and numpy is None:
            with contextlib.suppress(Exception):
                numpy = __import__("numpy")
        if numpy is not None and hasattr(numpy, "random"):
            numpy.random.seed(
                int.from_bytes(os.urandom(4), "little") if seed is None else seed % 2**32
            )
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "manual_seed"):
            torch.manual_seed(int.from_bytes(os.urandom(7), "little") if seed is None else seed)

    def restore(self, mapped: int) -> bool:
        """Undo what the attempt changed; return whether the worker has to be replaced.

        `mapped` is how many buffers are mapped into memory: their descriptors are no task's.
        """
        os.umask(self._umask)
        if list(map(_signal.getsignal, _SIGNALS)) != self._handlers:
            for number, handler in zip(_SIGNALS, self._handlers, strict=True):
                if _signal.getsignal(number) is not handler and handler is not None:
                    _signal.signal(number, handler)
        if warnings.filters != self._filters:
            warnings.filters[:] = self._filters  # type: ignore[index]
        if sys.argv != self._argv:
            sys.argv[:] = self._argv
        self.restore_builtins()
        if locale.setlocale(locale.LC_ALL) != self._locale:
            locale.setlocale(locale.LC_ALL, self._locale)
        self._state.restore()
        sys.displayhook, sys.excepthook = self._displayhook, self._excepthook
        if sys.gettrace() is not None:
            sys.settrace(None)
        self._restore_libraries()
        most = self._descriptors + mapped + _MORE_DESCRIPTORS
        return self._left_threads() or _next_descriptor() > most

    def restore_builtins(self) -> None:
        """Undo what a body did to builtins: whatever looks at its results calls them as well."""
        if builtins.__dict__ != self._builtins:
            builtins.__dict__.clear()
            builtins.__dict__.update(self._builtins)

    def _left_threads(self) -> bool:
        """Say whether the task left a thread that goes on working.

        A daemon is a library's helper, unless code of the user's is what it runs.
        """
        if threading.active_count() <= len(self._threads):
            return False
        left = [thread for thread in threading.enumerate() if thread not in self._threads]
        frames = sys._current_frames()
        return any(
            not thread.daemon
            or self._runs_users_code(frames.get(thread.ident or 0))
            or self._is_users_function(  # also where a timer has not called it yet
                getattr(thread, "function", None) or getattr(thread, "_target", None)
            )
            for thread in left
        )

    def _is_users_function(self, function: object) -> bool:
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if code is None:
            return False
        in_body = getattr(function, "__module__", None) == "__main__"
        return in_body or self._is_users(code.co_filename)

    def _runs_users_code(self, frame: FrameType | None) -> bool:
        while frame is not None:
            in_body = frame.f_globals.get("__name__") == "__main__"
            if in_body or self._is_users(frame.f_code.co_filename):
                return True
            frame = frame.f_back
        return False

    def _remember_libraries(self) -> None:
        for name, (read, _) in _LIBRARY_STATE.items():
            if name in sys.modules and name not in self._libraries:
                self._libraries[name] = read(sys.modules[name])

    def _restore_libraries(self) -> None:
        """Put back settings; a library that the attempt loaded first gets its fresh defaults."""
        for name, (_, write) in _LIBRARY_STATE.items():
            module = sys.modules.get(name)
            if module is not None:
                write(module, self._libraries.get(name))


def _next_descriptor() -> int:
    """Return the number that the next file to be opened gets: below it, all are taken."""
    try:
        found = os.dup(1)
    except OSError:  # the body closed it
        return 0
    os.close(found)
    return found


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _set_environ(wanted: Mapping[bytes, bytes]) -> None:
    data = os.environ._data  # type: ignore[attr-defined]
    zone = data.get(b"TZ")
    for name in [name for name in data if name not in wanted]:
        os.unsetenv(name)
        del data[name]
    for name, text in wanted.items():
        if data.get(name) != text:
            os.putenv(name, text)
            data[name] = text
    if data.get(b"TZ") != zone:
        time.tzset()  # the C library reads the variable, as in a new process


def _reset_warning_registries() -> None:
    """Let every warning be shown again: "once per place" means once per task."""
    with warnings.catch_warnings():  # both ends tell the registries that filters have changed
        pass


def _write_rc(matplotlib: Any, saved: Any) -> None:
    wanted = matplotlib.rcParamsDefault if saved is None else saved
    changed = {
        key: value
        for key, value in wanted.items()
        if key != "backend" and dict.get(matplotlib.rcParams, key) != value
    }
    if changed:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matplotlib.rcParams.update(changed)


def _write_pandas(config: Any, saved: Any) -> None:
    if saved is None:
        config.reset_option("all")
    elif config._global_config != saved:
        config._global_config.clear()
        config._global_config.update(copy.deepcopy(saved))


_NUMPY_ERR = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


def _write_numpy(numpy: Any, saved: Any) -> None:
    errors, printing = saved or (_NUMPY_ERR, None)
    if numpy.geterr() != errors:
        numpy.seterr(**errors)
    if printing is not None and numpy.get_printoptions() != printing:
        numpy.set_printoptions(**printing)


def _read_logging(logging: Any) -> Any:
    root = logging.getLogger()
    return (root.level, list(root.handlers), logging.root.manager.disable)


def _write_logging(logging: Any, saved: Any) -> None:
    level, handlers, disabled = saved or (logging.WARNING, [], 0)
    root = logging.getLogger()
    if root.level != level:
        root.setLevel(level)
    if root.handlers != handlers:
        root.handlers[:] = handlers
    if logging.root.manager.disable != disabled:
        logging.disable(disabled)


def _write_sklearn(module: Any, saved: Any) -> None:
    wanted = module._global_config if saved is None else saved
    if module.get_config() != wanted:
        module.set_config(**wanted)


def _write_start_method(context: Any, saved: Any) -> None:
    context._default_context._actual_context = saved


_LIBRARY_STATE: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    "matplotlib": (lambda matplotlib: dict(matplotlib.rcParams), _write_rc),
    "pandas._config.config": (
        lambda config: copy.deepcopy(config._global_config),
        _write_pandas,
    ),
    "numpy": (lambda numpy: (numpy.geterr(), numpy.get_printoptions()), _write_numpy),
    "decimal": (
        lambda decimal: decimal.getcontext().copy(),
        lambda decimal, saved: decimal.setcontext((saved or decimal.DefaultContext).copy()),
    ),
    "logging": (_read_logging, _write_logging),
    "socket": (
        lambda socket: socket.getdefaulttimeout(),
        lambda socket, saved: socket.setdefaulttimeout(saved),
    ),
    "multiprocessing.context": (
        lambda context: context._default_context._actual_context,
        _write_start_method,
    ),
    "sklearn._config": (lambda sklearn: sklearn.get_config(), _write_sklearn),
}
"""Module -> how its settings are read, and put back; None: as when it was imported."""
