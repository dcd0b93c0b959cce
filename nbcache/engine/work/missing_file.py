"""Say how to declare a file that a body looked for in vain, though it is beside the notebook."""

from __future__ import annotations

import os
from pathlib import Path

from nbcache.engine.spec import ProcessSpec
from nbcache.plan.language.suggesting import header_with


def missing_file_hint(error: BaseException, process: ProcessSpec) -> str:
    """Return how to declare a file that exists beside the notebook, or ""."""
    name, folder = getattr(error, "filename", None), process.folder
    if not isinstance(error, FileNotFoundError) or not isinstance(name, (str, bytes)) or not folder:
        return ""
    text = os.fsdecode(name)
    if os.path.isabs(text) or not os.path.exists(os.path.join(folder, text)):
        return ""
    inputs = tuple(each.name for each in process.inputs)
    port = "".join(each if each.isalnum() else "_" for each in Path(text).stem).strip("_") or "data"
    if not port.isidentifier() or port in inputs:
        port = f"{port}_file" if port.isidentifier() else f"file_{port}"
    source = process.sources.get(process.filename, "")
    header = header_with(source, process.name, inputs, f'{port}: path = "{text}"')
    return (
        f"{text} is beside the notebook, but a task sees only its inputs. Declare it:\n"
        f"  {header}\n"
        f"  and read `{port}` in the body."
    )
