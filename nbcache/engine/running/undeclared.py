"""What a run says of files, variables and modules that its tasks used without declaring them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from nbcache.engine.identity.input_settings import InputSettings
from nbcache.engine.running.decision import Decision
from nbcache.model.process import ProcessDecl
from nbcache.model.row import WatchedRead
from nbcache.plan.language.suggesting import header_taking

VARIABLES_TOLD = 8  # that a process reads: more of them are a loop over all


def undeclared(
    decision: Decision, folder: str, reads: Sequence[WatchedRead]
) -> Sequence[WatchedRead]:
    """Return what a task read without the files inside of its inputs (`{"ref": path("x")}`), which
    count there; `folder` is the notebook's."""
    members = [each for found in decision.inputs.values() for each in found.members]
    inside = {PurePath(each.place) for each in members if each.place}
    if not inside:
        return reads
    whole = [PurePath(folder, each.name) for each in reads]
    return [
        each
        for each, path in zip(reads, whole, strict=True)
        if each.kind not in ("file", "folder") or inside.isdisjoint((path, *path.parents))
    ]


def read_notes(process: str, decl: ProcessDecl, reads: Sequence[WatchedRead]) -> Iterator[str]:
    """Yield a line for each thing that a task read unasked; for a loop over the environment one."""
    variables = [each for each in reads if each.kind == "env"]
    if any(each.kind == "variables" for each in reads):
        yield (
            f"{process} goes through the environment variables: it runs again when one is new "
            f"or gone, and when one of the {len(variables)} that it read has another value"
        )
    for read in reads:
        if read not in variables or len(variables) <= VARIABLES_TOLD:
            yield from _read_note(process, decl, read.kind, read.name)


def _read_note(process: str, decl: ProcessDecl, kind: str, name: str) -> Iterator[str]:
    if kind in ("tool", "variables", "package", "settings"):
        return  # there is no way to declare it, and no need
    if kind == "exists":
        yield f"{process} asks whether {name} is there; it is checked from now on"
        return
    if kind in ("file", "folder") and name != ".":  # the notebook's, in which the cache may lie
        inputs, outputs = (
            tuple(each.name for each in ports or ()) for ports in (decl.inputs, decl.outputs)
        )
        header, _ = header_taking(name, decl.source, process, inputs, outputs)
        way_out = f"declare it: {header}"
    elif kind == "env":
        way_out = f"declare it: #| env: {name}"
    else:
        way_out = "it is checked from now on"
    what = "module" if kind == "code" else kind
    yield f"{process} reads {what} {name}, which it does not declare; {way_out}"


def unset_notes(
    process: str, settings: InputSettings, reads: Sequence[WatchedRead]
) -> Iterator[str]:
    """Yield a line for each setting that a task, whose inputs may need it, did not have."""
    for library in {each.name for each in reads if each.kind in ("package", "settings")}:
        for patch, reason in settings.unset(library).items():
            yield (
                f"{process}: {patch}, which a cell sets, is not set in its tasks, though objects "
                f"of {library} are among their inputs: {reason}; set it in the body"
            )


def overlooked_note(folder: str) -> str:
    """Return what to say of a folder of which not all is looked at."""
    return (
        f"{folder} has more folders than are looked at: what a library opens there by itself may "
        "be missed where the code does not name its folder; declare such files"
    )


def changed_note(decision: Decision, name: str) -> str:
    """Return what to say of an input that is not what it was when its task began."""
    found = decision.inputs.get(name)
    place = f" ({found.place})" if found is not None and found.place else ""
    return (
        f"{decision.label}: input {name}{place} changed while the task ran, by the task itself "
        "unless somebody else wrote to it; its result is not kept"
    )
