"""Which package a program belongs to, and its version: conda, Debian and Homebrew are asked.

Reads their records, again when they have changed, and starts nothing.
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
            records = folder / "conda-meta"
            return _of_conda(records, _changed(records)).get(str(program.relative_to(folder)))
    name = _of_debian(_DPKG, _changed(_DPKG / "info")).get(str(program))
    if name is None:
        return None
    return name, _debian_versions(_DPKG, _changed(_DPKG / "status")).get(name, "")


def _changed(path: Path) -> int:
    """Return another number once a record has changed: package managers replace theirs."""
    try:
        found = path.stat()
    except OSError:
        return 0
    return hash((found.st_mtime_ns, found.st_ino, found.st_size))


@lru_cache(maxsize=8)
def _of_conda(records: Path, changed: int) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for record in sorted(records.glob("*.json")):
        try:
            held = json.loads(record.read_text())
        except (OSError, ValueError):
            continue
        version = f"{held.get('version')} {held.get('build')}"
        found.update((each, (str(held.get("name")), version)) for each in held.get("files", ()))
    return found


@lru_cache(maxsize=1)
def _of_debian(records: Path, changed: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for listing in sorted((records / "info").glob("*.list")):
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
def _debian_versions(records: Path, changed: int) -> dict[str, str]:
    try:
        text = (records / "status").read_text("utf-8", "replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for entry in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version): (.*)$", entry, re.MULTILINE))
        if "Package" in fields:
            found[fields["Package"]] = fields.get("Version", "")
    return found
