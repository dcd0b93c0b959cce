"""A real IPython shell with nbcache loaded, working in a folder of its own."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from nbcache.engine.session import Session, set_current_session
from nbcache.errors import NbcacheError
from tests.waiting import PATIENCE_S


@dataclass
class Answer:
    """What a cell came to: its value, what it printed, the bundles it displayed, its error."""

    value: Any
    out: str
    shown: list[dict[str, Any]]
    error: BaseException | None

    @property
    def text(self) -> str:
        """All displayed text, then what was printed."""
        return "\n".join([*(str(each.get("text/plain", "")) for each in self.shown), self.out])


class Shell:
    """Runs cells as a notebook would."""

    def __init__(self) -> None:
        config = Config({"HistoryManager": {"enabled": False}})
        InteractiveShell.clear_instance()  # one of another test's has another module for its names
        self.ip = InteractiveShell.instance(config=config, user_module=ModuleType("__main__"))
        hook = self.ip.displayhook
        hook.do_full_cache = False  # else it collects garbage: seconds, late in a run of tests
        self.ip.reset(new_session=True)
        hook.do_full_cache = True

    @property
    def session(self) -> Session:
        session: Session = self.ip._nbcache_front.session
        return session

    def run(self, source: str) -> Answer:
        with capture_output(stdout=True, stderr=True, display=True) as captured:
            result = self.ip.run_cell(source, store_history=True)
        return Answer(
            result.result,
            captured.stdout + captured.stderr,
            [each.data for each in captured.outputs],
            result.error_before_exec or result.error_in_exec,
        )

    def ok(self, source: str) -> Answer:
        answer = self.run(source)
        if answer.error is not None:
            raise AssertionError(f"the cell failed: {answer.text}") from answer.error
        return answer


@contextlib.contextmanager
def shell_in(folder: Path) -> Iterator[Shell]:
    """Give a shell in `folder` with nbcache loaded; everything is put back afterwards."""
    before = Path.cwd()
    os.chdir(folder)
    set_current_session(None)
    shell = Shell()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            shell.ip.run_cell("%load_ext nbcache")
        yield shell
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            session = shell.session
            run = session.last_run
            if run is not None:
                run.cancel()
                run.wait(PATIENCE_S)
            with contextlib.suppress(NbcacheError, OSError):
                session.close()  # its workers end: a process has only so many open files
            shell.ip.run_cell("%unload_ext nbcache")
        set_current_session(None)
        os.chdir(before)
        InteractiveShell.clear_instance()
