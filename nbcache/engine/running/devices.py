"""The GPUs of this machine, and which running attempt has which.

Only their ids are known here. A task sees its own by `CUDA_VISIBLE_DEVICES`; one that asks for none
sees what the kernel sees.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder in it for each


def gpu_ids(environ: Mapping[str, str] = os.environ, driver: Path = DRIVER) -> tuple[str, ...]:
    """Return the ids of the GPUs that tasks may have.

    `NBCACHE_GPUS` says how many (`2`), or which (`0,3`; `3,` is one); then CUDA_VISIBLE_DEVICES,
    then the driver.
    """
    told = environ.get("NBCACHE_GPUS", "").strip()
    if told.isdigit():
        return tuple(map(str, range(int(told))))
    told = told or environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    if told or "CUDA_VISIBLE_DEVICES" in environ:
        ids = [each.strip() for each in told.split(",")]
        hidden = next((at for at, each in enumerate(ids) if each in ("", "-1")), len(ids))
        return tuple(dict.fromkeys(ids[:hidden]))  # as CUDA reads it: what follows is hidden
    try:
        return tuple(map(str, range(len(list(driver.iterdir())))))
    except OSError:
        return ()


class Devices:
    """The GPUs that no attempt of a run has now."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self._order = {each: place for place, each in enumerate(ids)}
        self._free = list(ids)

    def take(self, count: int) -> tuple[str, ...]:
        """Return the first free ones: equal attempts get equal ones, so that workers serve again.

        The scheduler starts no more attempts than there are GPUs for.
        """
        taken, self._free = tuple(self._free[:count]), self._free[count:]
        return taken

    def give(self, ids: tuple[str, ...]) -> None:
        """An attempt has ended."""
        self._free = sorted([*self._free, *ids], key=self._order.__getitem__)
