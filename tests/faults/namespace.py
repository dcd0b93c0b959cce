"""Run a Python program in a mount namespace of its own: its file systems vanish with it.

Full and read-only disks are real ones then, for root and, where the system allows it, for anybody.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

REPOSITORY = Path(__file__).resolve().parent.parent.parent
_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


@functools.cache
def _is_possible() -> bool:
    if shutil.which("unshare") is None:
        return False
    script = "mount -t tmpfs none /mnt"
    tried = subprocess.run([*_UNSHARE, "sh", "-c", script], capture_output=True, check=False)
    return tried.returncode == 0


def run_on_tmpfs(place: Path, megabytes: int, program: str, *words: str) -> str:
    """Mount a small tmpfs at `place` and run `python -m program place words` over it; returns what
    it printed. Skips the test where this system lets us mount nothing."""
    if not _is_possible():
        pytest.skip("no mount namespaces here: unshare --user --mount is not permitted")
    place.mkdir(exist_ok=True)
    script = 'size=$1 place=$2; shift 2; mount -t tmpfs -o size="$size"m none "$place"; exec "$@"'
    inner = ["sh", "-ec", script, "sh", str(megabytes), str(place)]
    command = [sys.executable, "-m", program, str(place), *words]
    ended = subprocess.run(
        [*_UNSHARE, *inner, *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
