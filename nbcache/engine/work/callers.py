"""Who calls, by the frames of the stack: the body itself, the import machinery, a library.

The same event is a read of the body or nobody's business depending on that. Looks at a few frames
only, since this happens at every event while a body runs.
"""

from __future__ import annotations

import dis
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from opcode import opmap
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType

from nbcache.plan.identity.code import nested_codes

IMPORTING = ("<frozen importlib", "<frozen zipimport")
# Who looks through all of sys.path for what is installed; packages count by their version anyway.
SEEKING_PACKAGES = (
    "/importlib/metadata/__init__.py",
    "/importlib_metadata/__init__.py",
    "/pkg_resources/__init__.py",
)
READING_SOURCE = ("linecache.py", "tokenize.py", "inspect.py", "traceback.py")
CALL_OF_IMPORT = "__import__"
CALLING_IMPORT = frozenset(
    f"{CALL_OF_IMPORT} pydoc jsonpickle unsafe_load UnsafeLoader Loader".split()
)
"""It, and what calls it with a text that it is given."""
ASK_FOR_TEXT = frozenset(
    "__doc__ getdoc get_docstring getsource getsourcelines getsourcefile getcomments findsource "
    "linecache getlines getline tokenize get_source get_data doctest testmod pydoc render_doc help "
    "co_firstlineno co_lines co_positions f_lineno tb_lineno".split()
)
"""What code uses to which the text of a module matters, and not only what it does."""
WORDS = ASK_FOR_TEXT | CALLING_IMPORT
_CACHE, _STATEMENT = opmap["CACHE"], opmap["IMPORT_NAME"]
_RUNNING_CELLS = "/IPython/core/interactiveshell.py"
_OWN = str(Path(__file__).absolute().parents[__name__.count(".") - 1]) + os.sep  # all of nbcache
_BESIDE = ("nbcache-", "IPythonHistorySaving", "IOPub", "Control", "Heartbeat")  # threads
_LIBRARY = os.path.dirname(os.__file__)  # Python's own
# Who asks for a module for the files beside it, or tells in another way what is taken of it.
_TAKING_NO_CODE = (
    f"{_LIBRARY}/importlib/resources/", "/importlib_resources/", "/pkg_resources/",
    f"{_LIBRARY}/pickle.py", _OWN,
)  # fmt: skip
_ASKING = tuple(
    f"{where}{name}"
    for name in ("genericpath", "posixpath", "pathlib", "glob", "filecmp", "shutil")
    for where in ("<frozen ", f"{_LIBRARY}/")
)
# These call what they were given, and substitute what they were told to.
ON_BEHALF = frozenset(
    f"{_LIBRARY}/{name}{end}"
    for name in (
        "threading", "concurrent/futures/thread", "concurrent/futures/process",
        "multiprocessing/pool", "string",
    )
    for end in (".py", "/__init__.py")  # `string` is a package from Python 3.14 on
)  # fmt: skip
STATS = frozenset("stat getsize getmtime getctime getatime cmp".split())
SEARCHES = frozenset("exists lexists isfile isdir is_file is_dir".split())
_MORE = frozenset("islink is_symlink is_mount ismount lstat access glob rglob".split())
_QUESTIONS = STATS | SEARCHES | _MORE
SAME = frozenset({"samefile"})
PROGRAMS = frozenset({"which"})
LINKS = frozenset("readlink realpath _joinrealpath resolve".split())


def is_beside_the_body() -> bool:
    """Whether this thread works for nbcache or the kernel, while a cell runs in another one."""
    return threading.current_thread().name.startswith(_BESIDE)


def who_asks_for_variables(frame: FrameType | None) -> tuple[FrameType | None, bool]:
    """Return who asked `os.environ`, behind its own methods, and whether for pairs or values."""
    pairs = False
    while frame is not None and (
        frame.f_code.co_filename.startswith(("<frozen os", "<frozen _coll"))
        or frame.f_code.co_filename.endswith(("/os.py", "/_collections_abc.py"))
    ):
        pairs = pairs or frame.f_code.co_qualname in ("ItemsView.__iter__", "ValuesView.__iter__")
        frame = frame.f_back
    return frame, pairs


def place_of(frame: FrameType) -> tuple[int, int]:
    """Return which instruction of which frame is being executed.

    Where a loop has run a few times, `f_lasti` of Python 3.12 lies in the cache behind it.
    """
    at, code = frame.f_lasti, frame.f_code.co_code
    while at > 0 and code[at] == _CACHE:
        at -= 2
    return id(frame), at


def who_asks_for_path(frame: FrameType | None, asked: str = "stat") -> tuple[str, FrameType | None]:
    """Return which of Python's questions about a path is asked, and by whom; "": none of them."""
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_ASKING):
            break
        is_glob = code.co_filename == f"{_LIBRARY}/glob.py"  # whose functions have many names
        asked, frame = "glob" if is_glob else code.co_name, frame.f_back
    return (asked if asked in _QUESTIONS | SAME | LINKS | PROGRAMS else ""), frame


def library_that_asks(frame: FrameType | None) -> str | None:
    """Return the file of the package that wants a path as a text, be it through a function of
    `os` or `os.path`; None: it is no package."""
    while frame is not None and frame.f_code.co_filename.startswith(
        ("<frozen posix", "<frozen os")
    ):
        frame = frame.f_back
    return None if frame is None else library_of(frame)


def library_of(frame: FrameType) -> str | None:
    """Return the file of the package whose code a frame executes; None: it is no package's."""
    source = frame.f_code.co_filename
    is_package = "site-packages" in source or "dist-packages" in source
    return source if is_package and not source.startswith(_OWN) else None


def takes_no_code(frame: FrameType) -> bool:
    """Say whether whoever asks for a module by name is not to use what its code defines."""
    source = frame.f_code.co_filename
    return any(each in source for each in _TAKING_NO_CODE)


def told_words(codes: Iterable[CodeType]) -> frozenset[str]:
    """Return those of WORDS that some code, or code nested in it, mentions."""
    found: set[str] = set()
    for each in [nested for code in codes for nested in nested_codes(code)]:
        words = WORDS & {*each.co_names, *_texts(each.co_consts)}
        found |= words - ({"__doc__"} if _has_docstring(each) else set())
    return frozenset(found)


def _texts(constants: Iterable[object]) -> Iterator[str]:
    for each in constants:
        if isinstance(each, str):
            yield each
        elif isinstance(each, (tuple, frozenset)):
            yield from _texts(each)


def _has_docstring(code: CodeType) -> bool:
    """Say whether it is only to have one that code mentions `__doc__`."""
    return "__doc__" in code.co_names and not any(
        step.argval == "__doc__" and step.opname.startswith("LOAD")
        for step in dis.get_instructions(code)
    )


def is_statement(frame: FrameType) -> bool:
    """Say whether a frame executes an import statement."""
    return frame.f_code.co_code[place_of(frame)[1]] == _STATEMENT


def codes_that_import(text: CodeType) -> list[CodeType]:
    """Return those of the code objects of a text that have import statements or `__import__`."""
    return list(filter(_imports, nested_codes(text)))


def _imports(code: CodeType) -> bool:
    return _STATEMENT in code.co_code[::2] or CALL_OF_IMPORT in code.co_names


def is_plain(code: CodeType) -> bool:
    """Say whether a text defines and imports nothing: an expression, of which many are run."""
    return not _imports(code) and CodeType not in map(type, code.co_consts)


def runs_what_is_known(frame: FrameType) -> bool:
    """Say whether what a frame executes is a module, a body or a cell, and no text of a body's."""
    source = frame.f_code.co_filename
    return source.startswith((*IMPORTING, _OWN)) or source.endswith(_RUNNING_CELLS)


def called_by(names: tuple[str, ...], is_package: Callable[[str], bool]) -> bool:
    """Say whether code from such a file calls, be it through other packages but not for the user.

    A module that is being imported is the user's code, too, and whoever imports it is not asked.
    """
    frame: FrameType | None = sys._getframe(2)
    for _ in range(8):
        if frame is None:
            return False
        source = frame.f_code.co_filename
        if source.startswith(names) or source.endswith(names):
            return True
        if not source.startswith("<frozen") and not is_package(source):
            return False
        frame = frame.f_back
    return False


def loads_from_archive() -> bool:
    """Say whether an archive is opened for modules in it, and not for data asked for by name."""
    frame: FrameType | None = sys._getframe(3)
    asked = ""
    while frame is not None and frame.f_code.co_filename.startswith("<frozen zipimport"):
        asked, frame = frame.f_code.co_name, frame.f_back
    is_own = frame is not None and frame.f_code.co_filename.startswith(_OWN)
    return bool(asked) and (asked != "get_data" or is_own)


def is_removing() -> bool:
    """Say whether a folder is listed only to be removed with all that is in it."""
    code = sys._getframe(3).f_code
    return code.co_name.startswith("_rmtree") and code.co_filename.startswith(_LIBRARY)


def lists_path(is_package: Callable[[str], bool]) -> bool:
    """Say whether `pkgutil` lists a folder of `sys.path`, for whatever modules there are."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None and is_package(frame.f_code.co_filename):
        if frame.f_code.co_name == "_iter_file_finder_modules":
            folder = getattr(frame.f_locals.get("importer"), "path", "")
            return folder in sys.path or os.path.abspath(folder) in sys.path
        frame = frame.f_back
    return False


def looks_at_entries(is_package: Callable[[str], bool]) -> bool:
    """Say whether the user's code calls `os.scandir` and may ask `stat` of what that gives: itself,
    where it was called from, or in what these can call.

    What it gives are objects of C, which nothing can watch.
    """
    frame: FrameType | None = sys._getframe(3)
    if frame is None or "scandir" not in frame.f_code.co_names:
        return False
    while frame is not None and not is_package(frame.f_code.co_filename):
        if any("stat" in code.co_names for code in _codes_around(frame, is_package)):
            return True
        frame = frame.f_back
    return False


def _codes_around(frame: FrameType, is_package: Callable[[str], bool]) -> Iterator[CodeType]:
    """Yield the code of a frame, and that of the user's functions and classes which it can name,
    also in modules that it has imported."""
    yield from nested_codes(frame.f_code)
    around = list(frame.f_globals.values())
    for module in [each for each in around if isinstance(each, ModuleType)]:
        file = getattr(module, "__file__", None)
        if file and not is_package(file):
            around += vars(module).values()
    for cls in [each for each in around if isinstance(each, type)]:
        around += vars(cls).values()
    for value in around:
        if isinstance(value, FunctionType) and not is_package(value.__code__.co_filename):
            yield from nested_codes(value.__code__)
