"""Which package a program belongs to, and its version: conda, Debian and Homebrew are asked.

Reads their records and starts nothing.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

_HOMEBREW = re.compile(r"/Cellar/([^/]+)/([^/]+)/")
_DPKG = Path("/var/lib/dpkg")


def package_of(program: Path) -> tuple[str, str] | None:
    """Return name and version of the package that installed a program, or None."""
    brewed = _HOMEBREW.search(str(program))
    if brewed is not None:
        return brewed.group(1), brewed.group(2)
    for folder in program.parents:
        if (folder / "conda-meta").is_dir():
            return _of_conda(folder).get(str(program.relative_to(folder)))
    name = _of_debian().get(str(program))
    return None if name is None else (name, _debian_versions().get(name, ""))


@lru_cache(maxsize=8)
def _of_conda(environment: Path) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for record in sorted((environment / "conda-meta").glob("*.json")):
        try:
            held = json.loads(record.read_text())
        except (OSError, ValueError):
            continue
        version = f"{held.get('version')} {held.get('build')}"
        found.update((each, (str(held.get("name")), version)) for each in held.get("files", ()))
    return found


@lru_cache(maxsize=1)
def _of_debian() -> dict[str, str]:
    found: dict[str, str] = {}
    for listing in sorted((_DPKG / "info").glob("*.list")):
        name = listing.stem.partition(":")[0]
        try:
            lines = listing.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            if "bin/" in line:
                found[line] = name
                found.setdefault(str(Path("/usr", line.lstrip("/"))), name)  # /bin is /usr/bin
    return found


@lru_cache(maxsize=1)
def _debian_versions() -> dict[str, str]:
    try:
        text = (_DPKG / "status").read_text("utf-8", "replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for entry in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version): (.*)$", entry, re.MULTILINE))
        if "Package" in fields:
            found[fields["Package"]] = fields.get("Version", "")
    return found
