"""Take what a process reaches besides its inputs: its identity and what a worker needs of it.

Digests and pickle are made together, on the caller's thread, once per run and process: an edit
that comes later counts for the next run. What is taken is exactly what the body can reach; what
it cannot reach is neither hashed nor sent. The payload is a cloudpickle of {name: value}, in one
piece, so that what is shared stays shared.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from nbcache.engine.identity.captured import Captured
from nbcache.engine.identity.cell_settings import Surroundings
from nbcache.engine.identity.packages import see_packages
from nbcache.engine.identity.python_capture import PythonCapture
from nbcache.engine.identity.script_capture import capture_script
from nbcache.errors import FingerprintError
from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component
from nbcache.model.process import Output, ProcessDecl
from nbcache.plan.identity.confidential import know_secrets
from nbcache.plan.identity.fingerprint import component
from nbcache.plan.identity.reach import combine
from nbcache.plan.language.facts import BodyFacts
from nbcache.store.filestate import digest_of as digest_now


def capture(
    decl: ProcessDecl,
    facts: BodyFacts | None,
    namespace: Mapping[str, object],
    *,
    taken: Collection[str] = (),
    notebook_dir: Path | None = None,
    digest_of_file: Callable[[Path], Digest] | None = None,
    environ: Mapping[str, str] | None = None,
    send: bool = True,
    around: dict[str, Surroundings] | None = None,
) -> Captured:
    """Return the components and the payload that all tasks of a process share.

    `taken` are names that the body gets otherwise (inputs, outputs) or that are no data
    (channels). Without `send` nothing is pickled: the body runs where it is. Captures of one moment
    share what is `around`, which is filled as it is looked at.

    Raises:
        NoCanonicalFormError: a value that is reached cannot be identified.
        FingerprintError: a value that is reached cannot be sent to a worker.
    """
    see_packages()
    variables = os.environ if environ is None else environ
    know_secrets(variables)
    folder, digest_of = notebook_dir or Path.cwd(), digest_of_file or digest_now
    declared = [*_declared(decl, variables), *_declared_files(decl, folder, digest_of)]
    if decl.language == "script":
        found, components = capture_script(decl, digest_of, variables, notebook_dir)
    else:
        capturing = PythonCapture(decl, facts, namespace, set(taken), notebook_dir, around)
        found, components = capturing.take(send)
    return _finish(found, [*declared, *components])


def _finish(found: Captured, components: list[Component]) -> Captured:
    ordered = tuple(sorted(components, key=lambda each: each.key))
    return replace(found, components=ordered)


def _declared(decl: ProcessDecl, environ: Mapping[str, str]) -> list[Component]:
    """The components that the header alone gives."""
    outputs = tuple(
        # A final expression's output bears the process's name, which does not count.
        (
            "" if decl.inferred and each.name == decl.name else each.name,
            str(each.type or ""),
            each.pattern,
            *(() if each.command is None else (each.command,)),
        )
        for each in decl.outputs or ()
    )
    shown = ", ".join(map(_output_text, decl.outputs or ()))
    found = [component("outputs", "outputs", combine("outputs", *outputs), shown)]
    directives = decl.directives
    if directives.seed is not None:
        digest = combine("seed", directives.seed)
        found.append(component("seed", "seed", digest, str(directives.seed)))
    for name in sorted(set(directives.env)):
        value = environ.get(name)
        digest = combine("env", value)  # of the value nothing else is kept: rows are shared
        found.append(component("env", name, digest, "not set" if value is None else "set"))
    found += [
        component("ignored", name, combine("ignored"), "left out by --ignore")
        for name in sorted(set(directives.ignore))
    ]
    if directives.platform or decl.language == "script":
        text = f"{sys.platform} {platform.machine()}"
        found.append(component("platform", "platform", combine("platform", text), text))
    return found


def _output_text(output: Output) -> str:
    """Return an output as the header has it."""
    text = output.name if output.type is None else f"{output.name}: {output.type}"
    value = output.pattern if output.command is None else f"$({output.command})"
    return text if value is None else f'{text} = "{value}"'


def _declared_files(
    decl: ProcessDecl, folder: Path, digest_of: Callable[[Path], Digest]
) -> list[Component]:
    """Return a component for each lock or environment file that the header names."""
    found: list[Component] = []
    for name in decl.directives.files:
        path = folder / name
        if not path.exists():
            raise FingerprintError(
                f"process {decl.name!r}: no file {name}, named by --files (looked in {folder}).\n"
                "  Write it, or take it out of --files."
            )
        found.append(component("lock", name, digest_of(path), f"{name}, by --files"))
    return found
