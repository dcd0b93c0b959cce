"""Run a Python body as a cell: module scope, top-level await, display, figures.

The namespace is that of a fresh module named `__main__`, as in a notebook: functions of the body
see its globals, and what is pickled out of it travels by value. A traceback starts at the body's
first line, with the text of the cell.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import linecache
import os
import re
import sys
import traceback
import types
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, cast

from nbcache.engine.identity.input_settings import OF_INPUTS, InputSettings
from nbcache.engine.identity.patches import PATCHES, Patch
from nbcache.engine.identity.payload import map_buffers, unpickle_names
from nbcache.engine.spec import AttemptSpec, ProcessSpec
from nbcache.engine.work.callers import CALLING_IMPORT, told_words
from nbcache.engine.work.display import is_drawing, mime_bundle, show_open_figures
from nbcache.engine.work.listening import watch_calls_of_import
from nbcache.engine.work.module_changes import task_changes_modules
from nbcache.engine.work.path_values import paths_in
from nbcache.engine.work.shown import told_by_cells
from nbcache.errors import NbcacheError
from nbcache.model.process import Output
from nbcache.model.view import ShownChunk, writable
from nbcache.plan.identity.code import nested_codes
from nbcache.plan.language.body import split_body

UNSET = object()
_PATH = re.compile(r"(?<![\w.:/])/\w[^\s'\"{}*?\[]*")
ERROR_CHARACTERS = 500
TRACEBACK_CHARACTERS = 50_000


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What a body may ask about its own attempt, as `task`."""

    process: str
    name: str  # the task as people say it
    attempt: int
    index: int
    position: str
    cpus: int
    memory: int | None
    time: float | None
    workdir: str
    gpus: int = 0
    disk: int | None = None
    gpu_ids: tuple[str, ...] = ()


def task_info(process: str, attempt: AttemptSpec, folder: Path) -> TaskInfo:
    """Return what the body of an attempt in `folder` may ask."""
    return TaskInfo(
        process=process,
        name=attempt.task,
        attempt=attempt.attempt,
        index=attempt.index,
        position=attempt.position,
        cpus=attempt.cpus,
        memory=attempt.memory,
        time=attempt.time,
        workdir=str(folder),
        gpus=len(attempt.gpus),
        disk=attempt.disk,
        gpu_ids=attempt.gpus,
    )


class PythonBody:
    """A compiled body; made once per worker and process, run once per attempt."""

    def __init__(self, process: ProcessSpec) -> None:
        self._process = process
        parts = split_body(process.body, process.filename, process.body_line)
        self._statements, self._expression = parts.statements, parts.expression
        for filename, text in process.sources.items():
            remember_source(filename, text)
        tree = ast.parse(process.body)
        self._paths: tuple[str, ...] | None = None
        self._literals: tuple[str, ...] | None = None
        self._words: frozenset[str] | None = None
        self._changes: bool | None = None
        self._codes: list[types.CodeType] = []  # of the functions that were sent
        self._read = _names_read(tree)
        self._copies_last = _copies_last(tree)
        self.shows_by_ipython = "IPython" in process.body or b"IPython" in process.payload
        self._buffers: tuple[memoryview, ...] | None = None
        self.patches: list[tuple[Patch, object]] = []  # as `namespace` found them last
        self.settings = InputSettings()

    @property
    def awaits(self) -> bool:
        """Whether the body awaits at its top level."""
        codes = (self._statements, self._expression)
        return any(code is not None and code.co_flags & inspect.CO_COROUTINE for code in codes)

    def changes_modules(self, values: Mapping[str, Any]) -> bool:
        """Whether the body or a helper changes a module; `values` are what `namespace` gave."""
        if self._changes is None:
            self._changes = task_changes_modules(self._process, values, self._codes)
        return self._changes

    @property
    def mapped(self) -> int:
        """How many buffers it maps into memory: each keeps a descriptor open."""
        return len(self._buffers or ())

    def namespace(self) -> dict[str, Any]:
        """Return what the body's names hold before its inputs are set: a fresh unpickling."""
        for name in self._process.imports:
            importlib.import_module(name)
        if not self._process.payload:
            return {}
        if self._buffers is None:
            self._buffers = map_buffers(self._process.buffers)
        codes = self._codes if self._changes is None else None
        values = unpickle_names(self._process.payload, self._buffers, codes)
        self.patches = cast("list[tuple[Patch, object]]", values.pop(PATCHES, []))
        settings = cast("InputSettings", values.pop(OF_INPUTS, self.settings))
        self.settings = self.settings or settings  # always the same: the first knows more by now
        return values

    def paths(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the paths among the captured values, which are the same for all attempts."""
        if self._paths is None:
            self._paths = tuple(paths_in(values.values()))
        return self._paths

    def literals(self) -> tuple[str, ...]:
        """Return what looks like an absolute path in the texts of the body and its functions."""
        if self._literals is None:
            self._literals = tuple(
                found
                for code in self._all_codes()
                for nested in nested_codes(code)
                for text in nested.co_consts
                if isinstance(text, str)
                for found in _PATH.findall(text)
            )
        return self._literals

    def words(self) -> frozenset[str]:
        """Return what `told_words` finds in the body and its functions."""
        if self._words is None:
            self._words = told_words(self._all_codes())
        return self._words

    def _all_codes(self) -> list[types.CodeType]:
        own = [each for each in (self._statements, self._expression) if each is not None]
        return [*own, *self._codes]

    def run(
        self,
        values: Mapping[str, Any],
        inputs: Mapping[str, object],
        task: TaskInfo,
        show: Callable[[object], None],
    ) -> tuple[dict[str, Any], object]:
        """Run the body; return its namespace and the final expression's value (UNSET: none).

        Raises:
            BaseException: whatever the body raises.
        """
        module = types.ModuleType("__main__")
        namespace = module.__dict__
        namespace.update(task=task, display=displayer(show))
        namespace.update(values)
        namespace.update(inputs)
        namespace["__builtins__"] = __builtins__
        sys.modules["__main__"] = module
        if self.words() & CALLING_IMPORT:
            watch_calls_of_import()
        final = self._execute(namespace)
        show_open_figures(show)
        return namespace, final

    def _execute(self, namespace: dict[str, Any]) -> object:
        if self.awaits:
            return _run_coroutine(self._execute_async(namespace))
        if self._statements is not None:
            exec(self._statements, namespace)
        return UNSET if self._expression is None else eval(self._expression, namespace)

    async def _execute_async(self, namespace: dict[str, Any]) -> object:
        result: object = UNSET
        for code in (self._statements, self._expression):
            if code is None:
                continue
            made = eval(code, namespace)
            if code.co_flags & inspect.CO_COROUTINE:
                made = await made
            if code is self._expression:
                result = made
        return result

    def run_here(
        self, values: Mapping[str, Any], inputs: Mapping[str, object], task: TaskInfo
    ) -> tuple[dict[str, Any], object]:
        """Run the body in this process as it is: for `try`, so that a debugger sees it.

        Figures stay open and `display` is the notebook's own.
        """
        namespace: dict[str, Any] = {"__name__": "__main__", "task": task, **values, **inputs}
        namespace["__builtins__"] = __builtins__
        shell = sys.modules.get("IPython.display")
        namespace.setdefault("display", shell.display if shell is not None else print)
        return namespace, self._execute(namespace)

    def outputs(
        self,
        namespace: Mapping[str, Any],
        before: Mapping[str, object],
        final: object,
        is_made: Callable[[str], bool],
    ) -> dict[str, object]:
        """Return the values of the outputs that the body made.

        One output that the body did not set takes the final expression; a path only where that
        is one (what `write_text` returns is not), else it is the file or folder of its own name.
        What `shutil.copy` returns is a path, too, but there for its effect: behind such a call
        the name comes first if it `is_made`. Where the output was inferred, the final
        expression is what it is, also if the body sets a variable called like the process;
        figures and axes are shown already and stand for None.
        """
        made: dict[str, object] = {}
        unset: list[str] = []
        paths: list[Output] = []
        names = {each.name for each in self._process.inputs}
        for output in self._process.outputs:
            value = namespace.get(output.name, UNSET)
            if self._process.inferred and final is not UNSET:
                value = final
            if output.name in self._process.passed:
                changeable = value is not UNSET and not _is_unchangeable(value)
                if changeable and output.name in self._read:
                    made[output.name] = value  # it may have been changed in place
                continue
            if value is not UNSET and (
                output.name in names or before.get(output.name, UNSET) is not value
            ):
                made[output.name] = value
            elif output.pattern is None:
                if output.type is not None and output.type.is_path:
                    paths.append(output)
                else:
                    unset.append(output.name)
        if not unset and len(paths) == 1 and _names_files(final):
            by_name = self._copies_last and not _is_list(paths[0]) and is_made(paths[0].name)
            unset = [] if by_name else [paths[0].name]
        if len(unset) == 1 and final is not UNSET:
            made[unset[0]] = final
        if self._process.inferred:
            for name, value in made.items():
                if is_drawing(value):
                    made[name] = None
        return made


def _names_read(tree: ast.Module) -> frozenset[str]:
    """Return the names that a body reads, other than as its final expression."""
    final = tree.body[-1].value if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    return frozenset(
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node is not final
    )


_COPIERS = frozenset("copy copy2 copyfile copytree make_archive move rename".split())


def _copies_last(tree: ast.Module) -> bool:
    """Whether a body ends with a call that makes a file and returns where, as `shutil.copy`."""
    final = tree.body[-1].value if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    called = final.func if isinstance(final, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in _COPIERS


_UNCHANGEABLE = (str, bytes, int, float, complex, type(None), PurePath)


def _is_unchangeable(value: object) -> bool:
    """Whether nothing could have changed a value in place (a list of files counts as such)."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, PurePath) for each in value)
    if isinstance(value, (tuple, frozenset)):
        return all(map(_is_unchangeable, value))
    return isinstance(value, _UNCHANGEABLE)


def _is_list(output: Output) -> bool:
    return output.type is not None and output.type.depth > 0


def _names_files(value: object) -> bool:
    members = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(each, (str, os.PathLike)) for each in members)


def _run_coroutine(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine to its end, on a thread of its own where a loop is running here."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def displayer(show: Callable[[object], None]) -> Callable[..., None]:
    """Return the `display` that a body sees."""

    def display(*objects: object, **options: object) -> None:
        """Show objects below the cell, as in a notebook."""
        for each in objects:
            show(each)

    return display


def display_chunk(value: object) -> ShownChunk:
    """Return what `display(value)` shows."""
    return ShownChunk("display", "", mime_bundle(value))


def route_ipython_displays(
    show: Callable[[object], None], send: Callable[[ShownChunk], None]
) -> None:
    """Make IPython's `display` and `publish_display_data` show through us.

    Outside of a kernel they would print a repr. Called before a body that speaks of IPython, so
    that its `from IPython.display import display` finds ours.
    """
    try:
        import IPython.display as public
        from IPython.core import display_functions as functions
    except ImportError:
        return

    def display(*objects: Any, raw: bool = False, **options: object) -> None:
        """Show objects below the cell, as in a notebook."""
        for each in objects:
            if raw and isinstance(each, Mapping):
                send(ShownChunk("display", "", dict(each)))
            else:
                show(each)

    def publish_display_data(data: Mapping[str, object], *rest: object, **options: object) -> None:
        """Show a MIME bundle below the cell."""
        send(ShownChunk("display", "", dict(data)))

    for module in (functions, public, sys.modules.get("IPython.core.display")):
        if module is not None:
            setattr(module, "display", display)  # noqa: B010  the module's types say otherwise
            setattr(module, "publish_display_data", publish_display_data)  # noqa: B010


def remember_source(filename: str, text: str) -> None:
    """Let tracebacks show the lines of a file that exists nowhere."""
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception of a body, for the row and for people."""

    error: str  # last line, at most 500 characters
    traceback: str
    where: tuple[int, str] | None  # line of the cell, and its text


def describe_fault(error: BaseException, process: ProcessSpec, hint: str = "") -> Fault:
    """Return what is said of an exception; frames before the body's are left out."""
    filename = process.filename
    tb = error.__traceback__
    first = tb
    while first is not None and first.tb_frame.f_code.co_filename != filename:
        first = first.tb_next
    shown = error.with_traceback(first) if first is not None else error
    text = "".join(traceback.format_exception(type(shown), shown, first))
    text = told_by_cells(text, process.cells)
    where = None
    while first is not None:
        if first.tb_frame.f_code.co_filename == filename:
            where = (first.tb_lineno, linecache.getline(filename, first.tb_lineno).rstrip("\n"))
        first = first.tb_next
    if where is None and isinstance(error, SyntaxError) and error.filename == filename:
        where = (error.lineno or 1, error.text or "")
    last = error_line(error)
    if hint:
        last, text = f"{last}\n{hint}", f"{text}{hint}\n"
    if len(text) > TRACEBACK_CHARACTERS:
        half = TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n[...]\n{text[-half:]}"
    return Fault(last, writable(text), where)


def error_line(error: BaseException) -> str:
    """Return `Type: message`, at most 500 characters; of our own errors the message."""
    if isinstance(error, NbcacheError):
        text = writable(str(error))
    else:
        text = writable("".join(traceback.format_exception_only(type(error), error)).strip())
    if isinstance(error, SyntaxError):
        text = text.rpartition("\n")[2]
    return text if len(text) <= ERROR_CHARACTERS else text[: ERROR_CHARACTERS - 4] + " ..."
