"""Execute a notebook in a fresh kernel, tell what its nbcache runs do, keep the executed notebook.

The kernel (`own_kernel`) works in the notebook's folder.
Runs are followed through the display messages that `live` makes machine-readable there; those
parts are taken out again before outputs are kept. A failing cell ends the execution, never the
writing of OUT.ipynb. The first interrupt goes to the kernel, which ends its run in order; the
second one, or one while the kernel starts, kills the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from nbcache.engine.record.history import LIVE
from nbcache.errors import RunError, UsageError
from nbcache.notebook import parameters as parametrise
from nbcache.notebook.again import RUN_LINE, check_begun_from, run_lines
from nbcache.notebook.own_kernel import own_kernel
from nbcache.notebook.planning import Planning
from nbcache.notebook.progress import PLAN_MIME, RUN_MIME, SAID_MIME, RunRecord
from nbcache.notebook.settings import HEADLESS_VARIABLE, Headless
from nbcache.notebook.shell_words import as_typed
from nbcache.store.files import new_ulid

_PROCESS_CELL = re.compile(r"^(?:\s*(?:#.*)?\n)*\s*%%process\b")
# A folder that takes no file, or a file that something is mounted on.
_TAKES_NO_OTHER = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)


class Watcher(Protocol):
    """Who is told what happens."""

    def run_changed(self, record: RunRecord) -> None:
        """A run of the kernel is in this state now."""

    def cell_printed(self, text: str) -> None:
        """A cell printed or showed something (its text)."""

    def said(self, text: str) -> None:
        """nbcache has something to say: of a run that is about to begin, or what tasks print."""


@dataclass
class Execution:
    """What came of it. `runs` maps run ids to their last known state, in the order of starting;
    `failed_cell` is (number of the cell, its traceback as text), None where all went well."""

    notebook: Any
    runs: dict[str, RunRecord] = field(default_factory=dict)
    failed_cell: tuple[int, str] | None = None
    begun_in: dict[str, int] = field(default_factory=dict)  # runs, by the numbers of their cells
    started: bool = False  # whether there was a kernel to execute it
    interrupted: bool = False
    said: set[str] = field(default_factory=set)  # texts that the watcher was told at once
    planning: Planning = field(default_factory=Planning)  # where it is executed for that

    def going(self) -> list[str]:
        """Return the ids of the runs that have not ended, as far as was heard."""
        return [run for run, record in self.runs.items() if record["status"] in LIVE]


def read_notebook(path: Path) -> Any:
    """Return the notebook in a file.

    Raises:
        UsageError: there is no such file, or it holds no notebook.
    """
    nbformat = _import_nbformat()
    if not path.is_file():
        raise UsageError(f"no notebook {str(path)!r} (looked in {Path.cwd()})")
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        raise UsageError(f"{path} is no notebook: {error}") from None


def _import_nbformat() -> Any:
    """Import nbformat, without a grammar that its validator brings along beside JupyterLab.

    Loading that takes a second, for international URLs, for which no notebook is checked.
    """
    grammar = "rfc3987_syntax"
    known = grammar in sys.modules
    sys.modules.setdefault(grammar, None)  # type: ignore[arg-type]  # to import it is an error now
    try:
        import nbformat
    finally:
        if not known:
            sys.modules.pop(grammar, None)
    return nbformat


def execute(
    path: Path,
    *,
    given: Mapping[str, str],
    settings: Headless,
    output: Path | None,
    watcher: Watcher,
    targets: Sequence[str] = (),
) -> Execution:
    """Execute the notebook at `path`; see the module's text.

    targets: the processes of a plan (`Headless.is_dry`); none: all.

    Raises:
        UsageError: the file is no notebook, or a parameter or a process is unknown.
        RunError: no kernel can be started.
        KeyboardInterrupt: interrupted before the first cell.
    """
    nbformat = _import_nbformat()
    notebook = read_notebook(path)
    parametrise.check_required(notebook, given)
    parametrise.inject(notebook, given)
    again = settings.again
    known = () if again is None else again.processes
    check_begun_from(notebook, settings.choices.get("from_", ()), known)
    if again is not None:
        lines = run_lines(notebook, again.targets)
        settings = replace(settings, again=replace(again, lines=max(1, lines)))
        if not lines:
            line = " ".join(["%nbcache run", *again.targets])
            notebook.cells.append(nbformat.v4.new_code_cell(line))
    elif settings.is_dry:
        line = " ".join(["%nbcache plan", *targets])
        notebook.cells.append(nbformat.v4.new_code_cell(line))
    elif needs_a_run(notebook):
        notebook.cells.append(nbformat.v4.new_code_cell("%nbcache run"))
    execution = Execution(notebook)
    try:
        asyncio.run(_execute(execution, path.resolve(), settings, watcher))
    finally:
        if output is not None and execution.started:
            write_notebook(nbformat.writes(notebook), output)
    if execution.interrupted and not execution.started:
        raise KeyboardInterrupt
    return execution


def write_notebook(text: str, output: Path) -> None:
    """Write the executed notebook; where the disk is full, what lay there is whole.

    Raises:
        UsageError: the disk is full, or the folder may not be written any more.
    """
    place = output.expanduser()
    text = text if text.endswith("\n") else f"{text}\n"
    try:
        if place.exists() and not place.is_file():  # a pipe, a terminal
            with contextlib.suppress(BrokenPipeError):  # its reader wants no more
                place.write_text(text, encoding="utf-8")
        else:
            _replace(place.resolve(), text)
    except OSError as error:
        raise UsageError(
            f"cannot write {output}: {error.strerror or error}; the results are in the cache"
        ) from None


def _replace(place: Path, text: str) -> None:
    """Put a new file in a place; where only the one there may be written, write that."""
    new = place.with_name(f".nbcache-{new_ulid()}.ipynb")
    try:
        new.write_text(text, encoding="utf-8")
        if place.exists():
            shutil.copymode(place, new)
        os.replace(new, place)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        if error.errno not in _TAKES_NO_OTHER or not place.exists():
            raise
        place.write_text(text, encoding="utf-8")


def needs_a_run(notebook: Any) -> bool:
    """Whether processes are declared and no cell runs them."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return any(map(_PROCESS_CELL.match, sources)) and not any(map(RUN_LINE.search, sources))


async def _execute(execution: Execution, path: Path, settings: Headless, watcher: Watcher) -> None:
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    environment = {
        **os.environ,
        HEADLESS_VARIABLE: settings.to_variable(),
        "JPY_SESSION_NAME": str(path),  # as a Jupyter server says which notebook it is
    }
    async with contextlib.AsyncExitStack() as until_end:
        try:
            kernel = until_end.enter_context(own_kernel())
            client = _client(execution, path.parent, watcher, kernel)
            # Not by nbclient's `async_setup_kernel`: upon a signal it would shut the kernel down
            # while that is starting, or being shut down, and fail.
            _forward_interrupts(kernel, execution)
            await client.async_start_new_kernel(env=environment, cwd=str(path.parent))
            await client.async_start_new_kernel_client()
            until_end.push_async_callback(client._async_cleanup_kernel)
            # Not by `reply=True`, which waits for ever for a kernel that has died.
            info = await client.async_wait_for_reply(client.kc.kernel_info())
        except (OSError, RuntimeError) as error:  # RuntimeError: it died before it answered
            if execution.interrupted:
                return
            reason = error.strerror if isinstance(error, OSError) else None
            raise RunError(
                f"cannot start a kernel ({sys.executable}) in {path.parent}: {reason or error}"
            ) from None
        if execution.interrupted:
            return
        execution.started = True
        execution.notebook.metadata["language_info"] = info["content"]["language_info"]
        number = 0
        for index, cell in enumerate(execution.notebook.cells):
            if cell.cell_type != "code" or not cell.source.strip():
                continue
            number += not (settings.is_dry and parametrise.is_injected(cell))  # as people count
            try:
                await client.async_execute_cell(cell, index, execution_count=number)
            except CellExecutionError:
                if settings.is_dry:
                    if index == len(execution.notebook.cells) - 1:  # our own, which makes the plan
                        raise UsageError(_said_by(cell)) from None
                    if execution.planning.leaves_out(number, cell):
                        continue
                execution.failed_cell = (number, error_of(cell))
                break
            except DeadKernelError:
                execution.failed_cell = (number, _how_it_died(execution, settings))
                return
            finally:
                for run in execution.runs:
                    execution.begun_in.setdefault(run, number)
        if execution.runs:
            await _let_leave(client, execution, settings)


async def _let_leave(client: Any, execution: Execution, settings: Headless) -> None:
    """Wait for the runs that cells began with `--detach`, by a cell that is not kept; where a
    cell failed they are cancelled. Then let the kernel end its workers and tidy up: once it is
    asked to end it has five seconds, which on a busy machine is not enough for that."""
    import nbformat
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    cells, failed = execution.notebook.cells, execution.failed_cell
    going = execution.going()
    stopped = failed is not None or execution.interrupted
    cell = nbformat.v4.new_code_cell(
        "import nbcache.notebook.extension\n"
        "nbcache.notebook.extension.leave("
        f"get_ipython(), cancelled={stopped}, hurried={execution.interrupted})"
    )
    cells.append(cell)
    try:
        await client.async_execute_cell(cell, len(cells) - 1, store_history=False)
    except (CellExecutionError, DeadKernelError) as error:
        is_dead = isinstance(error, DeadKernelError)
        how = _how_it_died(execution, settings) if is_dead else error_of(cell)
        ill = [run for run in going if execution.runs[run]["status"] != "succeeded"] or going
        if ill and failed is None:
            execution.failed_cell = (execution.begun_in[ill[0]], how)
    finally:
        cells.pop()


def _how_it_died(execution: Execution, settings: Headless) -> str:
    """Say that the kernel died, and how a run goes on that it left behind."""
    left = [execution.runs[run]["name"] for run in execution.going()]
    if not left:
        return "the kernel died"
    way_on = as_typed(f"resume {left[-1]}", settings.typed_cache)
    return f"the kernel died; what had ended is kept, and {way_on} goes on"


def _forward_interrupts(kernel: Any, execution: Execution) -> None:
    """The first Ctrl-C interrupts the kernel, as the stop button does; others kill it.

    Only its process gets a signal: what the manager does meanwhile, a shutdown say, goes on.
    """
    tasks: set[asyncio.Future[None]] = set()

    def interrupt() -> None:
        kills = execution.interrupted or not execution.started
        execution.interrupted = True
        if kernel.has_kernel:
            sending = kernel.provisioner.send_signal(signal.SIGKILL if kills else signal.SIGINT)
            tasks.add(asyncio.ensure_future(sending))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)


_OURS = re.compile(r"magic .*`%%?(channel|process|nbcache|nbsql|cached)` not found")


def _said_by(cell: Any) -> str:
    """Return what an error of nbcache's says, without its traceback."""
    texts = [each.evalue for each in cell.outputs if each.output_type == "error"]
    return texts[0] if texts else error_of(cell)


def error_of(cell: Any) -> str:
    """Return the traceback of a cell that failed, or what stands for it.

    IPython prints its own usage errors (a magic that there is not) where others have a traceback.
    """
    printed = ""
    for output in cell.outputs:
        if output.output_type == "error":
            return "\n".join(output.traceback)
        if output.output_type == "stream" and output.name == "stderr":
            printed += output.text
    if _OURS.search(printed):
        printed += "  nbcache comes into a notebook with `%load_ext nbcache`, in a cell above."
    return printed.strip() or "the cell failed"


def _client(execution: Execution, folder: Path, watcher: Watcher, kernel: Any) -> Any:
    from nbclient import NotebookClient
    from nbclient.client import CellExecutionComplete

    class Client(NotebookClient):  # type: ignore[misc]
        """Tells the watcher what the messages say, and keeps what a reader wants to see."""

        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            _read_message(msg, execution, watcher)
            return super().process_message(msg, cell, cell_index)

        async def _async_poll_output_msg(self, asked: str, cell: Any, cell_index: int) -> None:
            """Hear, as nbclient does not, also what runs show that earlier cells have begun."""
            with contextlib.suppress(CellExecutionComplete):
                while True:
                    message = await self.kc.iopub_channel.get_msg(timeout=None)
                    is_own = message["parent_header"].get("msg_id") == asked
                    if is_own or message["msg_type"] == "update_display_data":
                        self.process_message(message, cell, cell_index)

    return Client(
        execution.notebook,
        km=kernel,
        timeout=None,
        resources={"metadata": {"path": str(folder)}},
    )


def _read_message(message: Any, execution: Execution, watcher: Watcher) -> None:
    """Take a run's record out of a display message and hand it on; hand texts on as they are."""
    kind, content = message["msg_type"], message["content"]
    data = content.get("data")
    if isinstance(data, dict):
        record = data.pop(RUN_MIME, None)
        if record is not None:
            execution.runs[record["run"]] = record
            watcher.run_changed(record)
        elif (plan := data.pop(PLAN_MIME, None)) is not None:
            planning = execution.planning
            planning.text = str(data.get("text/plain", ""))
            planning.records, planning.not_known = plan["plan"], plan["not_known"]
        elif data.pop(SAID_MIME, None) is not None:
            text = str(data.get("text/plain", ""))
            execution.said.add(text)
            watcher.said(text)
        elif kind in ("display_data", "execute_result") and "text/plain" in data:
            watcher.cell_printed(str(data["text/plain"]) + "\n")
    elif kind == "stream":
        watcher.cell_printed(content["text"])
