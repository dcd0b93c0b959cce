"""Qualified names: which classes and functions are known well enough by name alone.

What belongs to Python itself or to an installed package is identified by its module and name (its
version is another component of the fingerprint). What a notebook or a local module defines is
not: it has to be identified by its code, which `leaf` does. Nothing is imported or read here.
"""

from __future__ import annotations

import site
import sys
import sysconfig
from functools import cache
from operator import attrgetter

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_IMMUTABLE_TYPE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE


def attribute(value: object, name: str) -> object:
    """Return an attribute of any object; None where it has none.

    Whatever an object's own `__getattr__` raises says so, too: a dictionary whose keys are read as
    attributes raises KeyError.
    """
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def module_of(value: object) -> str:
    """Return the name of the module that an object says it is of; "" where it says none."""
    module = attribute(value, "__module__")
    return module if isinstance(module, str) else ""


def qualname_of(value: object) -> str:
    """Return the name of an object within its module; "" where it has none."""
    found = attribute(value, "__qualname__")
    return str(attribute(value, "__name__") or "" if found is None else found)


def type_name(cls: type) -> str:
    """Return a class's name for people: "Decimal" of builtins, else "decimal.Decimal"."""
    module = getattr(cls, "__module__", None)
    if not isinstance(module, str) or module in ("builtins", "__main__"):
        return cls.__qualname__
    return f"{module}.{cls.__qualname__}"


_ELSEWHERE = ("/site-packages/", "/dist-packages/")  # of another environment, on sys.path


@cache
def _installed_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += site.getsitepackages()
    user = site.getusersitepackages()
    return tuple(folder.rstrip("/") + "/" for folder in (*folders, user))


def is_installed(module_name: str) -> bool:
    """Tell whether a module belongs to Python or to a package in site-packages.

    Judged by where the loaded module of that name lies; an editable install is local code.
    """
    root = module_name.partition(".")[0]
    if root == "__main__":
        return False
    module = sys.modules.get(module_name) or sys.modules.get(root)
    file = getattr(module, "__file__", None)
    if file is None:
        places = list(getattr(module, "__path__", ()))
        file = places[0] + "/" if places else None
    if file is None:
        return root in sys.stdlib_module_names or root in sys.builtin_module_names
    return file.startswith(_installed_folders()) or any(part in file for part in _ELSEWHERE)


def found_under_its_name(value: object, module_name: str, qualname: str) -> bool:
    """Tell whether a loaded module has this very object under that name."""
    try:
        return attrgetter(qualname)(sys.modules[module_name]) is value
    except (KeyError, AttributeError):
        return False


_SHARED_GENERATORS = (("random", "_inst"), ("numpy.random.mtrand", "_rand"))


def shared_generator(value: object) -> tuple[str, str] | None:
    """Return module and name of a random generator that a whole process draws from, or None.

    `random.random` and `numpy.random.normal` are methods of it. Its state is that of the process
    and not a value: a worker has its own, which every attempt seeds.
    """
    for module, name in _SHARED_GENERATORS:
        if getattr(sys.modules.get(module), name, None) is value:
            return module, name
    return None


def installed_class(cls: type) -> str | None:
    """Return None if a class is identified by its name, else the reason why it is not."""
    module = cls.__module__
    if not isinstance(module, str) or not is_installed(module):
        return "a class defined in the notebook or in a local module"
    if not cls.__flags__ & _HEAP_TYPE or cls.__flags__ & _IMMUTABLE_TYPE:
        return None  # compiled: nobody can make a second one of that name
    if found_under_its_name(cls, module, cls.__qualname__):
        return None
    return "a class made on the fly, which is not found under its name"


def installed_function(function: object) -> str | None:
    """Return None if a function is identified by its name, else the reason why it is not."""
    module = attribute(function, "__module__")
    qualname = attribute(function, "__qualname__")
    if not isinstance(qualname, str):
        return "a callable without a name"
    if not isinstance(module, str) or not is_installed(module):
        return "a function defined in the notebook"
    if found_under_its_name(function, module, qualname):
        return None
    return "a function made on the fly, which is not found under its name"
