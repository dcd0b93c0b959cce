"""What of the interpreter and of where it runs decides what a body does, beside its code.

The version always counts, `-O` and the encoding of texts where they are not what they mostly are,
the time zone and the language where the code that is reached asks for them.
"""

from __future__ import annotations

import codecs
import os
import sys
import zoneinfo
from collections.abc import Collection, Iterator
from contextlib import suppress

from nbcache.model.digest import identity_digest
from nbcache.model.fingerprint import Component
from nbcache.plan.identity.asked import Asked
from nbcache.plan.identity.explain import TIME_ZONE
from nbcache.plan.identity.fingerprint import component
from nbcache.plan.identity.reach import combine

_LOCAL, _SHORT = "/etc/localtime", 200  # bytes of a file of rules
_LANGUAGE = ("LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_MONETARY", "LC_NUMERIC", "LC_TIME", "LANG")


def python_component() -> Component:
    """Return the component of the interpreter.

    With `-O` no `assert` is checked and `__debug__` is false; the encoding is that of files which
    are opened without one.
    """
    said = [f"{sys.version_info[0]}.{sys.version_info[1]}"]
    if sys.flags.optimize:
        said.append(f"-{'O' * sys.flags.optimize}")
    # As it was when the process began, and a worker's: a cell may have set another locale since
    encoding = codecs.lookup(sys.getfilesystemencoding()).name
    if encoding != "utf-8":
        said.append(f"texts in {encoding}")
    return component("python", "python", combine("python", *said), ", ".join(said))


def python_flags() -> list[str]:
    """Return the options with which a process gets an interpreter like this one."""
    flags = [f"-{'O' * sys.flags.optimize}"] if sys.flags.optimize else []
    return [*flags, *(["-X", "utf8"] if sys.flags.utf8_mode else [])]


def host_components(asked: Collection[Asked], declared: Collection[str]) -> Iterator[Component]:
    """Yield what code asks of where it runs; `declared` variables count by themselves."""
    if "zone" in asked and "TZ" not in declared:
        zone = _time_zone()
        if zone is not None:
            name, rules = zone
            yield component("env", TIME_ZONE, combine("zone", identity_digest(rules)), name)
    if "locale" in asked and "LANG" not in declared:
        said = [f"{name}={os.environ[name]}" for name in _LANGUAGE if os.environ.get(name)]
        yield component("env", "LANG", combine("locale", *said), ", ".join(said) or "not set")


def _time_zone() -> tuple[str, bytes] | None:
    """Return the time zone of tasks as people say it, and its rules: two names may mean one.

    None is UTC, whatever names it: also where nothing does, as in a small container.
    """
    name = os.environ.get("TZ")
    if name is None:
        path = os.path.realpath(_LOCAL)
        name = path.rpartition("zoneinfo/")[2] if "zoneinfo/" in path else _LOCAL
        places, rules = [path], b""
    else:
        name = name.lstrip(":")
        places = [os.path.join(folder, name) for folder in zoneinfo.TZPATH] if name else []
        rules = name.encode("utf-8", "surrogateescape")
    for path in places:
        with suppress(OSError), open(path, "rb") as file:
            rules = file.read()
            break
    # A file ends with the rule for all times to come; a short one has no other before.
    is_utc = rules.endswith(b"\nUTC0\n") and len(rules) < _SHORT
    return None if is_utc or rules in (b"", b"UTC", b"UTC0") else (name, rules)
