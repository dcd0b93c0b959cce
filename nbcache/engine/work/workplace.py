"""What a worker keeps between attempts: cache, journal, capture, compiled bodies, its own state.

Holds no decision about an attempt; `work.attempt` runs one in it. A folder to run in is reused
for as long as it stays empty, since making one costs as much as a small task.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nbcache.engine.identity.packages import is_covered
from nbcache.engine.identity.places import Places
from nbcache.engine.identity.read_state import digest_of_package
from nbcache.engine.spec import ProcessSpec
from nbcache.engine.work.isolation import Baseline
from nbcache.engine.work.module_state import LocalModules
from nbcache.engine.work.python_body import PythonBody, route_ipython_displays
from nbcache.engine.work.script_body import ScriptBody
from nbcache.engine.work.shown import Capture
from nbcache.engine.work.taken_modules import Taken
from nbcache.engine.work.watch import Watcher
from nbcache.errors import InputChangedError, UsageError
from nbcache.model.digest import Digest
from nbcache.model.row import WatchedRead
from nbcache.plan.identity.confidential import confidential_texts
from nbcache.store.cache import Cache
from nbcache.store.files import (
    deleted_error,
    host_token,
    is_alive,
    owned_name,
    owner_of,
    unlock,
    unlock_all,
)
from nbcache.store.filestate import StatKey, hash_file, stat_key
from nbcache.store.journal import JournalWriter
from nbcache.store.listing import Listing

SCRATCH = "nbcache-"  # folders in scratch space are named so
_OF_THE_WAY = frozenset({"nbcache", "cloudpickle"})  # that values travel with, whatever they are


class Workplace:
    """What a worker keeps between attempts: cache, journal, capture, compiled bodies, baseline."""

    def __init__(self, root: str | os.PathLike[str], capture: Capture) -> None:
        self.cache = Cache.open(root, create=False)  # a deleted one stays away
        self.capture = capture
        self.journal = JournalWriter(self.cache.root, sign=self.cache.sign)
        self._places: dict[str, Places] = {}
        self._bodies: dict[str, PythonBody | ScriptBody] = {}
        self._secrets: dict[str, tuple[str, ...]] = {}
        self._module_digests: dict[str, tuple[StatKey, Digest]] = {}
        self._taken_modules: dict[str, set[str]] = {}
        # What was found from those that a process took, among the loaded ones.
        self._followed: dict[tuple[str, frozenset[Taken], frozenset[str]], set[str]] = {}
        self._packages: dict[str, Digest | None] = {}
        self._folder: Path | None = None
        self._in_folder = Listing("")
        self._scratch: str | None = None
        self.real_folder = ""
        self._routed = False
        self.usage = Usage()
        os.environ["MPLBACKEND"] = "agg"
        self.watcher = Watcher(self.cache.files)
        self.watcher.install()
        own = self.places("")
        self.modules = LocalModules(own.is_local_module, self.watcher)
        self.modules.install()
        # So says Python 3.12 of `os.fork`, for the thread of ours that reads what is shown.
        warnings.filterwarnings(
            "ignore", r"This process \(pid=\d+\) is multi-threaded", DeprecationWarning
        )
        self.baseline = Baseline(own.is_local_module)

    def places(self, folder: str) -> Places:
        if folder not in self._places:
            self._places[folder] = Places(str(self.cache.root), folder)
        return self._places[folder]

    def body(self, process: ProcessSpec) -> PythonBody | ScriptBody:
        body = self._bodies.get(process.key)
        if body is None:
            body = PythonBody(process) if process.language == "python" else ScriptBody(process)
            self._bodies[process.key] = body
        return body

    @property
    def mapped(self) -> int:
        """How many buffers the bodies here map into memory."""
        return sum(each.mapped for each in self._bodies.values() if isinstance(each, PythonBody))

    def secrets(self, process: ProcessSpec) -> tuple[str, ...]:
        """Return what nothing that an attempt shows may contain, of what it is started with."""
        found = self._secrets.get(process.key)
        if found is None:
            known = {**(process.environ or os.environ), **process.env}
            found = (*process.secrets.values(), *confidential_texts(known))
            self._secrets[process.key] = found
        return found

    def folder(self, scratch: str | None = None, beside: str = "") -> Path:
        """Go to an empty folder, and return it: that of the last attempt where it stayed empty.

        With `scratch` (from `beside`, the notebook's folder) it lies there, and a link in the
        cache's `work` leads to it: so what becomes of folders whose worker died is one rule.

        Raises:
            OSError: it cannot be made. UsageError: a variable of `scratch` is not set.
            CannotKeepError: somebody deleted the cache.
        """
        if self._folder is not None and scratch != self._scratch:
            self.drop_folder()
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError):  # somebody may clear `work` away
                os.chdir(self.real_folder)
                unlock(self._folder)
                return self._folder
            self.drop_folder()
        if not self.cache.is_there():  # nothing of it is made anew
            raise deleted_error(self.cache.root)
        self.cache.work.mkdir(exist_ok=True)
        name = owned_name("w")
        folder = self.cache.work / name
        if scratch is None:
            folder.mkdir()
        else:
            folder = scratch_root(scratch, beside) / f"{SCRATCH}{name}"
            try:
                folder.mkdir(parents=True)
            except OSError as error:
                raise UsageError(
                    f"--scratch {scratch}: no folder can be made there: {error.strerror}"
                ) from error
            os.symlink(folder, self.cache.work / name)
        os.chdir(folder)
        self._folder, self._scratch = folder, scratch
        self.real_folder = os.path.realpath(folder)
        self._in_folder = Listing(self.real_folder)
        return folder

    def leave_folder(self, keep_as: str | None) -> str | None:
        """End the use of the folder; keep it under a name if wanted. Returns where it is kept.

        None where nothing is kept, also because the task has deleted the folder.
        """
        if self._folder is None:
            return None
        if keep_as is None:
            if self._in_folder.names(always=False):
                self.drop_folder()
            return None
        if not self._folder.is_dir():
            self.drop_folder()
            return None
        folder, self._folder = self._folder, None
        os.chdir(self.cache.work)
        kept = self.cache.work / keep_as
        if self._scratch is None:
            os.rename(folder, kept)
        else:  # brought back: it may lie on another file system
            unlock_all(folder)
            shutil.move(folder, kept, copy_function=_copy_file)
            os.unlink(self.cache.work / folder.name.removeprefix(SCRATCH))
        return str(kept)

    def drop_folder(self) -> None:
        """Delete the folder that attempts ran in."""
        folder, self._folder = self._folder, None
        if folder is not None:
            with contextlib.suppress(FileNotFoundError):  # deleted, perhaps with the whole cache
                os.chdir(self.cache.work)
                remove_folder(self.cache.work / folder.name.removeprefix(SCRATCH))

    def forget(self, key: str) -> None:
        """Let go of a process: of its code and its mapped data."""
        self._bodies.pop(key, None)
        self._secrets.pop(key, None)
        self._taken_modules.pop(key, None)
        self._followed = {way: found for way, found in self._followed.items() if way[0] != key}
        self.baseline.forget(key)

    def close(self) -> None:
        """Let go of the journal and of the folder, where it is empty."""
        self.journal.close()
        with contextlib.suppress(FileNotFoundError):  # somebody deleted the cache
            if self._folder is not None and not os.listdir(self._folder):
                self.drop_folder()
        self._folder = None

    def check_modules(self, process: ProcessSpec, unknown: Mapping[str, str]) -> None:
        """Compare the local modules that are loaded with what the fingerprint was made of, and
        those that it did not know, by name with their files, with what these hold.

        Raises:
            InputChangedError: one of them changed since.
        """
        loaded, elsewhere = self.modules.loaded, self.watcher.taken.run
        for name, path in unknown.items():
            if name in loaded and self.modules.is_edited(name):
                raise self._changed(name, path)
            if name in elsewhere and elsewhere[name][1] != self.watcher.state.file(path):
                raise self._changed(name, path)
        for name, source in process.modules.items():
            if name not in loaded:
                continue
            path = source.path
            if self.modules.digest(name) not in (None, source.digest):
                raise self._changed(name, path)
            if not os.path.isfile(path):
                continue  # in an archive: what was loaded is what was compared
            key = stat_key(path)
            known = self._module_digests.get(path)
            if known is None or known[0] != key:
                known = (key, hash_file(path, key))
                self._module_digests[path] = known
            if known[1] != source.digest:
                raise self._changed(name, path)

    @staticmethod
    def _changed(name: str, path: str) -> InputChangedError:
        return InputChangedError(
            f"the module {name} ({path}) changed after the run began.\n  Run again: the "
            "new text then counts."
        )

    def unknown_modules(self, process: ProcessSpec, before: set[str]) -> dict[str, str]:
        """Return the local modules that an attempt took and the fingerprint did not know, or of
        which it knew less.

        These are those it took by a name or a pickle, with what these reach, and those it loaded in
        another way (`before` are those that were there), or an earlier attempt of the process did.
        """
        self.watcher.hear_children()
        run = {name: file for name, (file, _) in self.watcher.taken.run.items()}
        loaded = self.modules.loaded | run
        if not loaded:
            return {}
        known = self._taken_modules.setdefault(process.key, set())
        new = loaded.keys() - before - process.modules.keys()
        used = {*process.modules, *known, *new}
        taken = frozenset(self.watcher.taken.beyond(process.modules, used, loaded))
        way = (process.key, taken, frozenset(loaded))
        if taken and way not in self._followed:
            self._followed[way] = self.watcher.reached_beyond(process.modules, taken, loaded)
        found = self._followed.get(way, set())
        known |= new - found
        return {name: loaded[name] for name in known | found if name in loaded}

    def packages_of(
        self, modules: Iterable[str], process: ProcessSpec, body: PythonBody
    ) -> tuple[WatchedRead, ...]:
        """Return the packages among modules of which the hash says nothing, and what is set there.

        `modules` are those that the body asked for by a name that only a run knows, and those of
        its inputs' classes: what it does with an object is done by its class's package.
        """
        tops = {each.partition(".")[0] for each in modules} - process.packages.keys()
        found = []
        for top in sorted(tops - _OF_THE_WAY):
            if top not in self._packages:  # a worker lives no longer than what is installed
                self._packages[top] = digest_of_package(top)
            digest = self._packages[top]
            if digest is not None and is_covered(top, process.packages):
                continue
            settings = body.settings.digest(top)
            if digest is not None:
                found.append(WatchedRead("package", top, digest))
            if settings is not None or (digest is None and self._is_set_by_name(top)):
                found.append(WatchedRead("settings", top, settings))
        return tuple(found)

    def _is_set_by_name(self, top: str) -> bool:
        """Whether cells may set something in a module that is no package, and others know it."""
        return top == "decimal" or top in self.modules.loaded

    def route_displays(self, show: Callable[[object], None]) -> None:
        if not self._routed:
            self._routed = True
            route_ipython_displays(show, self.capture.add)


class _Counters(NamedTuple):
    """Of a process since it began. Bytes; `peak` and `below` are the most that it, and a child of
    it that has ended, held."""

    seconds: float
    peak: int
    below: int


_UNIT = 1 if sys.platform == "darwin" else 1024  # of what getrusage says of memory, in bytes


class Usage:
    """Memory, processor time and bytes of an attempt, from counters of the process."""

    def __init__(self) -> None:
        self._io = self._open("/proc/self/io", os.O_RDONLY)
        self._refs = self._open("/proc/self/clear_refs", os.O_WRONLY)
        self._before = _Counters(0.0, 0, 0)
        self._moved = (0, 0)  # bytes that the body read and wrote

    @staticmethod
    def _open(path: str, flags: int) -> int | None:
        try:
            return os.open(path, flags | os.O_CLOEXEC)
        except OSError:
            return None

    def begin(self) -> None:
        if self._refs is not None:
            with contextlib.suppress(OSError):
                os.write(self._refs, b"5")  # resets the high water mark of this process
        self._before, self._moved = self._read(), (0, 0)

    @contextlib.contextmanager
    def of_body(self) -> Iterator[None]:
        """Count the bytes that are read and written meanwhile: not those of staging and keeping."""
        read, written = self._bytes()
        try:
            yield
        finally:
            now = self._bytes()
            self._moved = now[0] - read, now[1] - written

    def _bytes(self) -> tuple[int, int]:
        if self._io is None:
            return 0, 0
        words = os.pread(self._io, 512, 0).split()
        return int(words[1]), int(words[3])

    def _read(self) -> _Counters:
        own = resource.getrusage(resource.RUSAGE_SELF)
        below = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime
        return _Counters(seconds, own.ru_maxrss * _UNIT, below.ru_maxrss * _UNIT)

    def end(self, peak_below: int) -> dict[str, object]:
        """Return the columns of the row; `peak_below` is the peak of the script, in bytes."""
        before, now = self._before, self._read()
        started = now.below if now.below > before.below else 0  # else an earlier one held more
        usage: dict[str, object] = {
            "peak_rss": peak_below or max(now.peak, started),
            "cpu_time": round(now.seconds - before.seconds, 6),
        }
        if self._io is not None:
            usage["rchar"], usage["wchar"] = self._moved
        return usage


def scratch_root(scratch: str, beside: str) -> Path:
    """Return the folder that `--scratch` means on this machine, in a notebook of this folder.

    Raises:
        UsageError: it names an environment variable that is not set here.
    """
    if scratch.lower() == "true":
        return Path(tempfile.gettempdir())
    place = os.path.expanduser(os.path.expandvars(scratch))
    if "$" in place:
        raise UsageError(f"--scratch {scratch}: this variable is not set where the task runs")
    return Path(os.path.abspath(os.path.join(beside, place)))


def remove_folder(folder: Path) -> None:
    """Delete a work directory, also where a task took its own permissions away.

    A link to a folder in scratch space is followed there.
    """
    if folder.is_symlink():
        target = Path(os.readlink(folder))
        if target.name.startswith(f"{SCRATCH}w-"):
            remove_folder(target)
        folder.unlink()
        return
    try:
        shutil.rmtree(folder)
    except OSError:
        unlock_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _copy_file(source: str, target: str) -> None:
    """Copy a file; what is none (a pipe, a socket) stays behind."""
    if os.path.isfile(source):
        shutil.copy2(source, target)


def keep_folder(work: Path, pid: int | None, attempt: str) -> str | None:
    """Give a dead worker's folder the name of the attempt that ran in it; return its path."""
    if pid is None:
        return None
    try:
        names = os.listdir(work)
    except FileNotFoundError:  # somebody deleted the cache
        return None
    for name in names:
        if name.startswith(f"w-{host_token()}-{pid}-"):
            kept = work / attempt
            with contextlib.suppress(OSError):
                os.rename(work / name, kept)
                return str(kept)
    return None


def remove_left_folders(work: Path) -> None:
    """Remove the folders of workers of this host that have ended: nothing in them counts."""
    try:
        entries = list(os.scandir(work))
    except FileNotFoundError:  # somebody deleted the cache
        return
    for entry in entries:
        if is_left_behind(entry.name):
            remove_folder(Path(entry.path))


def is_left_behind(name: str) -> bool:
    """Say whether a folder has the name of a worker of this host that has ended."""
    owner = owner_of(name)
    return name.startswith("w-") and owner is not None and not is_alive(owner)
