"""Find what a Python body reads without having declared it: files, variables, local modules, tools.

`listening` has Python tell of it. What libraries open by themselves is seen where the system tells
(`opened_files`), and everywhere where a captured value, an input or an argument of a program is the
file's path. Forked children tell what they read through a file in memory. Packages, temporary
folders, the cache, caches of libraries and system folders do not count, but the notebook's own
folder always does.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from glob import glob, has_magic
from shutil import which
from threading import get_ident
from types import CodeType, FrameType
from urllib.parse import unquote, urlsplit

from nbcache.engine.identity.modules import reached_beyond
from nbcache.engine.identity.places import Places
from nbcache.engine.identity.programs import Started, name_on_path, started_by
from nbcache.engine.identity.read_state import CHANGED, ReadState, links_on, state_of, what_is_at
from nbcache.engine.spec import ModuleSource
from nbcache.engine.work.callers import (
    IMPORTING,
    LINKS,
    ON_BEHALF,
    PROGRAMS,
    READING_SOURCE,
    SAME,
    SEARCHES,
    SEEKING_PACKAGES,
    STATS,
    called_by,
    is_beside_the_body,
    is_plain,
    is_removing,
    library_of,
    lists_path,
    loads_from_archive,
    looks_at_entries,
    runs_what_is_known,
    takes_no_code,
    who_asks_for_path,
)
from nbcache.engine.work.child_notes import ChildNotes
from nbcache.engine.work.import_reads import ImportReads
from nbcache.engine.work.listening import (
    forget_calls_of_import,
    hear,
    listen,
    path_of_folder,
    watch_imports_in,
)
from nbcache.engine.work.opened_files import OpenedFiles
from nbcache.engine.work.opening_modes import is_making, is_reading, is_writing
from nbcache.engine.work.taken_modules import Taken, TakenModules
from nbcache.engine.work.variable_reads import VariableReads, variable_rows
from nbcache.model.digest import Digest
from nbcache.model.row import WatchedRead
from nbcache.store.filestate import FileTable, StatKey

_READ_FOLDERS = ("/pyarrow/", "/polars/")  # libraries that are given a folder, or a pattern


class Watcher:
    """Takes note between `begin` and `end`; one per process, since audit hooks stay for ever."""

    def __init__(self, files: FileTable) -> None:
        self.state = ReadState(files)
        self.is_active = self._paused = False
        self._children = ChildNotes()
        self.variables = VariableReads(self._children, self._is_others)
        self._reads: dict[tuple[str, str], StatKey | None] = {}  # kind and name -> stat then
        self._named: dict[str, StatKey | None] = {}  # files that values name: read unless written
        self._files = OpenedFiles()
        self._asked: dict[str, Digest | None] = {}  # paths by what was there when it was asked
        self._written: set[str] = set()  # files that the body itself made as they are
        self.taken = TakenModules(self._children)
        # During an import of local modules: kinds and names.
        self._import_reads: dict[tuple[str, str], None] | None = None
        self._gathering: set[int] = set()  # threads that ask what happened
        self._folder = ""
        self._linked: frozenset[str] = frozenset()
        self._places: Places | None = None
        self._installed = False

    def install(self) -> None:
        """Add the audit hook and replace the class of `os.environ`, once."""
        if self._installed:
            return
        self._installed = True
        self._children.open()
        events = {
            "open": self._opened,
            "os.truncate": self._truncated,
            "os.listdir": self._listed,
            "os.scandir": self._listed,
            "os.rename": self._renamed,
            "sqlite3.connect": self._connected,
            "subprocess.Popen": self._started,
            "os.system": self._started,
            "os.posix_spawn": lambda event: self._started((*event[:2], None, event[2])),
            "pickle.find_class": self._found_class,
            "exec": self._executed,
        }
        listen(self, events)

    def begin(self, places: Places, folder: str, linked: Iterable[str] = ()) -> None:
        """Start: relative paths are below the current `folder`, where everything is the task's.

        linked: originals of inputs, which nobody may write to through the links in the folder.
        """
        hear(self)
        self._places = places
        self._linked = frozenset(map(os.path.realpath, linked))
        self._folder = folder + os.sep
        self._reads, self._named = {}, {}
        self._asked, self._written = {}, set()
        self.variables.begin()
        self.taken.begin()
        self._children.begin()
        self._files.begin(places.folders, lambda path: not places.is_users(path))
        self.is_active = True

    def may_read(self, paths: Iterable[str]) -> None:
        """Note files that a value of the task names: they count as read, unless it writes them."""
        if not self.is_active or self._places is None:
            return
        for path in paths:
            if path not in self._named and self._places.is_users(path):
                state = state_of(path)
                if state is None or os.path.isfile(path):  # None: it is the task that makes it
                    self._named[path] = state
                else:
                    self._look_below(path)

    def look_around(self, paths: Iterable[str]) -> None:
        """Look at what libraries open in folders that the body's code names, or files of which."""
        for each in paths:
            folder = each if os.path.isdir(each) else os.path.dirname(each)
            if len(folder) > 1 and os.path.isdir(folder):
                self._look_below(folder)

    def _look_below(self, folder: str) -> None:
        if self._places is None or not self._places.is_users(folder + os.sep):
            return
        active, self.is_active = self.is_active, False  # the search itself is no read
        try:
            self._files.look_below(folder)
        finally:
            self.is_active = active

    @property
    def overlooked(self) -> tuple[str, ...]:
        """Folders in which libraries may have opened what nobody saw: they are too many."""
        return self._files.overlooked

    def pause(self) -> None:
        """Take no note for a while: what follows is not the body's doing."""
        self._paused = self.is_active or self._paused
        self.is_active = False
        if self._paused:
            self._files.gather()

    def resume(self) -> None:
        """Go on after a pause, if there is anything to go on with."""
        if self._paused:
            self._files.forget()
        self.is_active, self._paused = self._paused, False

    def begin_import(self) -> None:
        """Take note separately of what an import of local modules reads."""
        if self.is_active:
            self._import_reads = {}
            self.variables.begin_import()

    def end_import(self, modules: Iterable[str]) -> ImportReads | None:
        """Return what was read since `begin_import`; None: nothing, or nobody was watching."""
        reads, self._import_reads = self._import_reads, None
        variables, names = self.variables.end_import()
        if not reads and not variables and names is None:
            return None
        active, self.is_active = self.is_active, False
        states = {
            (kind, name): (
                state_of(name) if kind == "file" else None,
                self.state.digest(kind, name),
            )
            for kind, name in reads or ()
        }
        self.is_active = active
        return ImportReads(frozenset(modules), states, variables, names)

    def end(
        self,
        declared: Mapping[str, str],
        modules: Mapping[str, str],
        imports: Iterable[ImportReads] = (),
        sys_path: Sequence[str] = (),
        *,
        by_text: bool = True,
    ) -> tuple[WatchedRead, ...]:
        """Stop, and return what was read: files and modules with the digests that they have now.

        `declared` are environment variables that the hash knows; `modules` are local modules that
        it does not, with their files, which count by their code alone unless `by_text`; `sys_path`
        is where the notebook finds modules.
        """
        self.is_active = self._paused = False
        forget_calls_of_import()
        self.hear_children()
        self._files.gather()
        for path, state in self._files.spelled():
            self._named.setdefault(path, state)
        earlier = [read for each in imports for read in each.rows(declared)]
        if self.variables.lists_all:
            self._reads["variables", "names"] = None
        noted = self._reads or self._named or self._asked or self.variables.read or earlier
        if not (noted or modules or self._files.has_any):
            return ()
        for path, state in self._named.items():
            if state is not None and path not in self._written and state_of(path) == state:
                self._reads.setdefault(("file", path), state)
        self._add_past_python()
        reads = [self._as_it_was(kind, name, state) for (kind, name), state in self._reads.items()]
        # What came or went meanwhile was the task's own doing.
        reads += [
            WatchedRead("exists", path, found)
            for path, found in self._asked.items()
            if path not in self._written
            and ("file", path) not in self._reads
            and what_is_at(path) == found
        ]
        reads += variable_rows(self.variables.read, declared)
        kind = "module" if by_text else "code"
        reads += [self.state.module_read(kind, *each, sys_path) for each in modules.items()]
        found = {(each.kind, each.name): self._shared(each) for each in (*reads, *earlier)}
        return tuple(found[key] for key in sorted(found))

    def _add_past_python(self) -> None:
        """Count what a library opened of the user's, and the task neither wrote nor was given."""
        known = [name for kind, name in self._reads if kind == "file"]
        known += [path for kind, name in self._reads if kind == "tool" and (path := which(name))]
        for path, changed in self._files.past_python((*known, *self._named, *self._written)):
            if self._users(path) is None or self._is_linked(path) or not os.path.isfile(path):
                continue
            self._reads["file", path] = None if changed else state_of(path)
        for path in self._files.folders_past_python():
            if self._users(path) is not None and not self._is_linked(path) and os.path.isdir(path):
                self._reads.setdefault(("folder", path), None)

    def _is_linked(self, real: str) -> bool:
        return any(real == each or real.startswith(each + os.sep) for each in self._linked)

    def _shared(self, read: WatchedRead) -> WatchedRead:
        """Return a read under the name that a copy of the whole project has for it, too."""
        if read.kind not in ("file", "folder", "exists", "link") or self._places is None:
            return read
        return replace(read, name=self._places.shared_name(read.name))

    def _as_it_was(self, kind: str, name: str, state: StatKey | None) -> WatchedRead:
        if kind == "file" and state_of(name) != state:
            return WatchedRead(kind, name, CHANGED)
        if kind == "variables":
            return WatchedRead(kind, name, self.variables.names_at_first())
        return WatchedRead(kind, name, self.state.digest(kind, name))

    def hear_children(self) -> None:
        """Take over what forked children noted."""
        for kind, name, found in self._children.heard():
            if kind == "env":
                self.variables.read.setdefault(name, found)
            elif kind == "python":
                self._files.by_python(name)
            elif kind == "child":
                self._files.add_child(int(name), is_program=False)
            elif kind == "module":
                self.taken.ask(name, **found)
            elif kind == "loaded":
                self.taken.loaded_by_child(name, *found)
            elif kind == "named":
                self._named.setdefault(name, tuple(found) if found else None)
            else:
                self._reads.setdefault((kind, name), tuple(found) if found else None)

    def asked_by_name(
        self, module: str, frame: FrameType, name: str = "", *, is_packages: bool = False
    ) -> None:
        """Code asks for a module by name, or for this part of it."""
        is_named = not is_packages and not self._is_others(frame)
        self.taken.ask(module, name, is_taken=not takes_no_code(frame), is_named=is_named)

    def _executed(self, arguments: tuple[object, ...]) -> None:
        code = arguments[0]
        if not isinstance(code, CodeType) or is_plain(code):
            return
        frame = sys._getframe(2)
        if not runs_what_is_known(frame):
            watch_imports_in(code, is_packages=library_of(frame) is not None)

    @property
    def told(self) -> set[object]:
        """Imports that `taken` knows already."""
        return self.taken.told

    def module_run(self, module: str, file: str, frame: FrameType) -> None:
        """Code runs a module that is not loaded for it."""
        if self._is_local_module(file):
            self.taken.run[module] = (file, self.state.file(file))
            self.asked_by_name(module, frame)

    def _is_local_module(self, file: str) -> bool:
        return self._places is not None and self._places.is_local_module(file)

    def _found_class(self, found: tuple[object, ...]) -> None:
        self.taken.ask(str(found[0]), str(found[1]), is_taken=True, is_named=False)

    def reached_beyond(
        self,
        known: Mapping[str, ModuleSource],
        taken: Set[Taken],
        loaded: Iterable[str],
    ) -> set[str]:
        """Return the loaded local modules of which more is reached by what was taken than what is
        known of them."""
        self.pause()
        try:
            return reached_beyond(known, taken, loaded)
        finally:
            self.resume()

    def read_file(self, path: str) -> None:
        """Note that the body reads a file."""
        if self.is_active:
            self._note("file", path)

    def _note(self, kind: str, name: str) -> None:
        if kind == "file" and name in self._written:
            return
        state = state_of(name) if kind == "file" else None
        if self._children.is_child:
            self._children.tell(kind, name, state)
            return
        self._reads.setdefault((kind, name), state)
        if self._import_reads is not None:
            self._import_reads[kind, name] = None

    def _users(self, path: object) -> str | None:
        """Return a path whole, if it is one of the user's outside of the task's folder."""
        if not isinstance(path, (str, bytes, os.PathLike)) or self._places is None:
            return None
        try:
            full = os.path.abspath(os.fsdecode(path))
        except (ValueError, OSError):
            return None
        if full.startswith(self._folder) or not self._places.is_users(full):
            return None
        return full

    def _listed(self, arguments: tuple[object, ...]) -> None:
        if get_ident() in self._gathering:
            return
        if self._files.aside:
            self._listed_aside("")
        named = arguments[0]
        path = self._users(path_of_folder(named) if isinstance(named, int) else named)
        if path is None or path + os.sep == self._folder or self._places is None:
            return
        is_package = self._places.is_package
        is_import = called_by(IMPORTING + SEEKING_PACKAGES, is_package)
        if is_import and not self._children.is_child:
            self._listed_aside(path)
            return
        self._by_python(path)
        if ("folder", path) in self._reads and self._import_reads is None:
            return
        if is_import or not os.path.isdir(path) or lists_path(is_package) or is_removing():
            return
        self._note("folder", path)
        if looks_at_entries(is_package):
            inside = [os.path.join(path, each) for each in os.listdir(path)]
            for each in filter(os.path.isfile, inside):
                self._note("file", each)

    def _listed_aside(self, path: str) -> None:
        self._gathering.add(get_ident())  # what that lists is no read
        try:
            self._files.listed_aside(path)
        finally:
            self._gathering.discard(get_ident())

    def _renamed(self, arguments: tuple[object, ...]) -> None:
        path = self._users(arguments[1])
        if path is not None:
            self._written.add(path)

    def spelled(self, path: str, by: str) -> None:
        """A library took a path as a text: it may open the file where no hook sees it.

        Of folders and patterns that is believed of those libraries alone that look into them so.
        """
        full = self._users(path) if path not in self._named else None
        if full is None or full.endswith(".py"):
            return
        inside: Iterable[str] = [full]
        if any(each in by for each in _READ_FOLDERS):  # what is listed here is seen being listed
            if os.path.isdir(full):
                inside = [
                    os.path.join(top, name) for top, _, names in os.walk(full) for name in names
                ]
            elif has_magic(full):
                inside = glob(full, recursive=True)
        for each in inside:
            if os.path.isfile(each) or not os.path.exists(each):
                self._spell(each)

    def _spell(self, path: str) -> None:
        state = state_of(path)
        if self._children.is_child:
            self._children.tell("named", path, state)
        elif not self._files.spell(path, state):
            self.may_read([path])

    def _by_python(self, path: str) -> None:
        self._files.by_python(path)
        if self._children.is_child:
            self._children.tell("python", path, None)

    def opened_beside(self, path: object) -> None:
        """A thread of nbcache or the kernel opens a file."""
        full = self._users(path)
        if full is not None:
            self._by_python(full)

    def forked(self) -> None:
        """This process is a fork of the one that is watched."""
        if self.is_active:
            self._children.tell("child", str(os.getpid()), None)

    def program_started(self, process: int) -> None:
        """The body started a program."""
        self._files.add_child(process, is_program=True)

    def opened_below(self, path: object, flags: int) -> None:
        """A file was opened by its name below an open folder, of which the event says nothing."""
        self._opened((path, None, flags))

    def is_told(self) -> bool:
        """Whether what happens now is the body's doing."""
        return self.is_active and not is_beside_the_body()

    def asked_for(self, path: object, asked: str) -> None:
        """Code asks what is at a path: whether something is there, or all that stat tells."""
        question, full = self._asked_by_user(path, asked)
        if question in PROGRAMS and (name := name_on_path(path)):
            self._note("tool", name)
            return
        if full is None or not question or question in LINKS or full in self._written:
            return
        if question in SAME:
            for each in links_on(full):
                self._note_link(each)
        if question in STATS and os.path.isfile(full):
            self._note("file", full)
        elif not self._children.is_child:
            self._asked.setdefault(full, what_is_at(full))
            self._files.look_near(full)
            if self._import_reads is not None:
                self._import_reads["exists", full] = None

    def link_read(self, path: object) -> None:
        """Code asks where a link leads to, itself or by looking for the real path of something."""
        question, full = self._asked_by_user(path, "readlink")
        if question in LINKS and full is not None:
            self._note_link(full)

    def _note_link(self, path: str) -> None:
        full = self._users(path)
        if full is None or self._places is None:
            return
        if not self._places.is_around(full):  # where the whole project lies does not count
            self._note("link", full)

    def _asked_by_user(self, path: object, asked: str) -> tuple[str, str | None]:
        """Return which question is asked and the path, if it is the user's who asks for his own."""
        question, frame = who_asks_for_path(sys._getframe(3), asked)
        if frame is None or self._places is None:
            return question, None
        is_others = self._is_others(frame)
        if is_others and (question not in SEARCHES or library_of(frame) is None):
            return "", None
        full = self._users(path)
        if full is None or full + os.sep == self._folder:
            return question, None
        # A library that looks in one folder after the other: a loader of templates, of settings.
        return question, full if not is_others or self._places.is_beside(full) else None

    def _connected(self, arguments: tuple[object, ...]) -> None:
        name = arguments[0]
        if isinstance(name, str) and name.startswith("file:"):
            name = unquote(urlsplit(name).path)
        path = self._users(name)
        if path is not None and os.path.isfile(path):
            self.may_read([path])

    def _started(self, arguments: tuple[object, ...]) -> None:
        found: Started = started_by(arguments)
        for name in found.tools:
            if os.sep in name:
                name = os.path.abspath(name)
                if name.startswith(self._folder):
                    continue  # an input, or what the body made
                if self._places is not None and self._places.is_beside(name):
                    self.may_read([name])
                    continue
            self._note("tool", name)
        self.may_read(each for name in found.paths if (each := self._users(name)) is not None)
        for name in found.variables:
            self.variables.handed_on(name)

    def _truncated(self, arguments: tuple[object, ...]) -> None:
        self._refuse_writing(arguments[0])

    def _refuse_writing(self, path: object) -> None:
        """Refuse to write to an input's original through the link to it in the task's folder.

        Raises:
            PermissionError: names the input, before anything is lost.
        """
        if not self._linked or not isinstance(path, (str, bytes, os.PathLike)):
            return
        full = os.path.abspath(os.fsdecode(path))
        if not full.startswith(self._folder):
            return
        real = os.path.realpath(full)
        if self._is_linked(real):
            name = full.removeprefix(self._folder)
            raise PermissionError(
                errno.EACCES, f"{name} is an input, a link to {real}; write to another name", name
            )

    def _opened(self, arguments: tuple[object, ...]) -> None:
        if self._files.aside:
            self._listed_aside("")
        path, mode, flags = arguments[0], arguments[1], arguments[2]
        if is_writing(mode, flags):
            self._refuse_writing(path)
        full = self._users(path)
        if full is not None:
            self._by_python(full)
        if is_making(mode, flags):  # also to read what it writes: "w+"
            if full is not None:
                self._written.add(full)
            return
        if not is_reading(mode, flags):
            return
        if full is None or (("file", full) in self._reads and self._import_reads is None):
            return
        assert self._places is not None
        is_package = self._places.is_package
        is_code = full.endswith((".py", ".pyc", ".so"))
        if is_code and called_by(IMPORTING + READING_SOURCE, is_package):
            return
        if loads_from_archive():  # those imported are looked at one by one
            return
        is_metadata = ".dist-info" in full or ".egg-info" in full
        if is_metadata and called_by(SEEKING_PACKAGES, is_package):
            return
        if os.path.isfile(full) or (self._places.is_beside(full) and not os.path.exists(full)):
            self._note("file", full)

    def _is_others(self, frame: FrameType) -> bool:
        """Say whether it is Python's or a package's own code that does something."""
        source = frame.f_code.co_filename
        if self._places is None or source in ON_BEHALF:
            return self._places is None
        return source.startswith("<frozen") or self._places.is_package(source)
