"""Identify live functions and classes by their code and by all that they reach.

A name of the notebook that some code reads ends the walk: it becomes a component of its own
(`Noted.wanted`). What has no such name (closures, defaults, decorated functions, attributes,
methods) is part of the component that it was found in. What belongs to a local module is noted in
`Noted.local` and counts through its source; what belongs to an installed package or to Python
counts by name, with the package in `Noted.packages`. Reads no file: source text is handed in.
A cycle is written as the distance back to where it was entered, so a digest does not depend on
where else the object is reached from. A change here changes the keys of all helpers.
"""

from __future__ import annotations

import abc
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from operator import attrgetter

from nbcache.errors import NoCanonicalFormError
from nbcache.model.digest import Digest, identity_digest
from nbcache.plan.identity.asked import Asked, annotations_of, names_in_annotation
from nbcache.plan.identity.canonical import canonical_digest
from nbcache.plan.identity.canonical.names import attribute, module_of, qualname_of
from nbcache.plan.identity.code import (
    SourceOf,
    encode_code,
    encode_constant,
    find_function,
    normalise,
)
from nbcache.plan.identity.noted import AMBIENT, Home, Noted, Places, may_look_up
from nbcache.plan.identity.uses import Uses, uses_of
from nbcache.plan.identity.written import (
    DESCRIPTORS,
    class_members,
    descriptor_attributes,
    given_attributes,
    wrapped_by,
)

_VALIDATED = "pydantic._internal._validate_call.ValidateCallWrapper"
_LRU_WRAPPER = type(functools.lru_cache(maxsize=None)(lambda: None))


def combine(tag: str, *parts: object) -> Digest:
    """Return the digest of a tag and parts (str, int, bytes, None, tuples of these)."""
    return identity_digest(encode_constant((tag, *parts)))


class Walker:
    """One walk over what a body reaches. Holds for one moment: objects may change after it.

    With `cut`, reads of names of `namespace` are `noted` as wanted; without, their values are
    folded into the digest of what reads them. `noted.asks` says what the code looks at that does
    not count as a rule; in a walk with `asked` that counts.
    """

    def __init__(
        self,
        namespace: Mapping[str, object],
        places: Places,
        source_of: SourceOf,
        *,
        cut: bool = True,
        asked: frozenset[Asked] = frozenset(),
    ) -> None:
        self._namespace, self._places, self._source_of = namespace, places, source_of
        self._cut, self._asked = cut, asked
        self.noted = Noted(namespace, places)
        # Of the notebook and of local modules, without components of their own:
        self.folded: list[types.CodeType] = []
        self.folded_classes: list[type] = []
        self.held: list[tuple[str, object]] = []  # in these: closures, defaults, attributes
        self._stack: dict[int, int] = {}
        self._lowest = sys.maxsize
        self._memo: dict[int, tuple[object, Digest]] = {}
        self._known_types: set[type] = set()

    # -- what the caller asks ---------------------------------------------------------------

    def digest(self, value: object) -> Digest:
        """Return the identity of any value: of code by what it is and reaches, of data by value.

        Raises:
            NoCanonicalFormError: the value, or one inside it, cannot be identified.
        """
        known = self.leaf(value)
        return canonical_digest(value, leaf=self.leaf) if known is None else known

    def leaf(self, value: object) -> Digest | None:
        """Answer for functions, classes and modules; None for data. The encoder asks this."""
        cls = type(value)
        if cls in self._known_types:
            return None
        handler = _HANDLERS.get(cls)
        if handler is not None:
            return handler(self, value)
        if isinstance(value, type):
            return self._once(value, self._class)
        if isinstance(value, types.ModuleType):
            return self._module(value)
        identity = getattr(cls, "__nbcache_identity__", None)
        if identity is not None:  # a resource
            return self._once(value, lambda each: identity(each, self.digest))
        if hasattr(cls, "__nbcache_results__"):  # a channel or a run
            raise NoCanonicalFormError(cls.__name__, NoCanonicalFormError.RESULTS)
        if isinstance(value, DESCRIPTORS):
            return self._once(value, self._member)
        self.noted.note_type(cls)
        if _full_name(cls) == _VALIDATED:
            return self._once(value, self._validated)
        if self._places.home(module_of(cls)) != "notebook":
            self._known_types.add(cls)
        return None

    # -- bookkeeping ------------------------------------------------------------------------

    def _once(self, value: object, identify: Callable[[object], Digest | None]) -> Digest | None:
        known = self._memo.get(id(value))
        if known is not None:
            return known[1]
        depth = len(self._stack)
        entered = self._stack.get(id(value))
        if entered is not None:
            self._lowest = min(self._lowest, entered)
            return combine("cycle", depth - entered)
        outer, self._lowest = self._lowest, sys.maxsize
        self._stack[id(value)] = depth
        try:
            found = identify(value)
        finally:
            del self._stack[id(value)]
            lowest, self._lowest = self._lowest, min(outer, self._lowest)
        if found is not None and lowest >= depth:  # nothing in it refers to what lies above it
            self._memo[id(value)] = (value, found)
            self._lowest = outer
        return found

    # -- code -------------------------------------------------------------------------------

    def _function(self, value: object) -> Digest | None:
        assert isinstance(value, types.FunctionType)
        if hasattr(value, "registry") and hasattr(value, "dispatch"):
            found = self._single_dispatch(value)
            if found is not None:
                return found
        home, by_name = self._by_name(value)
        if by_name:
            return self._named(value, home)
        around = self._home_of_globals(value)
        uses = uses_of(value.__code__)
        outer = None
        is_own = around in ("notebook", "local", "unknown")
        if is_own:
            self.folded.append(value.__code__)
            self.held += defaults_of(value)
        if around == "notebook" and self._cut:
            self.noted.used(uses)
            if may_look_up(uses):
                written = find_function(value.__code__, self._source_of)
                if written is not None:
                    self.noted.looks_up(written[0], at_top=False)
        elif is_own:
            self.noted.imported(uses)
            outer = self._globals(value, uses)
        else:
            self.noted.module_read(str(value.__globals__.get("__name__", "")), ())
        return combine(
            "function",
            self._own_code(value, whole=is_own),
            self._said_of(value),
            self._cells(value),
            self._optional(value.__defaults__),
            self._optional(value.__kwdefaults__),
            self._attributes(value),
            outer,
        )

    def _own_code(self, function: types.FunctionType, *, whole: bool) -> bytes:
        found = find_function(function.__code__, self._source_of) if whole else None
        docstrings = "docstrings" in self._asked
        if found is None:
            text = None if docstrings else function.__doc__
            return encode_code(function.__code__, docstring=text)
        if "source" in self._asked:
            return b"source\0" + found[1].encode("utf-8", "surrogatepass")
        return normalise(found[0], docstrings=docstrings)

    def _said_of(self, function: types.FunctionType) -> tuple[object, ...]:
        """Return what a function says of itself that its code does not."""
        code = function.__code__
        names = [
            None if name == compiled else name
            for name, compiled in (
                (function.__name__, code.co_name),
                (function.__qualname__, code.co_qualname),
            )
        ]
        annotations = None
        if "annotations" in self._asked and (given := annotations_of(function)):
            annotations = self._part(f"annotations of {function.__name__}", given)
            self._annotated(given)
        doc = function.__doc__ if "docstrings" in self._asked else None
        return (*names, doc if isinstance(doc, str) else None, annotations)

    def _annotated(self, annotations: Mapping[str, object]) -> None:
        """Note the names that annotations hold as texts, for whoever asks what they mean."""
        for name in chain.from_iterable(map(names_in_annotation, annotations.values())):
            if self._cut and name in self._namespace:
                self.noted.wanted.setdefault(name, set()).add(())
                self.noted.annotated.add(name)

    def _cells(self, function: types.FunctionType) -> tuple[tuple[str, str], ...]:
        cells: list[tuple[str, str]] = []
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                content = cell.cell_contents
            except ValueError:
                cells.append((name, "empty"))
            else:
                cells.append((name, self._part(f"closure of {function.__name__}: {name}", content)))
        return tuple(cells)

    def _attributes(self, function: types.FunctionType) -> Digest | None:
        attributes = {
            name: value for name, value in sorted(vars(function).items()) if name != "__wrapped__"
        }
        inner = vars(function).get("__wrapped__")
        if inner is not None:
            return combine("wraps", self.digest(inner), self._optional(attributes or None))
        return self._optional(attributes or None)

    def _globals(self, function: types.FunctionType, uses: Uses) -> tuple[tuple[str, str], ...]:
        around = function.__globals__
        found: list[tuple[str, str]] = []
        for name in sorted(uses.names):
            if name in around and name not in AMBIENT:
                value = around[name]
                if isinstance(value, types.ModuleType):
                    self.noted.module_read(value.__name__, uses.names[name])
                    found.append((name, combine("module", value.__name__)))
                else:
                    found.append((name, self._part(f"global {name}", value)))
        return tuple(found)

    def _single_dispatch(self, function: types.FunctionType) -> Digest | None:
        registry = function.registry  # type: ignore[attr-defined]
        if not isinstance(registry, types.MappingProxyType):
            return None
        home, by_name = self._by_name(function)
        if by_name and home != "local":
            return self._named(function, home)
        branches = sorted((self.digest(cls), self.digest(each)) for cls, each in registry.items())
        return combine(
            "singledispatch", tuple(branches), self._named(function, home) if by_name else None
        )

    def _class(self, value: object) -> Digest | None:
        assert isinstance(value, type)
        home, by_name = self._by_name(value)
        if by_name:
            self.noted.note_type(value)
            return self._named(value, home) if home == "local" else None
        if home in ("package", "python") and not value.__flags__ & (1 << 9):
            return None
        if home == "notebook":
            self.folded_classes.append(value)
        if "annotations" in self._asked:
            self._annotated(annotations_of(value))
        return combine(
            "class",
            value.__name__,
            self.digest(type(value)),
            tuple(self.digest(base) for base in value.__bases__ if base is not object),
            tuple(self._members(value)),
            value.__doc__ if "docstrings" in self._asked else None,
            *self._virtual_subclasses(value),
        )

    def _virtual_subclasses(self, cls: type) -> list[tuple[str, ...]]:
        """Return what `register` told an abstract class: it decides what isinstance says."""
        if not isinstance(cls, abc.ABCMeta):
            return []
        known = [each() for each in abc._get_dump(cls)[0]]  # type: ignore[attr-defined]
        found = sorted(self._part(f"{cls.__name__}.register", each) for each in known if each)
        return [tuple(found)] if found else []

    def _members(self, cls: type) -> Iterable[tuple[str, str]]:
        for name, step, value in class_members(cls):
            yield name, self._part(step, value)

    def _part(self, step: str, value: object) -> Digest:
        try:
            known = self.leaf(value)
            if known is not None:
                return known
            self.held.append((step, value))
            return canonical_digest(value, leaf=self.leaf)
        except NoCanonicalFormError as error:
            inside = f"{step}{error.inside}"
            raise NoCanonicalFormError(error.type_name, error.reason, inside, error.place) from None

    def _member(self, value: object) -> Digest | None:
        """A descriptor in a class: what it wraps, and its class where somebody derived one."""
        base, names = wrapped_by(value)
        parts = tuple(self.digest(getattr(value, name)) for name in names)
        if type(value) is base:
            return combine(base.__name__, *parts)
        held = self._optional(descriptor_attributes(value) or None)
        return combine(base.__name__, *parts, self.digest(type(value)), held)

    def _validated(self, value: object) -> Digest:
        """What `pydantic.validate_call` made: the function, its annotations, how they are checked.

        The validators are made of these; the namespace around, which it holds too, is only where
        the annotations are looked up.
        """
        function = value.function  # type: ignore[attr-defined]
        inner = function.func if isinstance(function, functools.partial) else function
        try:
            hints = typing.get_type_hints(inner, include_extras=True)
        except Exception:  # a name that is defined later: what is checked then, is known by it
            hints = dict(attribute(inner, "__annotations__") or {})  # type: ignore[call-overload]
        config = value.config_wrapper.config_dict  # type: ignore[attr-defined]
        checks = (config, value.validate_return)  # type: ignore[attr-defined]
        return combine("validated", self.digest(function), self.digest(hints), self.digest(checks))

    def _cached(self, value: object) -> Digest:
        home, by_name = self._by_name(value)
        if by_name:
            return self._named(value, home) or combine("cached", _full_name(value))
        parameters = value.cache_parameters()  # type: ignore[attr-defined]
        inner = value.__wrapped__  # type: ignore[attr-defined]
        return combine(
            "lru_cache",
            self.digest(inner),
            self.digest(parameters),
            self._optional(given_attributes(value) or None),
        )

    def _module(self, value: types.ModuleType) -> Digest:
        name, file = value.__name__, attribute(value, "__file__")
        if self._places.home_of(value) in ("unknown", "notebook"):
            way_out = f"say `sys.modules[{name!r}] = ...` where it is loaded from its file"
            reason = f"nothing finds {file} by the name {name}; {way_out}" if file else ""
            raise NoCanonicalFormError("module", reason or f"{name} lies in no file")
        self.noted.module_read(name, {()})
        return combine("module", name)

    def _type_variable(self, value: object) -> Digest:
        parts = [
            getattr(value, name, None)
            for name in ("__bound__", "__constraints__", "__covariant__", "__contravariant__")
        ]
        parts.append(getattr(value, "__supertype__", None))  # of a NewType
        if getattr(value, "has_default", bool)():  # from Python 3.13 on
            parts.append(value.__default__)  # type: ignore[attr-defined]
        if getattr(value, "__infer_variance__", False):  # from Python 3.12 on
            parts.append("infer_variance")
        name = str(getattr(value, "__name__", ""))
        return combine(type(value).__name__, name, *map(self.digest, parts))

    def _type_alias(self, value: object) -> Digest:
        named: str = value.__name__  # type: ignore[attr-defined]
        said = (value.__value__, value.__type_params__)  # type: ignore[attr-defined]
        return combine("TypeAliasType", named, *map(self.digest, said))

    def _slot(self, value: object) -> Digest:
        return combine("slot", type(value).__name__, getattr(value, "__name__", ""))

    def _compiled(self, value: object) -> None:
        """Note the module of a compiled function, which the encoder names; what is bound to data
        counts by that."""
        if isinstance(value.__self__, types.ModuleType):  # type: ignore[attr-defined]
            self.noted.module_read(module_of(value), {(qualname_of(value),)})

    # -- names ------------------------------------------------------------------------------

    def _by_name(self, value: object) -> tuple[Home, bool]:
        """Return whose a function or class is, and whether a worker can import it by its name."""
        module = module_of(value)
        if module == self.noted.home_name:
            return "notebook", False
        home = self._places.home(module)
        if home in ("notebook", "unknown"):
            return home, False
        try:
            found = attrgetter(qualname_of(value))(sys.modules[module])
        except (KeyError, AttributeError):
            return home, False
        return home, found is value

    def _named(self, value: object, home: Home) -> Digest | None:
        """Identify what can be imported by its name; installed functions the encoder names."""
        module, qualname = module_of(value), qualname_of(value)
        self.noted.module_read(module, {(qualname.partition(".")[0],)})
        if home != "local" and isinstance(value, types.FunctionType | type):
            return None
        return combine("named", module, qualname)

    def _home_of_globals(self, function: types.FunctionType) -> Home:
        if function.__globals__ is self._namespace:
            return "notebook"
        name = str(function.__globals__.get("__name__", ""))
        return "notebook" if name == self.noted.home_name else self._places.home(name)

    def _optional(self, value: object) -> Digest | None:
        return None if value is None else self.digest(value)


def defaults_of(function: types.FunctionType) -> Iterable[tuple[str, object]]:
    """Yield the defaults of a function, each behind what people call it."""
    code, given = function.__code__, function.__defaults__ or ()
    by_keyword = function.__kwdefaults__ or {}
    names = code.co_varnames[code.co_argcount - len(given) : code.co_argcount]
    for name, value in chain(zip(names, given, strict=False), by_keyword.items()):
        yield f"default of {function.__name__}: {name}", value


def _full_name(value: object) -> str:
    return f"{module_of(value)}.{qualname_of(value)}"


_Handler = Callable[[Walker, object], "Digest | None"]


def _tracked(name: str) -> _Handler:
    return lambda walker, value: walker._once(value, getattr(walker, name))


_HANDLERS: dict[type, _Handler] = {
    types.FunctionType: _tracked("_function"),
    types.ModuleType: lambda walker, value: walker._module(value),  # type: ignore[arg-type]
    _LRU_WRAPPER: _tracked("_cached"),
    types.BuiltinFunctionType: lambda walker, value: walker._compiled(value),
    types.MemberDescriptorType: lambda walker, value: walker._slot(value),
    types.GetSetDescriptorType: lambda walker, value: walker._slot(value),
    **{
        each: _tracked("_type_variable")
        for each in (typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple, typing.NewType)
    },
    **{each: _tracked("_member") for each in DESCRIPTORS},
}
if sys.version_info >= (3, 12):
    _HANDLERS[typing.TypeAliasType] = _tracked("_type_alias")
