"""A kernel of this Python for a notebook that is executed, whatever kernelspecs are installed.

It is reached through sockets in a private folder. Ports would be chosen first and bound by the
kernel when it has started: of kernels that start at once, one may find its port taken and die.
Who is killed leaves such a folder behind; the next one that makes one clears it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbcache.store.files import lock_left

_PREFIX = "nbcache-kernel-"
_IN_USE = "in-use"  # a file in such a folder, which its owner keeps locked
_OLD_S = 86_400.0  # nobody needs as long for making that file
_LONGEST = 90  # bytes of a path: what a socket's name may have at least, less what is appended


@contextlib.contextmanager
def own_kernel(python: str | None = None) -> Iterator[Any]:
    """Give the manager of a kernel that nbclient starts and ends; its files go with it."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class ThisPython(AsyncKernelManager):  # type: ignore[misc,unused-ignore]
        @property
        def kernel_spec(self) -> KernelSpec:
            # The kernel's warnings are about servers that others can reach.
            argv = [python or sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR"]
            argv += ["-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

    _clear_left()
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name,
        open(Path(name, f"{_IN_USE}-soon"), "wb") as in_use,
    ):
        # It has its name when it is locked: nobody may take the folder for one that was left.
        with contextlib.suppress(OSError):  # a file system without locks: nobody gets this one
            fcntl.flock(in_use, fcntl.LOCK_EX)
        os.rename(in_use.name, Path(name, _IN_USE))
        file = Path(name, "kernel.json")
        fits = len(os.fsencode(file)) <= _LONGEST
        yield ThisPython(transport="ipc" if fits else "tcp", connection_file=str(file))


def _clear_left() -> None:
    """Delete this user's folders whose owner was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            descriptor = lock_left(folder / _IN_USE)
            if descriptor is None:
                _clear_unmarked(folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)


def _clear_unmarked(folder: Path) -> None:
    """Delete a folder whose owner was killed before it could mark it, once it is old."""
    is_marked = (folder / _IN_USE).exists()
    if not is_marked and time.time() - folder.stat().st_mtime > _OLD_S:
        shutil.rmtree(folder, ignore_errors=True)
