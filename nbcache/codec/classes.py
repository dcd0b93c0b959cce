"""Classes that travel by value: each one class wherever it arrives, made without its own hooks.

A pickle holds such a class in cloudpickle's form: how it is made, a name under which others have
it, and its state. That form is kept, with the slots that cloudpickle leaves out, and is read in
another way: whoever has the class takes it as it is, so that an instance that comes back is one of
the notebook's class, and the class is not written over by a copy. One that is made anew is made as
it stands in the pickle; what `__init_subclass__` or a metaclass that travels too did to it is part
of its state, and is not done again.
"""

from __future__ import annotations

import abc
import enum
import gc
import pickle
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import EnumType
from functools import partial
from typing import Any, BinaryIO, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

Reduced = tuple[Any, ...]

_CLOUDPICKLE = "cloudpickle.cloudpickle"


class _AsMade(NamedTuple):
    """What a class was like: the names of its attributes, and what no state of it brings back."""

    names: frozenset[str]
    rest: object
    members: _Members | None

    @classmethod
    def of(cls, made: type) -> _AsMade:
        members = _Members(made) if isinstance(made, EnumType) else None
        return cls(frozenset(vars(made)), _beside_state(made), members)


_made: WeakKeyDictionary[type, _AsMade] = WeakKeyDictionary()
"""Those that a pickle brought that was read in this process."""
_kept: WeakSet[type] = WeakSet()  # classes derived from them that stay from task to task
_as_the_task_began: set[type] = set()  # of these: what a pickle has given its state since then
_of_this_code: dict[str, type] = {}  # the notebook's
_notebook: list[Callable[[str], None]] = []
_makers: set[Callable[..., Any]] = set()
_setters: set[Callable[..., Any]] = set()


def makes_class(make: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that makes a class in a pickle; its last argument but one is the name."""
    _makers.add(make)
    return make


def sets_class(set_state: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that gives a class in a pickle its state."""
    _setters.add(set_state)
    return set_state


def know_class(cls: type, code: str, reached: str) -> None:
    """Have a class of the notebook go into pickles under a name, and be what pickles mean by it.

    `code` names its own code, `reached` what else its methods use. Equal names stand for equal
    classes, so that it does not matter which process wrote a pickle; and where the notebook's
    class is, one whose methods used something else is of that class, too.
    """
    from cloudpickle import cloudpickle

    name = f"{code} {reached}"
    with cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK:
        cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS[cls] = name
        cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID[name] = _of_this_code[code] = cls


def look_in(notebook: Callable[[str], None]) -> None:
    """Ask this notebook, from now on, for a class of a name that a pickle brings: where it has one,
    it makes it known (`know_class`)."""
    _notebook[:] = [notebook]


def _known(name: str) -> type | None:
    """Return what goes by a name here: the notebook's own class before a copy of it."""
    from cloudpickle import cloudpickle

    known: type | None = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(name)
    if known is None or known in _made:
        return _of_this_code.get(name.rpartition(" ")[0], known)
    return known


def begin_task() -> None:
    """A task begins: what others did to a class is undone at the first pickle with it."""
    _as_the_task_began.clear()


def end_task() -> bool:
    """A task ended: tell whether it left a class as no pickle can make it again.

    Members of an Enum, which what outlives a task may hold as well, are put back themselves.
    """
    if not _made:
        return False
    made = list(_made.items())
    if any(not each.members.put_back() for _, each in made if each.members is not None):
        return True
    if any(_beside_state(cls) != found.rest for cls, found in made):
        return True
    if any(_is_derived(cls) for cls, _ in made):
        gc.collect()  # classes are parts of circles: those of the body go only now
    return any(_is_derived(cls) for cls, _ in made)


def keep_derived() -> None:
    """What derives from the classes now stays for other tasks, too: a resource was made."""
    for cls in list(_made):
        _kept.update(type.__subclasses__(cls))


def _beside_state(cls: type) -> object:
    slots = [name for name, each in vars(cls).items() if _is_slot_of(cls, each)]
    registered = abc._get_dump(cls)[0] if isinstance(cls, abc.ABCMeta) else ()  # type: ignore[attr-defined]
    return cls.__bases__, cls.__name__, cls.__qualname__, slots, len(registered)


def _is_derived(cls: type) -> bool:
    below: list[type] = type.__subclasses__(cls)
    return any(each not in _made and each not in _kept for each in below)


class _Members:
    """The members of an Enum as they were made. Holds the Enum by them: it stays."""

    def __init__(self, cls: Any) -> None:
        self._tables = [(each, each.copy()) for each in map(vars(cls).get, _TABLES) if each]
        self._held = [(vars(each), vars(each).copy()) for each in cls.__members__.values()]
        self._inside = self._content()

    def put_back(self) -> bool:
        """Undo what was done to the members; False: a value of theirs was itself changed."""
        for held, found in self._held:
            if not _is_same(held, found):
                held.clear()
                held.update(found)
        for table, found in self._tables:
            if table != found:
                table.clear()
                (table.update if isinstance(table, dict) else table.extend)(found)
        return self._content() == self._inside

    def _content(self) -> bytes | None:
        values = [
            value
            for _, found in self._held
            for name, value in found.items()
            if name != "__objclass__" and type(value) not in _PLAIN
        ]
        if not values:
            return None
        try:
            return pickle.dumps(values, protocol=5)
        except Exception:  # what only cloudpickle can: functions, mostly
            return None


_TABLES = ("_member_map_", "_value2member_map_", "_member_names_")
_PLAIN = frozenset({int, float, bool, str, bytes, complex, type(None)})


def _is_same(held: dict[str, Any], found: dict[str, Any]) -> bool:
    return held.keys() == found.keys() and all(each is found[name] for name, each in held.items())


def complete(cls: type, reduced: Any) -> Any:
    """Add to cloudpickle's form of a class what that forgets: slots, without which instances have a
    `__dict__`; of an Enum its aliases, and what its members hold besides values."""
    if not isinstance(reduced, tuple):
        return reduced  # it goes by its name
    if isinstance(cls, EnumType):
        return _with_members(cls, reduced)
    if reduced[0].__name__ != "_make_skeleton_class" or "__slots__" not in vars(cls):
        return reduced
    if NamedTuple in vars(cls).get("__orig_bases__", ()):
        return reduced  # typing.NamedTuple gives its own
    make, (metaclass, named, bases, given, *tracked), (held, rest), *more = reduced
    slots = {name for name, each in vars(cls).items() if _is_slot_of(cls, each)}
    spaces = [name for name in ("__dict__", "__weakref__") if name in vars(cls)]
    given = {**given, "__slots__": (*sorted(slots), *spaces)}
    held = {name: each for name, each in held.items() if name not in slots}
    return make, (metaclass, named, bases, given, *tracked), (held, rest), *more


def _with_members(cls: Any, reduced: Reduced) -> Reduced:
    _, (bases, *names, _, module, tracker, extra), state, *_ = reduced
    members = cls._member_map_  # a metaclass may have another idea of cls[name]
    # What binds itself, such as a function, is no member unless somebody says so.
    values = {
        name: enum.member(each.value) if hasattr(type(each.value), "__get__") else each.value
        for name, each in members.items()
    }
    boundary = getattr(cls, "_boundary_", None)  # it tells which aliases a Flag may have
    told = {} if boundary is getattr(bases[-1], "_boundary_", None) else {"boundary": boundary}
    arguments = (type(cls), told, bases, *names, values, module, tracker, extra)
    held = {each.name: _held_by(each) for each in members.values()}
    return make_enum, arguments, (state, held), None, None, set_members


def _held_by(member: Any) -> dict[str, object]:
    return {name: each for name, each in vars(member).items() if name != "__objclass__"}


@makes_class
def make_enum(
    metaclass: Any,
    told: Mapping[str, object],
    bases: tuple[type, ...],
    name: str,
    qualname: str,
    values: Mapping[str, object],
    module: str,
    tracker: str,
    _: object,
) -> Any:
    """Make an Enum anew as cloudpickle does, but of its own metaclass and with its aliases."""
    from cloudpickle.cloudpickle import _lookup_class_or_track

    attributes = metaclass.__prepare__(name, bases)
    for member, value in values.items():
        attributes[member] = value
    made = metaclass.__new__(metaclass, name, bases, attributes, **told)
    made.__module__, made.__qualname__ = module, qualname
    return _lookup_class_or_track(tracker, made)


@sets_class
def set_members(cls: Any, state: tuple[tuple[dict[str, Any], object], dict[str, Any]]) -> Any:
    """Complete an Enum that was made anew."""
    inner, members = state
    _set_state(cls, inner)
    made = cls._member_map_
    for name, attributes in members.items():
        held = vars(made[name])
        for each in _held_by(made[name]).keys() - attributes.keys():
            del held[each]  # what a task added
        held.update(attributes)
    return cls


def _is_slot_of(cls: type, value: object) -> bool:
    return isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls


class ClassUnpickler(pickle.Unpickler):
    """Reads pickles; of the classes in them it makes those that this process does not have.

    resets: also a class that an earlier pickle brought in this task gets the state of this one.
    """

    def __init__(self, file: BinaryIO, *, resets: bool = False, **how: Any) -> None:
        super().__init__(file, **how)
        self._resets = resets
        self._new: set[type] = set()

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module == _CLOUDPICKLE:
            if name == "_make_skeleton_class":
                return partial(self._class, _make_class)
            if name == "_make_skeleton_enum":
                return partial(self._class, found)
            return partial(self._state, _set_state) if name == "_class_setstate" else found
        if isinstance(found, types.FunctionType):
            if found in _makers:
                return partial(self._class, found)
            if found in _setters:
                return partial(self._state, found)
        return found

    def _class(self, make: Callable[..., type], *arguments: Any) -> type:
        name = str(arguments[-2])
        for look in _notebook:
            look(name.partition(" ")[0])
        known = _known(name)
        if known is not None:
            return known
        made = make(*arguments)
        _made[made] = _AsMade.of(made)
        self._new.add(made)
        return made

    def _state(self, set_state: Callable[..., object], cls: type, state: object) -> type:
        if cls in self._new:
            set_state(cls, state)
            _made[cls] = _AsMade.of(cls)
        elif cls in _made and (self._resets or cls not in _as_the_task_began):
            for name in vars(cls).keys() - _made[cls].names:  # what a task added
                _beneath(type(cls)).__delattr__(cls, name)
            set_state(cls, state)
        _as_the_task_began.add(cls)
        return cls


def _make_class(
    metaclass: Any,
    name: str,
    bases: tuple[Any, ...],
    given: Mapping[str, object],
    tracker: str,
    _: object,
) -> type:
    from cloudpickle.cloudpickle import _lookup_class_or_track

    resolved, names = types.resolve_bases(bases), dict(given)
    own = _beneath(metaclass)
    with _told_of_no_subclass(resolved):
        if own is metaclass:
            made = types.new_class(
                name, bases, {"metaclass": metaclass}, lambda at: at.update(names)
            )
        else:
            if resolved is not bases:
                names["__orig_bases__"] = bases
            made = own.__new__(metaclass, name, resolved, names)
    return _lookup_class_or_track(tracker, made)  # type: ignore[no-any-return]


def _set_state(cls: Any, state: tuple[dict[str, Any], object]) -> None:
    from cloudpickle.cloudpickle import _class_setstate

    held, own = dict(state[0]), _beneath(type(cls))
    if isinstance(cls, EnumType):  # of which nobody may set the aliases once more
        held = {name: each for name, each in held.items() if name not in cls._member_map_}
    if own is type(cls):
        _class_setstate(cls, (held, state[1]))
        return
    registered = held.pop("_abc_impl", ())
    for name, each in held.items():
        own.__setattr__(cls, name, each)  # its metaclass may forbid it
    for each in registered:
        cls.register(each)


def _travels(cls: type) -> bool:
    """Tell whether a class goes into pickles by value, or came out of one."""
    from cloudpickle import cloudpickle

    return cls in cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS


def _beneath(metaclass: Any) -> Any:
    """Return a metaclass, or the one that it is derived from and that does not travel itself."""
    return next(each for each in metaclass.__mro__ if not _travels(each))


@contextmanager
def _told_of_no_subclass(bases: tuple[Any, ...]) -> Iterator[None]:
    """Keep base classes that travel from being told of a subclass, for the moment of its making.

    It was told where the class was written, with keywords that nobody remembers; a class of a
    module beside it was not, since a worker imports that module.
    """
    above = {each: None for base in bases for each in base.__mro__}
    held = {
        each: vars(each)["__init_subclass__"]
        for each in above
        if "__init_subclass__" in vars(each) and _travels(each)
    }
    for each in held:
        hook = partial(_pass_on, each)
        _beneath(type(each)).__setattr__(each, "__init_subclass__", classmethod(hook))
    try:
        yield
    finally:
        for each, hook in held.items():
            _beneath(type(each)).__setattr__(each, "__init_subclass__", hook)


def _pass_on(owner: Any, cls: Any) -> None:
    super(owner, cls).__init_subclass__()
