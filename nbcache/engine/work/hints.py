"""What to do about an error of a body that has its reason in how bodies run."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nbcache.engine.identity.payload import unpickle_names
from nbcache.engine.spec import ProcessSpec
from nbcache.plan.language.suggesting import header_taking

# How shells, programs and interpreters say that a file is not there, and of which module.
_NOT_FOUND = re.compile(
    r"no such file|no module named|not found|does not exist|(cannot|can't|could not|unable to) "
    r"(open|find|locate|load|read)",
    re.IGNORECASE,
)
_MODULE = re.compile(r"No module named '?(\w+)|Can't locate (\w+)/")


def hint_about(error: BaseException, process: ProcessSpec) -> str:
    """Return what to do about an error, or "".

    It is kept in the row with the error: a command is named as the notebook has it, wherever the
    row is read, and not as `errors.command` would here.
    """
    if type(error).__name__ == "BdbQuit" or _wants_keyboard(error):
        return f"a task has no keyboard; run it in the kernel: `%nbcache try {process.name}`"
    if _is_of_unpickling(error):
        return (
            "a captured object pickles, but does not unpickle: make it once per worker, with "
            "`@nbcache.resource` above a function that returns it, or make it in the body"
        )
    if isinstance(error, RuntimeError) and str(error) == "no running event loop":
        return (
            "a body runs in an event loop if it awaits something at its top level, as in "
            "`await asyncio.create_task(...)`; what is not awaited there ends with the task"
        )
    return missing_file_hint(error, process)


def _is_of_unpickling(error: BaseException) -> bool:
    """Whether pickle itself could not make a captured object, before any code of the user's ran."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb is not None and tb.tb_frame.f_code is unpickle_names.__code__


def _wants_keyboard(error: BaseException) -> bool:
    return isinstance(error, EOFError) and "EOF when reading a line" in str(error.args)


def missing_file_hint(error: BaseException, process: ProcessSpec) -> str:
    """Return how to declare a file that exists beside the notebook, or ""."""
    name, folder = getattr(error, "filename", None), process.folder
    if not isinstance(error, FileNotFoundError) or not isinstance(name, (str, bytes)) or not folder:
        return ""
    text = os.fsdecode(name)
    if os.path.isabs(text) or not os.path.exists(os.path.join(folder, text)):
        return ""
    return _declare(text, process, "and read `{port}` in the body.")


def hint_about_script(said: str, process: ProcessSpec, folder: Path) -> str:
    """Return how to declare what lies beside the notebook and a script says it did not find in
    `folder`, where it ran, or ""."""
    for line in filter(_NOT_FOUND.search, said.split("\n") if process.folder else ()):
        module = _MODULE.search(line)
        top = (module[1] or module[2]) if module else ""
        for name in (f"{top}.py", top) if top else re.findall(r"[\w./@+-]*\w", line):
            is_beside = name and not os.path.isabs(name) and name[:2] != ".."
            if (
                is_beside
                and (Path(process.folder or "") / name).exists()
                and not (folder / name).exists()
            ):
                return _declare(name, process, f"and it lies in its folder as {Path(name).name}.")
    return ""


def _declare(text: str, process: ProcessSpec, then: str) -> str:
    source = process.sources.get(process.filename, "")
    inputs, outputs = (
        tuple(each.name for each in ports) for ports in (process.inputs, process.outputs)
    )
    header, port = header_taking(text, source, process.name, inputs, outputs)
    return (
        f"{text} is beside the notebook, but a task sees only its inputs. Declare it:\n"
        f"  {header}\n"
        f"  {then.format(port=port)}"
    )
