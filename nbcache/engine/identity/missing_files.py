"""What a channel says of a file that is not there: where it was looked for, and what was meant."""

from __future__ import annotations

import os
from pathlib import Path

from nbcache.model.value import RemoteFile
from nbcache.plan.language.header_text import nearest

_LISTED = 10_000  # names of a folder that are compared with what was asked for


def no_file(name: str, folder: Path) -> str:
    """Return "no file data/x.cvs (looked in /project)", with the name that was most likely meant,
    or what there is in a file's place.

    name: as the user wrote it, relative to `folder`, or absolute.
    """
    if (folder / name).exists():  # reading it might never end
        return f"{name} is neither a file nor a folder (a pipe, socket or device)"
    if (folder / name).is_symlink():
        return f"{name} is a link to {os.readlink(folder / name)}, which is not there"
    if "://" in name:
        return f"no file {RemoteFile(name).place}{of_url(name)}"
    looked = "" if os.path.isabs(name) else f" (looked in {folder})"
    return f"no file {name}{looked}{_meant(name, folder)}"


def of_url(name: str) -> str:
    """Return the way out where a text is a URL, else nothing."""
    return "; a URL is taken by path(...) or from_path(...)" if "://" in name else ""


def no_match(pattern: str, folder: Path) -> str:
    """Return the same of a glob that matches nothing; it names the folder that is not there."""
    looked = f"no file matches {pattern} (looked in {folder})"
    fixed = os.path.dirname(pattern)
    while any(mark in fixed for mark in "*?[{"):
        fixed = os.path.dirname(fixed)
    return looked + (f"\n  {no_folder}" if (no_folder := _no_folder(fixed, folder)) else "")


def _meant(name: str, folder: Path) -> str:
    above, own = os.path.split(name.rstrip("/"))
    if no_folder := _no_folder(above, folder):
        return f"\n  {no_folder}"
    found = nearest(own, _names(folder / above))
    return "" if found is None else f'\n  did you mean "{os.path.join(above, found)}"?'


def _no_folder(name: str, folder: Path) -> str:
    """Return "there is no folder dat; did you mean "data"?", or nothing where it is there."""
    missing = ""
    while name and not (folder / name).is_dir():
        missing, name = name, os.path.dirname(name)
    if not missing:
        return ""
    found = nearest(os.path.basename(missing), _names(folder / name))
    meant = "" if found is None else f'; did you mean "{os.path.join(name, found)}"?'
    return f"there is no folder {missing}{meant}"


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [each.name for each, _ in zip(entries, range(_LISTED), strict=False)]
    except OSError:
        return []
