"""What the audit event of an opening says: the mode of `open`, or the flags of `os.open`."""

from __future__ import annotations

import os


def is_reading(mode: object, flags: object) -> bool:
    """Whether a file that is opened so may be read as it was."""
    if isinstance(mode, str):
        return "r" in mode or "+" in mode
    return isinstance(flags, int) and flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_TRUNC


def is_writing(mode: object, flags: object) -> bool:
    """Whether a file that is opened so may be changed."""
    if isinstance(mode, str):
        return not {"w", "a", "+", "x"}.isdisjoint(mode)
    writing = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND
    return isinstance(flags, int) and bool(flags & writing)


def is_making(mode: object, flags: object) -> bool:
    """Whether opening a file so makes it anew: then its earlier content is not read."""
    if isinstance(mode, str):
        return "w" in mode or "x" in mode
    return isinstance(flags, int) and bool(flags & (os.O_TRUNC | os.O_EXCL))
