"""Which names look as if they held a secret, and what of their values may be said: nothing.

Rows are shared, digests of values are needed in them, texts are not. So what a name such as
`api_token` holds is left out of summaries, evidence, labels and parameters, and where a task prints
it or an error quotes it, it is replaced. A guess by names, for the secrets that nobody has declared
by `--secret`; numbers never count (`max_token = 512`). A password in a URL is known by its place, a
token or signature in its query or fragment by its name there, what variables of the environment
with such names hold (`know_secrets`) by its content: under any name, and inside of any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeGuard

from nbcache.model.url import passwords, urls_in
from nbcache.model.value import Stored

HIDDEN = "(not shown)"
_WORDS = frozenset(
    "password passwd passphrase secret secrets token credential credentials apikey "
    "authorization".split()
)
_BEFORE_KEY = frozenset(
    "api access private secret signing encryption account storage auth service ssh".split()
)
_NAMED = r"([\w.-]+)=([^\s&#'\"<>{$][^\s&#'\"<>]{5,})"
_IN_QUERY, _IN_FRAGMENT = re.compile(f"[?&]{_NAMED}"), re.compile(f"#{_NAMED}")
_SIGNATURES = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature"})
"""What names a secret in a query alone, beside names that look so anywhere."""
_KEYS = frozenset({"code", "auth"})  # as `key` is, but that they may hold a text
_TEXT = re.compile(r"%20|\+")
_LONG_KEY = 20  # characters: a shorter one may be that of a record, or a word
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SHORTEST = 5  # characters: a shorter text stands in too many others to be replaced there
_SHORTEST_KNOWN = 6  # characters: or for these to be left out
_OPEN = (int, float, bool, type(None))  # no secret is one of these
_LISTS = (list, tuple, set, frozenset)
_DEEPEST = 4
_MOST = 1000  # members: a larger dict is data, and no configuration

_known: tuple[str, ...] = ()


def know_secrets(environ: Mapping[str, str]) -> None:
    """From now on take for secrets what these variables hold under names that look secret."""
    global _known
    held = {text for name, text in environ.items() if looks_secret(name)}
    _known = tuple(sorted(text for text in held if len(text) >= _SHORTEST_KNOWN))


@lru_cache(4096)
def looks_secret(name: str) -> bool:
    """Whether a name says that it holds a secret: `db_password`, `apiKey`, `AWS_SECRET_ACCESS_KEY`.

    Not `tokens`, `tokenizer`, `sort_key`.
    """
    words = [each.lower() for each in _PARTS.findall(name)]
    return not _WORDS.isdisjoint(words) or any(
        word == "key" and before in _BEFORE_KEY for before, word in pairwise(words)
    )


def is_hidden(name: object, value: object) -> bool:
    """Whether a member or attribute is not shown: its name looks secret, and it is no number."""
    if type(value) in _OPEN:
        return False
    quoted = secrets_in(value) if isinstance(value, (str, bytes)) else []
    return bool(quoted) or looks_secret(str(name))


def is_pair(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether a value is a name with what it stands for: `("password", "x")`."""
    return type(value) in (tuple, list) and len(value) == 2 and type(value[0]) is str  # type: ignore[arg-type,index]


def is_confidential(name: str, value: object) -> bool:
    """Whether nothing may be said of what a name holds."""
    if type(value) in _OPEN or (isinstance(value, Stored) and _is_number(value)):
        return False
    return any(True for _ in _secrets(name, value, _DEEPEST))


def _is_number(stored: Stored) -> bool:
    text = stored.inline if stored.codec == "json" else None
    return text is not None and text[:1] not in b'"[{'


def confidential_texts(values: Mapping[str, object]) -> tuple[str, ...]:
    """Return the texts in these values that must not be shown, the longest first."""
    found = {
        text
        for name, value in values.items()
        for held in _secrets(name, value, _DEEPEST, in_objects=True)
        for text in _texts(held, _DEEPEST)
        if len(text) >= _SHORTEST
    }
    return tuple(sorted({*found, *_known}, key=lambda text: (-len(text), text)))


def _secrets(name: str, value: object, depth: int, *, in_objects: bool = False) -> Iterator[object]:
    """Yield the values under names that look secret, in a value and the dicts in it.

    in_objects: in the attributes of objects, too.
    """
    if looks_secret(name):
        if isinstance(value, (str, bytes, list, tuple, set, frozenset, dict, Stored)):
            yield value
        elif in_objects:
            yield _attributes(value)
    elif isinstance(value, (str, bytes)):
        yield from secrets_in(value)
        if in_objects and depth:
            yield from _secrets("", _attributes(value), depth - 1, in_objects=True)
    elif type(value) is dict and depth and len(value) <= _MOST:
        for key, member in value.items():
            if isinstance(key, str):
                yield from _secrets(key, member, depth - 1, in_objects=in_objects)
    elif is_pair(value) and looks_secret(value[0]):
        yield from _secrets(value[0], value[1], depth - 1, in_objects=in_objects)
    elif type(value) in _LISTS and depth and len(value) <= _MOST:  # type: ignore[arg-type]
        for member in value:  # type: ignore[attr-defined]
            if type(member) in (dict, str, bytes) or is_pair(member):
                yield from _secrets("", member, depth - 1, in_objects=in_objects)
    elif in_objects and depth:
        yield from _secrets("", _attributes(value), depth - 1, in_objects=True)


def _attributes(value: object) -> dict[str, object]:
    """Return what an object of a Python class holds by name, in slots and named tuples too."""
    cls = type(value)
    if cls in _OPEN or cls.__module__ == "builtins":
        return {}
    fields = getattr(cls, "_fields", None)
    if isinstance(value, tuple) and isinstance(fields, tuple):
        return dict(zip(fields, value, strict=False))
    slots = ((base, name) for base in cls.__mro__ for name in _slots(base))
    held = {
        name: each
        for base, name in slots
        if (each := _attribute(value, _as_stored(base, name))) is not None
    }
    named = _attribute(value, "__dict__")
    return {**held, **named} if type(named) is dict else held


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _as_stored(cls: type, name: str) -> str:
    """Return what Python calls a slot: a private one bears its class's name."""
    owner = cls.__name__.lstrip("_")
    private = name.startswith("__") and not name.endswith("__") and owner
    return f"_{owner}{name}" if private else name


def _attribute(value: object, name: str) -> object:
    """Return an attribute without any code of the class, where that is possible."""
    try:
        return object.__getattribute__(value, name)
    except Exception:  # a property of that name stands before it
        return None


def secrets_in(text: str | bytes) -> list[str]:
    """Return the secrets that a text quotes: those in URLs, and what the environment holds."""
    if isinstance(text, bytes):
        if b"://" not in text:
            return [each for each in _known if each.encode("utf-8", "surrogateescape") in text]
        text = text.decode("utf-8", "surrogateescape")
    found = dict.fromkeys(_in_urls(text)) if "://" in text else ()
    return [*found, *(each for each in _known if each in text)]


def _in_urls(text: str) -> Iterator[str]:
    for scheme, rest in urls_in(text) if "@" in text else ():
        yield from sorted(passwords(scheme, rest))
    yield from _in_queries(text)
    yield from _in_queries(text.replace("://", " "))  # a URL can stand in the query of another


def _in_queries(text: str) -> Iterator[str]:
    if "=" not in text:
        return
    for name, value in (*_IN_QUERY.findall(text), *_IN_FRAGMENT.findall(text)):
        word = name.lower()
        may_be_key = word == "key" or (word in _KEYS and not _TEXT.search(value))
        is_key = may_be_key and len(value) >= _LONG_KEY
        if is_key or word in _SIGNATURES or looks_secret(name):
            yield value


def _texts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, dict) and depth:
        for member in value.values():
            yield from _texts(member, depth - 1)
    elif isinstance(value, (list, tuple, set, frozenset)) and depth:
        for member in value:
            yield from _texts(member, depth - 1)
