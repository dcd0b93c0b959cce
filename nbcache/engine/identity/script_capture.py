"""What a script reaches besides its inputs: its text, the files it calls, programs or an image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from nbcache.engine.identity.called_files import called_files
from nbcache.engine.identity.captured import Captured
from nbcache.engine.identity.containers import engines_for, pinned, resolve_image
from nbcache.engine.identity.sources import place_of_body
from nbcache.engine.identity.tools import names_in, search_path, tool_components
from nbcache.engine.spec import FileInput
from nbcache.errors import FingerprintError
from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component
from nbcache.model.process import ProcessDecl
from nbcache.plan.identity.fingerprint import component
from nbcache.plan.identity.reach import combine
from nbcache.store.filestate import stat_key


def capture_script(
    decl: ProcessDecl,
    digest_of: Callable[[Path], Digest],
    environ: Mapping[str, str],
    folder: Path | None,
) -> tuple[Captured, list[Component]]:
    """Return what a worker needs of a script besides its inputs, and its components.

    folder: where the notebook lies, if that is known.

    Raises:
        FingerprintError: its image cannot be told by its digest.
    """
    text = combine("script", decl.body)
    argv = " ".join(decl.interpreter)
    found = [
        component("code", "body", text, place_of_body(decl), decl.body),
        component("interpreter", "interpreter", combine("argv", decl.interpreter), argv),
    ]
    for name, lines in (("before", decl.directives.before), ("after", decl.directives.after)):
        if lines:
            digest, shown = combine(name, *lines), "\n".join(lines)
            found.append(component("options", name, digest, shown[:80], shown))
    texts = [decl.body, *decl.directives.before, *decl.directives.after]
    texts += [each.command for each in decl.outputs or () if each.command is not None]
    made = {os.path.normpath(each.pattern) for each in decl.outputs or () if each.pattern}
    is_inside = decl.directives.container is not None  # its programs are those of the image
    where = search_path("" if is_inside else environ.get("PATH", ""), folder)
    called = called_files(texts, decl.interpreter, folder, made, where)
    helpers: dict[str, FileInput] = {}
    for name, path in sorted(called.files.items()):
        stat = stat_key(path)
        digest = digest_of(path)
        helpers[name] = FileInput(str(path), digest, name, stat)
        by = called.callers[name] or "the script"
        found.append(component("file", name, digest, f"{name}, called by {by}"))
    captured = Captured(components=(), helpers=helpers)
    if decl.directives.container is not None:
        image, command = _image(decl, decl.directives.container, folder, digest_of, environ)
        return replace(captured, container=command), [*found, image]
    words = {word for word in called.commands if "/" not in word or word[0] == "/"}
    words |= names_in(called.search, words, where)
    mode = decl.directives.tools
    found += tool_components(
        words, decl.interpreter, digest_of, where, mode=mode, places=called.elsewhere
    )
    return captured, found


def _image(
    decl: ProcessDecl,
    reference: str,
    folder: Path | None,
    digest_of: Callable[[Path], Digest],
    environ: Mapping[str, str],
) -> tuple[Component, tuple[str, str]]:
    """Return the component of an image, the engine's program and the image by its digest."""
    place, path = folder or Path.cwd(), environ.get("PATH", "")
    try:
        engines = engines_for(reference, place, path)
        engine, digest = resolve_image(reference, place, engines, digest_of)
    except FingerprintError as error:
        raise FingerprintError(f"process {decl.name!r}: {error}") from None
    part = component(
        "container", "container", combine("container", digest), f"{reference} {digest[:19]}"
    )
    return part, (engine, pinned(reference, digest, place))
