"""Turn what an attempt made into content in the store: files, folders, values.

Runs when nothing of the attempt is alive any more. Files are moved into the store, not copied,
unless they belong to somebody else (an input, a file outside the work directory). A value gets a
content digest from its canonical form; without one it is known by its bytes and marked opaque.
"""

from __future__ import annotations

import glob
import mmap
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath

from nbcache.codec.registry import encode
from nbcache.errors import CodecError, NoCanonicalFormError, OutputError, kind_of
from nbcache.model.digest import Digest, blob_digest
from nbcache.model.process import Output
from nbcache.model.row import Port
from nbcache.model.value import Gathered, Stored, StoredKind
from nbcache.plan.identity.canonical import canonical_digest
from nbcache.plan.language.quantities import render_pattern
from nbcache.store.cache import Cache
from nbcache.store.files import unlock

Leaf = Callable[[object], Digest | None]
INLINE_MAX = 4096  # bytes of one value inside its row
INLINE_ROW_MAX = 16_384  # bytes of all values inside one row
NOTHING = Stored(digest=canonical_digest(None), kind="none", codec="", size=0)
SECRET_MIN = 6  # characters: a shorter secret is found in everything
HIDDEN = (".nbcache", ".command.")  # our own files in a work directory begin so


class Harvest:
    """Keeps the outputs of one attempt.

    `folder` is its work directory, `staged` the relative paths of its inputs there, `values` what
    the inputs are (for `{name}` in patterns). `leaf` gives what identifies functions and classes of
    the user's by their code; asked for where a value holds any.
    """

    def __init__(
        self,
        cache: Cache,
        folder: Path,
        staged: set[str],
        values: Mapping[str, object],
        *,
        secrets: Mapping[str, str] | None = None,
        leaf: Callable[[], Leaf] | None = None,
    ) -> None:
        self._secrets = {
            name: os.fsencode(text)
            for name, text in (secrets or {}).items()
            if len(text) >= SECRET_MIN
        }
        self._cache, self._folder, self._staged, self._values = cache, folder, staged, values
        self._leaf = leaf
        self._inline = 0
        self._kept: dict[str, Stored] = {}
        self._found: dict[str, list[Path]] = {}  # by output: its files

    def find(self, output: Output, made: object = None) -> None:
        """Note which files a path output is; for all outputs before any file is moved away.

        Raises:
            OutputError: `made` is no path, or is not there.
        """
        self._found[output.name] = self._paths(output, made)

    def file(self, output: Output, made: object = None) -> Stored | Gathered:
        """Keep a path output: by its pattern, by the paths in `made`, else the file of its name.

        Raises:
            OutputError: a required file is not there, or their number does not fit.
        """
        kind = output.type
        many = kind is not None and kind.depth > 0
        if output.name not in self._found:
            self.find(output, made)
        paths = self._found[output.name]
        if many:
            self._check_count(output, paths)
            return Gathered(self._keep(path, output.name) for path in paths)
        if not paths:
            if kind is not None and kind.optional:
                return NOTHING
            raise self._missing(output)
        if len(paths) > 1:
            listed = ", ".join(str(path) for path in paths[:5])
            raise OutputError(
                f"output {output.name!r} is one path, but {len(paths)} match: {listed}.\n"
                f"  Make the pattern narrower, or declare `{output.name}: list[path]`."
            )
        return self._keep(paths[0], output.name)

    def value(self, name: str, value: object) -> Stored | Gathered:
        """Keep a value: encoded, inside the row where it is small. A path that the body made
        in its work directory is kept as a file, also without a declaration.

        Raises:
            OutputError: no codec can encode it.
        """
        if self._is_own_path(value):
            return self.file(Output(name), value)
        if isinstance(value, list) and value and all(map(self._is_own_path, value)):
            return Gathered(self._keep(Path(member), name) for member in value)
        try:
            kept = keep_value(
                self._cache,
                value,
                INLINE_ROW_MAX - self._inline,
                check=partial(self._refuse_secrets, name),
                leaf=self._leaf,
            )
        except CodecError as error:
            raise OutputError(f"output {name!r}: {error}") from error
        self._inline += len(kept.inline or b"")
        return kept

    def _is_own_path(self, value: object) -> bool:
        if not isinstance(value, PurePath):
            return False
        full = self._folder / value
        if self._is_all(full):
            return bool(self._made())
        return full.exists() and full.resolve().is_relative_to(self._folder.resolve())

    def _is_all(self, full: Path) -> bool:
        """Whether a path is the work directory itself: all that the body made there."""
        return full.resolve() == self._folder.resolve()

    def _made(self) -> list[str]:
        """Return the names of what the body made in its work directory."""
        return [
            each
            for each in sorted(os.listdir(self._folder))
            if each not in self._staged and not each.startswith(HIDDEN)
        ]

    def _paths(self, output: Output, made: object) -> list[Path]:
        if output.pattern is not None:
            return self._match(render_pattern(output.pattern, self._values))
        if made is None:
            return [Path(output.name)] if os.path.exists(self._folder / output.name) else []
        paths: list[Path] = []
        for member in made if isinstance(made, (list, tuple)) else [made]:
            if not isinstance(member, (str, os.PathLike)):
                raise OutputError(
                    f"output {output.name!r} is declared as a path, but the body made "
                    f"{kind_of(member)}\n  give the name of a file that the body wrote, or "
                    f"declare `{output.name}` without `path`"
                )
            paths.append(Path(member))
        for path in paths:
            if not os.path.exists(self._folder / path):
                raise self._missing(output, str(path))
        return paths

    def _match(self, pattern: str) -> list[Path]:
        """Return what matches, in the order of the names' bytes, without the staged inputs."""
        recursive = "**" in PurePath(pattern).parts
        found = glob.glob(pattern, root_dir=self._folder, recursive=recursive)
        kept = []
        for name in {os.path.normpath(each) for each in found}:
            parents = [str(parent) for parent in (PurePath(name), *PurePath(name).parents)]
            if self._staged.intersection(parents) or name.startswith((*HIDDEN, "..")):
                continue
            if os.path.isabs(name) or not os.path.exists(self._folder / name):
                continue
            if recursive and os.path.isdir(self._folder / name):
                continue
            kept.append(Path(name))
        return sorted(kept, key=os.fsencode)

    def _keep(self, path: Path, name: str) -> Stored:
        """Keep a file or folder; the work directory itself bears the name of the output."""
        full = self._folder / path
        key = os.path.normpath(full)
        if key in self._kept:
            return self._kept[key]
        if self._secrets:
            self._refuse_in_files(full, path)
        if os.path.isdir(full):
            for other in self._below(path):
                self._keep(other, name)
        self._kept[key] = kept = self._put(full, path, name)
        return kept

    def _refuse_secrets(self, what: str, data: bytes | memoryview | mmap.mmap) -> None:
        """Refuse an output that holds a secret: it would lie in the cache for everybody."""
        if not self._secrets:
            return
        searched = data.tobytes() if isinstance(data, memoryview) else data
        for name, secret in self._secrets.items():
            if searched.find(secret) >= 0:
                raise OutputError(
                    f"output {what!r} holds the secret {name}, which is never kept.\n"
                    "  Leave it out of what the task returns, or read it where it is needed."
                )

    def _refuse_in_files(self, full: Path, path: Path) -> None:
        inside = [each for each in full.rglob("*") if each.is_file()] if full.is_dir() else [full]
        for each in inside:
            if not each.is_file() or not each.stat().st_size:
                continue
            with (
                open(each, "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                self._refuse_secrets(str(path), data)

    def _below(self, folder: Path) -> list[Path]:
        """Return the outputs that lie in a folder which is an output itself."""
        found = [path for paths in self._found.values() for path in paths]
        return [path for path in found if folder in path.parents]

    def _put(self, full: Path, path: Path, name: str) -> Stored:
        """Move an output into the store; what may not be moved is copied first."""
        mode, source = os.stat(full).st_mode, full
        is_folder = stat.S_ISDIR(mode)
        if not is_folder and not stat.S_ISREG(mode):
            raise OutputError(f"the output {path} is {_special(mode)}, which cannot be kept")
        is_all = is_folder and self._is_all(full)
        if is_all or not self._is_ours(full):
            source = self._folder / f"{HIDDEN[0]}-copy-{len(self._kept)}"
            unlock(self._folder)
            if is_all:
                self._put_together(source)
            elif is_folder:
                shutil.copytree(full, source, symlinks=False)
            else:
                shutil.copy2(full, source)
        made = (self._cache.blobs.put_tree if is_folder else self._cache.blobs.put_file)(source)
        kind: StoredKind = "tree" if is_folder else "file"
        return Stored(
            digest=made.identity,
            kind=kind,
            codec=kind,
            size=made.size,
            blob=made.blob,
            name=name if is_all else path.name or full.name,
            executable=None if is_folder else bool(mode & stat.S_IXUSR),
            vouched=True,
        )

    def _put_together(self, folder: Path) -> None:
        """Bring what the body made into one folder, without what was staged."""
        made = [self._folder / each for each in self._made()]
        folder.mkdir()
        for each in sorted(made, key=os.path.islink, reverse=True):
            if not each.is_symlink() or not each.exists():
                if each.is_dir():
                    unlock(each)
                each.rename(folder / each.name)
            elif each.is_dir():  # it may lead to what was staged
                shutil.copytree(each, folder / each.name)
            else:
                shutil.copy2(each, folder / each.name)

    def _is_ours(self, full: Path) -> bool:
        """Say whether a file may be moved: made by the attempt in its own folder, and in no other
        output."""
        normal = Path(os.path.normpath(full))
        if full.is_symlink() or not normal.is_relative_to(self._folder):
            return False
        relative = normal.relative_to(self._folder)
        parents = (relative, *relative.parents)
        if any(str(parent) in self._staged for parent in parents):
            return False
        folders = {path for paths in self._found.values() for path in paths}
        if folders.intersection(relative.parents):
            return False
        return not any((self._folder / parent).is_symlink() for parent in parents)

    def _check_count(self, output: Output, paths: Sequence[Path]) -> None:
        kind = output.type
        assert kind is not None
        if kind.arity is None:
            if not paths and not kind.optional and output.pattern is not None:
                raise self._missing(output)
            return
        misfit = kind.misfit(len(paths))
        if misfit is not None:
            listed = ", ".join(str(path) for path in paths[:8]) + (
                ", ..." if len(paths) > 8 else ""
            )
            raise OutputError(f"output {output.name!r}: {misfit}{': ' if listed else ''}{listed}")

    def _missing(self, output: Output, name: str | None = None) -> OutputError:
        what = name or (
            render_pattern(output.pattern, self._values) if output.pattern else output.name
        )
        if os.path.islink(self._folder / what):
            leads = os.readlink(self._folder / what)
            return OutputError(
                f"output {output.name!r}: {what} is a link that leads nowhere: {leads} is not "
                "there.\n  Write the file itself, or link to one that is."
            )
        made = self._made()
        listed = ", ".join(made[:20]) + (" ..." if len(made) > 20 else "")
        return OutputError(
            f"output {output.name!r} was not made: no file {what}.\n"
            f"  The task made: {listed or 'no file at all'}. "
            f"If it need not be there: `{output.name}: path | None`."
        )


def _special(mode: int) -> str:
    """Return what something that is neither a file nor a folder is."""
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def keep_value(
    cache: Cache,
    value: object,
    inline: int,
    *,
    by_reference: bool = False,
    check: Callable[[bytes | memoryview], None] | None = None,
    leaf: Callable[[], Leaf] | None = None,
) -> Stored:
    """Keep a value: encoded, in the row where it is small and `inline` bytes are left there.

    by_reference: as in `codec.registry.encode`; check: looks at the bytes first; leaf: as in
    `Harvest`.

    Raises:
        CodecError: no codec can encode it.
    """
    digest = _content_digest(value, leaf)
    opaque = digest is None
    encoded = encode(value, by_reference=by_reference)
    data = encoded.data
    if check is not None:
        check(data)
    is_inline = len(data) <= min(INLINE_MAX, inline)
    return Stored(
        digest=blob_digest(data) if digest is None else digest,
        kind="value",
        codec=encoded.codec,
        size=len(data),
        inline=bytes(data) if is_inline else None,
        blob=None if is_inline else cache.blobs.put_bytes(data),
        opaque=opaque,
        vouched=True,
    )


def _content_digest(value: object, leaf: Callable[[], Leaf] | None) -> Digest | None:
    """Return what a value is, with the code of what it holds; None: it has no canonical form.

    A pickle names the user's modules without their code, so its bytes would hide an edited method
    from whoever takes the value.
    """
    with suppress(NoCanonicalFormError):
        return canonical_digest(value)
    if leaf is not None:
        with suppress(NoCanonicalFormError):
            return canonical_digest(value, leaf=leaf())
    return None


_MEMBER = re.compile(r"(.+)\[(\d*)\]\Z", re.DOTALL)


def to_ports(outputs: Mapping[str, Stored | Gathered]) -> tuple[Port, ...]:
    """Return outputs as a row keeps them: a list is one port per member, `name[0]`, `name[1]`;
    an empty list is the port `name[]` of kind none."""
    ports = []
    for name, held in outputs.items():
        if isinstance(held, Stored):
            ports.append(Port(name, held))
        elif not held:
            ports.append(Port(f"{name}[]", NOTHING))
        else:
            for number, member in enumerate(held):
                assert isinstance(member, Stored)
                ports.append(Port(f"{name}[{number}]", member))
    return tuple(ports)


def from_ports(ports: Sequence[Port]) -> dict[str, Stored | Gathered]:
    """Return the outputs that `to_ports` made ports of."""
    outputs: dict[str, Stored | Gathered] = {}
    for port in ports:
        match = _MEMBER.match(port.name) if "[" in port.name else None
        if match is None:
            outputs[port.name] = port.stored
            continue
        members = outputs.setdefault(match[1], Gathered())
        assert isinstance(members, Gathered)
        if match[2]:
            members.append(port.stored)
    return outputs
