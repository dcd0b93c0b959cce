"""Take what a process reaches besides its inputs: its identity and what a worker needs of it.

Digests and pickle are made together, on the caller's thread, once per run and process: an edit
that comes later counts for the next run. What is taken is exactly what the body can reach; what
it cannot reach is neither hashed nor sent. The payload is a cloudpickle of {name: value}, in one
piece, so that what is shared stays shared.
"""

from __future__ import annotations

import ast
import builtins
import os
import platform
import sys
import textwrap
import types
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from nbcache.engine.identity.containers import engine_for, pinned, resolve_image
from nbcache.engine.identity.modules import (
    LocalModules,
    local_components,
    package_components,
    see_packages,
)
from nbcache.engine.identity.payload import Payload, pickle_names
from nbcache.engine.identity.sharing import shared_paths
from nbcache.engine.identity.tools import bundled_scripts, search_path, shell_text, tool_components
from nbcache.engine.identity.value_code import FUNCTIONS, source_of
from nbcache.engine.spec import FileInput, ModuleSource, stat_key
from nbcache.errors import FingerprintError, NoCanonicalFormError
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.fingerprint import Component
from nbcache.model.process import Output, ProcessDecl
from nbcache.plan.identity.asked import Asked
from nbcache.plan.identity.canonical import summarise
from nbcache.plan.identity.canonical.names import attribute
from nbcache.plan.identity.code import find_function, normalise
from nbcache.plan.identity.confidential import HIDDEN, is_confidential
from nbcache.plan.identity.explain import PART
from nbcache.plan.identity.fingerprint import component
from nbcache.plan.identity.reach import Walker, combine, is_of_nbcache
from nbcache.plan.identity.uses import Chain, uses_of
from nbcache.plan.language.body import BodyFacts, script_facts
from nbcache.plan.language.quantities import size_text
from nbcache.store.filestate import hash_file

LARGE = 500_000_000  # bytes of captured data from which on a note says how to do without

_GIVEN = frozenset({"task", "display", "get_ipython"})  # names that every body has
_EVIDENCE_ABOVE = 2_000  # characters: longer texts go to the caller's blob store, if it has one


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What all tasks of a process share in one run.

    `payload` is what workers unpickle, with `buffers` (pickle 5, out of band, each at least
    1 MB) where there are any. `names` maps what the body reads to a summary with size, `modules`
    local modules to the source that a worker has to find (path, digest of its bytes), `sys_path`
    has the folders to look in: absolute, since a kernel's own path begins with "", which in a
    worker would be the task's folder. `imports` are modules that a worker imports beforehand: the
    kernel has them loaded, and what the body reads is there or as it is because of them. `missing`
    are names that the body reads and nobody defines. `sources` gives file names and texts of
    reached functions, for tracebacks; `texts` all string constants of the code that is reached;
    `helper_sources` its source texts. `helpers` are files beside the notebook that a script calls,
    by their names in the work directory. `container` is the engine and the image of a script.
    """

    components: tuple[Component, ...]
    payload: bytes = b""
    buffers: tuple[memoryview, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, ModuleSource] = field(default_factory=dict)
    sys_path: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    container: tuple[str, str] | None = None
    missing: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    texts: frozenset[str] = frozenset()
    helper_sources: tuple[str, ...] = ()
    helpers: Mapping[str, FileInput] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that are sent to a worker."""
        return len(self.payload) + sum(each.nbytes for each in self.buffers)


def capture(
    decl: ProcessDecl,
    facts: BodyFacts | None,
    namespace: Mapping[str, object],
    *,
    taken: Collection[str] = (),
    notebook_dir: Path | None = None,
    evidence: Callable[[str], str] | None = None,
    digest_of_file: Callable[[Path], Digest] | None = None,
    environ: Mapping[str, str] | None = None,
    send: bool = True,
) -> Captured:
    """Return the components and the payload that all tasks of a process share.

    `taken` are names that the body gets otherwise (inputs, outputs) or that are no data
    (channels). `evidence` keeps a long text and returns the digest of its blob. Without `send`
    nothing is pickled: the body runs where it is.

    Raises:
        NoCanonicalFormError: a value that is reached cannot be identified.
        FingerprintError: a value that is reached cannot be sent to a worker.
    """
    see_packages()
    variables = os.environ if environ is None else environ
    folder, digest_of = notebook_dir or Path.cwd(), digest_of_file or _hashed
    declared = [*_declared(decl, variables), *_declared_files(decl, folder, digest_of)]
    if decl.language == "script":
        found, components = _script(decl, digest_of, variables, notebook_dir)
        image = _image(decl, folder, digest_of, variables)
        if image is not None:
            components.append(image.component)
            found = replace(found, container=image.command)
        return _finish(found, [*declared, *components], evidence)
    taking = _Taking(decl, facts, namespace, set(taken), notebook_dir)
    found, components = taking.take(send)
    return _finish(found, [*declared, *components], evidence)


def _finish(
    found: Captured, components: list[Component], evidence: Callable[[str], str] | None
) -> Captured:
    if evidence is not None:
        components = [
            replace(each, evidence=evidence(each.evidence))
            if each.evidence is not None and len(each.evidence) > _EVIDENCE_ABOVE
            else each
            for each in components
        ]
    ordered = tuple(sorted(components, key=lambda each: each.key))
    return replace(found, components=ordered)


def _declared(decl: ProcessDecl, environ: Mapping[str, str]) -> list[Component]:
    """The components that the header alone gives."""
    outputs = tuple(
        # A final expression's output bears the process's name, which does not count.
        (
            "" if decl.inferred and each.name == decl.name else each.name,
            str(each.type or ""),
            each.pattern,
            *(() if each.command is None else (each.command,)),
        )
        for each in decl.outputs or ()
    )
    shown = ", ".join(map(_output_text, decl.outputs or ()))
    found = [component("outputs", "outputs", combine("outputs", *outputs), shown)]
    directives = decl.directives
    if directives.seed is not None:
        digest = combine("seed", directives.seed)
        found.append(component("seed", "seed", digest, str(directives.seed)))
    for name in sorted(set(directives.env)):
        value = environ.get(name)
        digest = combine("env", value)  # of the value nothing else is kept: rows are shared
        found.append(component("env", name, digest, "not set" if value is None else "set"))
    found += [
        component("ignored", name, combine("ignored"), "left out by --ignore")
        for name in sorted(set(directives.ignore))
    ]
    if directives.platform or decl.language == "script":
        text = f"{sys.platform} {platform.machine()}"
        found.append(component("platform", "platform", combine("platform", text), text))
    return found


def _output_text(output: Output) -> str:
    """Return an output as the header has it."""
    text = output.name if output.type is None else f"{output.name}: {output.type}"
    value = output.pattern if output.command is None else f"$({output.command})"
    return text if value is None else f'{text} = "{value}"'


def _place_of_body(decl: ProcessDecl) -> str:
    """Return where the body begins, as people find it: "cell 5, line 2"."""
    cell = decl.cell.replace("[", "").replace("]", "")
    return f"{cell}, line {decl.body_line}" if cell else ""


def _script(
    decl: ProcessDecl,
    digest_of: Callable[[Path], Digest],
    environ: Mapping[str, str],
    folder: Path | None,
) -> tuple[Captured, list[Component]]:
    text = combine("script", decl.body)
    argv = " ".join(decl.interpreter)
    found = [
        component("code", "body", text, _place_of_body(decl), decl.body),
        component("interpreter", "interpreter", combine("argv", decl.interpreter), argv),
    ]
    for name, lines in (("before", decl.directives.before), ("after", decl.directives.after)):
        if lines:
            digest, shown = combine(name, *lines), "\n".join(lines)
            found.append(component("options", name, digest, shown[:80], shown))
    texts = [decl.body, *decl.directives.before, *decl.directives.after]
    texts += [each.command for each in decl.outputs or () if each.command is not None]
    helpers, facts = {}, []
    while texts:
        facts.append(script_facts(texts.pop()))
        for name, path in sorted(bundled_scripts(facts[-1].scripts, folder).items()):
            if name in helpers:
                continue
            stat = stat_key(path)
            digest = digest_of(path)
            helpers[name] = FileInput(str(path), digest, name, stat)
            found.append(component("file", name, digest, f"{name}, called by the script"))
            texts.append(shell_text(path))  # what a script calls in its turn
    made = Captured(components=(), helpers=helpers)
    if decl.directives.container is not None:
        return made, found  # its programs are those of the image
    words = {word for each in facts for word in each.commands if "/" not in word or word[0] == "/"}
    where = search_path(environ.get("PATH", ""), folder)
    mode = decl.directives.tools
    found += tool_components(words, decl.interpreter, digest_of, where, mode=mode)
    return made, found


def _declared_files(
    decl: ProcessDecl, folder: Path, digest_of: Callable[[Path], Digest]
) -> list[Component]:
    """Return a component for each lock or environment file that the header names."""
    found: list[Component] = []
    for name in decl.directives.files:
        path = folder / name
        if not path.exists():
            raise FingerprintError(
                f"process {decl.name!r}: no file {name}, named by --files (looked in {folder}).\n"
                "  Write it, or take it out of --files."
            )
        found.append(component("lock", name, digest_of(path), f"{name}, by --files"))
    return found


class _Image(NamedTuple):
    component: Component
    command: tuple[str, str]  # the engine's program, the image by its digest


def _image(
    decl: ProcessDecl,
    folder: Path,
    digest_of: Callable[[Path], Digest],
    environ: Mapping[str, str],
) -> _Image | None:
    reference = decl.directives.container
    if reference is None:
        return None
    path = environ.get("PATH", "")
    try:
        engine = engine_for(reference, folder, path)
        digest = resolve_image(reference, folder, path, digest_of)
    except FingerprintError as error:
        raise FingerprintError(f"process {decl.name!r}: {error}") from None
    part = component(
        "container", "container", combine("container", digest), f"{reference} {digest[:19]}"
    )
    return _Image(part, (engine, pinned(reference, digest, folder)))


def _hashed(path: Path) -> Digest:
    return hash_file(str(path), stat_key(path))


class _Taking:
    """One capture of one Python process."""

    def __init__(
        self,
        decl: ProcessDecl,
        facts: BodyFacts | None,
        namespace: Mapping[str, object],
        taken: set[str],
        folder: Path | None,
    ) -> None:
        self._decl, self._namespace, self._folder = decl, namespace, folder
        self._places = LocalModules(str(namespace.get("__name__", "__main__")), folder)
        tree = ast.parse(decl.body)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._uses = uses_of(compile(tree, "<body>", "exec", flags, dont_inherit=True))
        self._tree = tree
        outer = set(facts.free) if facts is not None else set(self._uses.names)
        if facts is not None:  # a builtin's name that the notebook gave to something else
            outer |= {name for name in facts.builtins if name in namespace}
            by_text = (self._uses.by_text - self._uses.stored) & namespace.keys()
            outer |= {name for name in by_text if not is_of_nbcache(namespace[name])}
        self._stars = bool(facts and facts.stars)  # `import *` may bring any name
        self._read = {name for name in outer - taken if not self._is_ambient(name)}
        self._bound = (set(self._uses.names) - self._read) | taken
        self._sources: dict[str, str] = {}
        self._own_texts: list[str] = []  # of helpers and resources

    def _is_ambient(self, name: str) -> bool:
        """Tell whether a name is what IPython puts into every namespace, or a builtin."""
        if name not in self._namespace:
            return hasattr(builtins, name)
        value = self._namespace[name]
        # IPython's `open` says that it is io's.
        where = _name_around(value) or attribute(value, "__module__") or ""
        is_shells = str(where).startswith(("IPython", "ipykernel"))
        return is_shells and (
            hasattr(builtins, name) or name in ("display", "get_ipython", "exit", "quit", "open")
        )

    def take(self, send: bool) -> tuple[Captured, list[Component]]:
        asked: frozenset[Asked] = frozenset()
        while True:
            walker, components = self._walk(asked)
            if walker.lists_subclasses:
                self._read |= {*walker.subclasses()}
            locals_, reach, changing = local_components(self._places, walker.local, asked)
            asks = asked | walker.asks | reach.asks
            if asks == asked:
                break
            asked = asks  # what does not count as a rule counts here
        packages = package_components(self._places, walker.packages | reach.packages)
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        components += [
            *locals_,
            *packages,
            component("python", "python", combine("python", version), version),
        ]
        values = {name: self._namespace[name] for name in sorted(self._read & {*self._namespace})}
        shared = shared_paths(values)
        if shared:
            text = "\n".join(" is ".join(each) for each in shared)
            components.append(component("sharing", "sharing", combine("sharing", shared), text))
        payload = self._pickle(values) if send else Payload(b"", ())
        names = {name: described(value, name) for name, value in values.items()}
        found = Captured(
            components=(),
            payload=payload.data,
            buffers=payload.buffers,
            names=names,
            modules={
                name: source
                for name, source in self._places.sources.items()
                if name in reach.modules
            },
            sys_path=tuple(self._places.path),
            imports=(*sorted(_submodules(self._namespace, walker.wanted)), *changing),
            missing=() if self._stars else tuple(sorted(self._read - {*self._namespace, *_GIVEN})),
            sources=self._sources,
            texts=frozenset(walker.texts | reach.texts),
            helper_sources=tuple(
                textwrap.dedent(each)
                for each in (
                    *self._own_texts,
                    *(each.evidence for each in components if each.kind == "module"),
                )
                if each
            ),
        )
        if found.size > LARGE:
            note = (
                f"process {self._decl.name!r} captures {size_text(found.size)}, which every worker "
                "reads; pass it as an input or as a file, or make it with @nbcache.resource"
            )
            found = _with_note(found, note)
        return found, components

    def _walk(self, asked: frozenset[Asked]) -> tuple[Walker, list[Component]]:
        walker = Walker(self._namespace, self._places, source_of, asked=asked)
        walker.used(self._uses, own=self._bound)
        components = [
            component(
                "code",
                "body",
                identity_digest(normalise(self._tree, docstrings="docstrings" in asked)),
                _place_of_body(self._decl),
                self._decl.body,
            )
        ]
        done = set(self._decl.directives.ignore)
        while waiting := sorted(walker.wanted.keys() - done):
            for name in waiting:
                done.add(name)
                if name in self._read or not self._is_ambient(name):
                    components.append(self._named(walker, name))
        return walker, components

    def _named(self, walker: Walker, name: str) -> Component:
        value = self._namespace[name]
        if isinstance(value, types.ModuleType):
            walker.module_read(value.__name__, walker.wanted[name])
            if walker.wanted[name] - {()} == walker.wanted[name] and self._places.home(
                value.__name__
            ) in ("package", "python", "local"):
                digest = combine("module", value.__name__)
            else:
                digest = self._digest(walker, name, value)
            return component("captured", name, digest, f"module {value.__name__}")
        walker.folded.clear()
        digest = self._digest(walker, name, value)
        if hasattr(type(value), "__nbcache_resource__"):
            place, text = self._source(value.function)  # type: ignore[attr-defined]
            self._own_texts.append(text or "")
            return component("resource", name, digest, place, self._with_folded(text, walker))
        if self._is_notebooks(value) and (isinstance(value, FUNCTIONS) or _code_of(value)):
            place, text = self._source(value)
            self._own_texts.append(text or "")
            return component("helper", name, digest, place, self._with_folded(text, walker))
        shown = None
        if not is_confidential(name, value):
            shown = self._with_folded(None, walker) or _small_text(value)
        return component("captured", name, digest, described(value, name), shown)

    def _with_folded(self, text: str | None, walker: Walker) -> str | None:
        """Return a text with that of the other code of the notebook that counts in one digest."""
        pieces = [] if text is None else [text.rstrip("\n")]
        for code in dict.fromkeys(walker.folded):
            self._keep_source(code)
            found = find_function(code, source_of)
            if found is None or any(found[1].strip() in each for each in pieces):
                continue
            place = place_of(code.co_filename, code.co_firstlineno)
            pieces.append(f"{PART}{place}\n{found[1].rstrip()}")
        return "\n".join(pieces) if pieces else None

    def _is_notebooks(self, value: object) -> bool:
        # What functools.wraps made bears the module of what it wraps.
        names = {_name_around(value), attribute(value, "__module__")}
        homes = {self._places.home(name) for name in names if isinstance(name, str)}
        return bool(homes & {"notebook", "unknown"})

    def _digest(self, walker: Walker, name: str, value: object) -> Digest:
        try:
            return walker.digest(value)
        except NoCanonicalFormError as error:
            word = "captured name" if name in self._read else "a helper reads"
            raise error.at(f"process {self._decl.name!r}: {word} {name!r}", name) from None
        except RecursionError:
            raise NoCanonicalFormError(
                type(value).__name__,
                "it is nested too deeply",
                f"process {self._decl.name!r}: captured name {name!r}",
                name,
            ) from None

    def _source(self, value: object) -> tuple[str, str | None]:
        """Return where a function or class stands and its text, and keep the text of its file."""
        code = _code_of(value)
        if code is None:
            return _cell_of_class(value) if isinstance(value, type) else ("", None)
        whole = self._keep_source(code)
        if isinstance(value, type):
            line, text = _class_text(whole or "", value.__qualname__, code.co_firstlineno)
            return (
                _cell_of_class(value) if text is None else (place_of(code.co_filename, line), text)
            )
        if whole is None:
            return "", None
        found = find_function(code, source_of)
        return place_of(code.co_filename, code.co_firstlineno), found[1] if found else None

    def _keep_source(self, code: types.CodeType) -> str | None:
        """Keep the text of the file or cell of some code, which workers are given; return it."""
        whole = source_of(code.co_filename)
        if whole is not None:
            self._sources[code.co_filename] = whole
        return whole

    def _pickle(self, values: Mapping[str, object]) -> Payload:
        try:
            return pickle_names(values, self._namespace)
        except Exception as error:  # whatever a foreign object raises when it is pickled
            guilty = next((name for name, each in values.items() if not _pickles(each)), None)
            which = "what it captures" if guilty is None else f"captured name {guilty!r}"
            raise FingerprintError(
                f"process {self._decl.name!r}: {which} cannot be sent to a worker "
                f"({type(error).__name__}: {error}).\n  Make it once per worker: "
                "@nbcache.resource def ...(): ...; or pass plain data instead."
            ) from error


def _submodules(namespace: Mapping[str, object], wanted: Mapping[str, set[Chain]]) -> set[str]:
    """Return the submodules that are read off captured modules: `import a.b` binds only `a`."""
    found: set[str] = set()
    for name, chains in wanted.items():
        value = namespace[name]
        if isinstance(value, types.ModuleType):
            for chain in chains:
                full = value.__name__
                for step in chain:
                    full = f"{full}.{step}"
                    if full not in sys.modules:
                        break
                    found.add(full)
    return found


def _with_note(found: Captured, note: str) -> Captured:
    return replace(found, notes=(*found.notes, note))


def _pickles(value: object) -> bool:
    try:
        pickle_names({"value": value}, {})
    except Exception:
        return False
    return True


def _name_around(value: object) -> object:
    """Return the name of the module whose globals a function reads, or None."""
    return value.__globals__.get("__name__") if isinstance(value, types.FunctionType) else None


_GENERATED = ("<string>", "<attrs generated", "<frozen")  # by dataclasses, attrs, namedtuple


def _code_of(value: object) -> types.CodeType | None:
    """Return the code that shows where a function or class was written, or None."""
    if isinstance(value, types.FunctionType):
        inner = value
        while isinstance(attribute(inner, "__wrapped__"), types.FunctionType):
            inner = inner.__wrapped__  # type: ignore[attr-defined]
        return inner.__code__
    if isinstance(value, type):
        generated = None
        for each in vars(value).values():
            function = getattr(each, "__func__", getattr(each, "fget", each))
            if isinstance(function, types.FunctionType) and function.__qualname__.startswith(
                value.__qualname__ + "."
            ):
                if not function.__code__.co_filename.startswith(_GENERATED):
                    return function.__code__
                generated = function.__code__
        return generated
    wrapped = attribute(value, "__wrapped__")
    return wrapped.__code__ if isinstance(wrapped, types.FunctionType) else None


def _class_text(source: str, qualname: str, inside: int | None) -> tuple[int, str | None]:
    """Return first line and text of the class of that name (that holds line `inside`)."""
    name = qualname.rpartition(".")[2]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == name and node.end_lineno is not None:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if inside is None or first <= inside <= node.end_lineno:
                lines = source.splitlines(keepends=True)
                return first, "".join(lines[first - 1 : node.end_lineno])
    return inside or 0, None


def _cell_of_class(cls: type) -> tuple[str, str | None]:
    """Return place and text of a class without methods: the latest cell that defines its name."""
    for filename in reversed(_cells()):
        text = source_of(filename) or ""
        if f"class {cls.__name__}" in text:
            with suppress(SyntaxError):
                line, found = _class_text(text, cls.__qualname__, None)
                if found is not None:
                    return place_of(filename, line), found
    return "", None


def _small_text(value: object) -> str | None:
    plain = (int, float, str, bytes, bool, complex, type(None), list, tuple, dict, set, frozenset)
    if type(value) in plain:
        try:
            text = repr(value) if not hasattr(value, "__len__") or len(value) <= 100 else ""
        except ValueError:  # an int of more digits than Python prints
            return None
        if text and len(text) <= _EVIDENCE_ABOVE:
            return text
    return None


def described(value: object, name: str = "") -> str:
    """Return a value's summary with its size where it is worth saying; nothing of a secret."""
    if is_confidential(name, value):
        return HIDDEN
    if hasattr(type(value), "__nbcache_resource__"):
        return "resource"
    size = _size_of(value)
    text = summarise(value)
    return f"{text}, {size_text(size)}" if size is not None and size >= 1000 else text


def _size_of(value: object) -> int | None:
    for name in ("nbytes", "memory_usage", "estimated_size"):
        found = attribute(value, name)
        if isinstance(value, type) or found is None:
            continue
        try:
            amount: Any = found() if callable(found) else found
            return int(amount.sum() if hasattr(amount, "sum") else amount)
        except Exception:  # a foreign object's own method
            return None
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    return None


def place_of(filename: str, line: int) -> str:
    """Return where people find a line: "cell 3, line 4", or "pipeline.py, line 4"."""
    cells = _cells()
    if filename in cells:
        return f"cell {cells[filename]}, line {line}"
    if filename.startswith("<"):
        return f"line {line}"
    return f"{Path(filename).name}, line {line}"


def _cells() -> dict[str, int]:
    """Return file name -> number of the cells that the kernel ran, oldest first."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(getattr(shell, "compile", None), "_filename_map", {})
