"""Several scripts under one header: a task runs the first whose condition holds for its inputs.

Each is a declaration of its own, as if the header stood above it alone: what counts in a task's
hash is the script that it runs, so an edit of another one runs nothing, and a result is shared with
a process that has this script as its only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nbcache.model.digest import identity_digest
from nbcache.model.fingerprint import Component
from nbcache.model.process import ProcessDecl, Script
from nbcache.plan.identity.fingerprint import SCRIPT


def scripts_of(decl: ProcessDecl) -> tuple[ProcessDecl, ...]:
    """Return one declaration for each script of a process that has several; else none."""
    return tuple(
        replace(
            decl,
            body=each.body,
            body_line=each.body_line,
            interpreter=each.interpreter or decl.interpreter,
            scripts=(),
        )
        for each in decl.scripts
    )


def recorded_script(script: Script, own: Sequence[Component]) -> Component:
    """Return what a run records of one of several scripts, to tell later whether it changed.

    own: the components that tasks have by running this script and no other.
    """
    text = "\n".join(f"{each.kind} {each.name} {each.digest}" for each in own)
    summary = f"line {script.body_line}"
    return Component(SCRIPT, str(script), 1, identity_digest(text.encode()), summary, script.body)
