"""Processes of a race, forked from one that has imported what they need: a start costs no import.

`python -m MODULE WORDS` is what each of them is as well; its `main(words)` is called.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.faults.clean_actor",
        "tests.faults.race_actor",
        "tests.engine.shared_users",
        "tests.store.shared_race",
    ]
)


class Forked:
    """A process that calls `main` of a module; what it says is read at its end."""

    def __init__(self, folder: Path, name: str, module: str, *words: str) -> None:
        self._said = folder / f"said-{name}"
        self.process = CONTEXT.Process(
            target=_perform, args=(module, words, dict(os.environ), str(self._said))
        )
        self.process.start()

    def ended(self, patience_s: float) -> str:
        """Wait for its end; return what it said."""
        self.process.join(patience_s)
        said = self._said.read_text() if self._said.exists() else ""
        assert self.process.exitcode == 0, (self.process.exitcode, said)
        return said

    @property
    def goes_on(self) -> bool:
        return self.process.exitcode is None

    def kill(self) -> None:
        """End it, if it goes on."""
        self.process.kill()
        self.process.join()


def _perform(module: str, words: tuple[str, ...], environment: dict[str, str], said: str) -> None:
    """Be what the command line of a module is, with the environment of whoever asked for it."""
    os.environ.clear()
    os.environ.update(environment)  # that of the process it was forked from is an older one
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  for as long as the process
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    importlib.import_module(module).main(list(words))
    sys.stdout.flush()
