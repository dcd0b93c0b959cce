"""What each captured name is: its component, with the text of the code that counts in it."""

from __future__ import annotations

import types
from collections.abc import Mapping

from nbcache.engine.identity.body_names import BodyNames
from nbcache.engine.identity.modules import LocalModules
from nbcache.engine.identity.sources import (
    cell_of_class,
    class_text,
    code_of,
    file_of,
    module_around,
    place_of,
    source_of,
)
from nbcache.engine.identity.summaries import described, small_text
from nbcache.engine.identity.value_code import FUNCTIONS, know_classes
from nbcache.errors import NoCanonicalFormError
from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component
from nbcache.plan.identity.canonical.names import attribute
from nbcache.plan.identity.code import find_function, nested_codes
from nbcache.plan.identity.confidential import is_confidential, is_hidden, looks_secret
from nbcache.plan.identity.explain import PART
from nbcache.plan.identity.fingerprint import component
from nbcache.plan.identity.outline import beside, outline, outline_of_held
from nbcache.plan.identity.reach import Walker, combine

_EDITED = "# its file was edited after the kernel loaded it"
_MOST_OUTLINES = 1000  # of at most 4 kB each
_outlines: dict[Digest, str | None] = {}  # by identity of the value


class NamedComponents:
    """Makes the components of one process's captured names; keeps the texts that it met."""

    def __init__(
        self,
        process: str,
        names: BodyNames,
        namespace: Mapping[str, object],
        places: LocalModules,
    ) -> None:
        self._process, self._names = process, names
        self._namespace, self._places = namespace, places
        self.sources: dict[str, str] = {}  # file or cell -> its text, for tracebacks
        self.own_texts: list[str] = []  # of helpers and resources
        self.folded_texts: list[str | None] = []  # of the code of captured objects
        self._shown = Walker(namespace, places, source_of)  # for people: it notes what counts not

    def component(self, walker: Walker, name: str, value: object) -> Component:
        """Return the component of what a name stands for; notes in the walk what it reaches."""
        wanted = walker.noted.wanted.get(name, set())
        if isinstance(value, types.ModuleType):
            if () in wanted or self._places.home_of(value) in ("unknown", "notebook"):
                digest = self._digest(walker, name, value)
            else:
                digest = combine("module", value.__name__)
            walker.noted.module_read(value.__name__, wanted or {()})
            return component("captured", name, digest, f"module {value.__name__}")
        walker.folded.clear()
        walker.folded_classes.clear()
        walker.held.clear()
        digest = self._digest(walker, name, value)
        if walker.folded_classes:
            know_classes(dict.fromkeys(walker.folded_classes), self._namespace, self._places)
        if hasattr(type(value), "__nbcache_resource__"):
            place, text = self._source(value.function)  # type: ignore[attr-defined]
            self.own_texts.append(text or "")
            return component("resource", name, digest, place, self._with_held(name, text, walker))
        if self._is_notebooks(value) and (isinstance(value, FUNCTIONS) or code_of(value)):
            place, text = self._source(value)
            self.own_texts.append(text or "")
            return component("helper", name, digest, place, self._with_held(name, text, walker))
        code, shown = self._with_folded(None, walker), None
        self.folded_texts.append(code)
        if not is_confidential(name, value):
            parts = None if is_hidden(name, value) else self._outline(value, digest)
            shown = beside(code or small_text(value), parts)
        return component("captured", name, digest, described(value, name), shown)

    def _with_held(self, name: str, text: str | None, walker: Walker) -> str | None:
        """Return a text with that of other code that counts in it, and with what these hold."""
        held = None if looks_secret(name) else outline_of_held(walker.held, self._shown.leaf)
        return beside(self._with_folded(text, walker), held)

    def _outline(self, value: object, digest: Digest) -> str | None:
        """Return what a value consists of, which is looked at once for all captures of it."""
        if digest not in _outlines:
            if len(_outlines) >= _MOST_OUTLINES:
                _outlines.clear()
            _outlines[digest] = outline(value, self._shown.leaf)
        return _outlines[digest]

    def _with_folded(self, text: str | None, walker: Walker) -> str | None:
        """Return a text with that of the other code that counts in one digest."""
        pieces = [] if text is None else [text.rstrip("\n")]
        for cls in dict.fromkeys(walker.folded_classes):
            place, found = self._source(cls)
            if found is not None and not any(found.strip() in each for each in pieces):
                pieces.append(f"{PART}{place}\n{found.rstrip()}")
        around, known = [*pieces], set[object]()  # codes that stand in others, and texts
        for code in dict.fromkeys(walker.folded):
            whole = self._keep_source(code)
            function = find_function(code, source_of)
            own = function[1].rstrip() if function else whole and _EDITED
            if own and not ({code, own.strip()} & known or any(own.strip() in e for e in around)):
                pieces.append(f"{PART}{_place(code)}\n{own}")
                known |= {own.strip(), *nested_codes(code)}
        return "\n".join(pieces) if pieces else None

    def _is_notebooks(self, value: object) -> bool:
        # What functools.wraps made bears the module of what it wraps.
        names = {module_around(value), attribute(value, "__module__")}
        homes = {self._places.home(name) for name in names if isinstance(name, str)}
        return bool(homes & {"notebook", "unknown"})

    def _digest(self, walker: Walker, name: str, value: object) -> Digest:
        try:
            return walker.digest(value)
        except NoCanonicalFormError as error:
            where = f"captured name {name!r}" if name in self._names.read else ""
            where = where or f"name {name!r}, which a helper reads,"
            raise error.at(f"process {self._process!r}: {where}", name) from None
        except RecursionError:
            found = NoCanonicalFormError(type(value).__name__, "it is nested too deeply")
            raise found.at(f"process {self._process!r}: captured name {name!r}", name) from None

    def _source(self, value: object) -> tuple[str, str | None]:
        """Return where a function or class stands and its text, and keep the text of its file."""
        code = code_of(value)
        if code is None:
            return cell_of_class(value) if isinstance(value, type) else ("", None)
        whole = self._keep_source(code)
        if isinstance(value, type):
            line, text = class_text(whole or "", value.__qualname__, code.co_firstlineno)
            return cell_of_class(value) if text is None else (place_of(file_of(code), line), text)
        if whole is None:
            return "", None
        found = find_function(code, source_of)
        return _place(code), found[1] if found else None

    def _keep_source(self, code: types.CodeType) -> str | None:
        """Keep the text of the file or cell of some code, which workers are given; return it."""
        whole = source_of(code)
        if whole is not None and file_of(code) == code.co_filename:  # else several have its name
            self.sources[code.co_filename] = whole
        return whole


def _place(code: types.CodeType) -> str:
    """Return where some code stands, and in which function: "cell 3, line 2 of decorator"."""
    around, _, inner = code.co_qualname.partition(".<locals>")
    place = place_of(file_of(code), code.co_firstlineno)
    return f"{place} of {around.rpartition('.')[2]}" if place and inner else place
