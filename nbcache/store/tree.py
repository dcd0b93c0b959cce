"""Trees: a directory as a list of entries, its manifest, and the identity of its content.

Decides which directories are equal: those with the same paths, kinds, executable bits, link
targets and file contents. docs/format.md has the bytes; a change there changes the identity of
every directory.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote_to_bytes

from nbcache.errors import BlobDamagedError, StoreError
from nbcache.model.digest import Digest, identity_digest, is_blob_name

_TITLE, _IDENTITY_TITLE = b"nbcache-tree 1\n", b"nbcache-tree-identity 1\n"
ContentOf = Callable[[Path], str | None]
"""Names the file that stands behind a link; None where the link is kept as one."""
_ODD = re.compile(rb"[^\x21-\x24\x26-\x7e]")


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of a tree: `path` is relative, as bytes, with "/"."""

    path: bytes
    kind: Literal["file", "directory", "link"]
    executable: bool = False
    target: bytes = b""  # of a link, relative
    blob: Digest | None = None
    identity: Digest | None = None
    size: int = 0


def escape(path: bytes) -> bytes:
    """Return bytes as they stand in manifests and tables: no blank, no line end, ASCII."""
    return _ODD.sub(lambda match: b"%%%02X" % match[0][0], path)


def manifest(entries: Iterable[TreeEntry]) -> bytes:
    """Return the manifest of a tree: the bytes of its blob."""
    return _TITLE + b"".join(_line(each, False) for each in _sorted(entries))


def identity(entries: Iterable[TreeEntry]) -> Digest:
    """Return the identity of a tree, the same wherever it lies."""
    return identity_digest(
        _IDENTITY_TITLE + b"".join(_line(each, True) for each in _sorted(entries))
    )


def _sorted(entries: Iterable[TreeEntry]) -> Sequence[TreeEntry]:
    return sorted(entries, key=lambda each: each.path)


def _line(entry: TreeEntry, is_identity: bool) -> bytes:
    path = escape(entry.path)
    if entry.kind == "directory":
        return b"d %s\n" % path
    if entry.kind == "link":
        return b"l %s %s\n" % (escape(entry.target), path)
    letter = b"x" if entry.executable else b"f"
    assert entry.identity is not None
    if is_identity:
        return b"%s %s %s\n" % (letter, entry.identity.encode(), path)
    assert entry.blob is not None
    return b"%s %s %s %d %s\n" % (
        letter, entry.blob.encode(), entry.identity.encode(), entry.size, path,
    )  # fmt: skip


def parse_manifest(data: bytes) -> list[TreeEntry]:
    """Return the entries that a manifest holds.

    Raises:
        BlobDamagedError: the bytes are no manifest, or an entry would lie outside the tree.
    """
    if not data.startswith(_TITLE):
        raise BlobDamagedError("the blob is no tree manifest of format 1")
    try:
        entries = [_parse_line(line) for line in data[len(_TITLE) :].splitlines()]
    except (ValueError, IndexError) as error:
        raise BlobDamagedError("the tree manifest is malformed") from error
    folders = {entry.path for entry in entries if entry.kind == "directory"}
    links = {_folded(entry.path) for entry in entries if entry.kind == "link"}
    if len({entry.path for entry in entries}) < len(entries) or links & set(map(_folded, folders)):
        raise BlobDamagedError("the tree manifest names a path twice")
    for entry in entries:
        parts = entry.path.split(b"/")
        if b".." in parts or b"" in parts or b"." in parts or b"\0" in entry.path:
            raise BlobDamagedError(f"the manifest names a path outside the tree: {entry.path!r}")
        if entry.kind == "link" and _leaves(entry.path, entry.target):
            raise BlobDamagedError(f"the manifest has a link out of the tree: {entry.path!r}")
        if len(parts) > 1 and b"/".join(parts[:-1]) not in folders:  # else perhaps below a link
            raise BlobDamagedError(f"the manifest names a path in no folder of it: {entry.path!r}")
    return entries


def _folded(path: bytes) -> str:
    """Return what is equal for paths that some file systems take for one."""
    return unicodedata.normalize("NFC", os.fsdecode(path)).casefold()


def _parse_line(line: bytes) -> TreeEntry:
    letter, *words = line.split(b" ")
    if letter == b"d" and len(words) == 1:
        return TreeEntry(unquote_to_bytes(words[0]), "directory")
    if letter == b"l" and len(words) == 2:
        return TreeEntry(unquote_to_bytes(words[1]), "link", target=unquote_to_bytes(words[0]))
    if letter in (b"f", b"x") and len(words) == 4 and is_blob_name(words[0].decode("ascii")):
        return TreeEntry(
            unquote_to_bytes(words[3]),
            "file",
            executable=letter == b"x",
            blob=Digest(words[0].decode("ascii")),
            identity=Digest(words[1].decode("ascii")),
            size=int(words[2]),
        )
    raise ValueError(line)


def no_content(link: Path) -> str | None:
    """Every link is one."""
    return None


def scan(directory: Path, content_of: ContentOf = no_content) -> list[TreeEntry]:
    """Return the entries of a directory on disk, files without digests.

    `content_of` may name the file that stands behind a link (a staged input): such a link counts
    as that file.

    Raises:
        StoreError: a link leads out of the directory, or an entry is neither file, directory nor
            link.
    """
    root = os.path.realpath(directory)
    entries: list[TreeEntry] = []

    def walk(folder: str, prefix: bytes) -> None:
        with os.scandir(folder) as members:
            for member in members:
                path = prefix + os.fsencode(member.name)
                if member.is_symlink():
                    entries.append(_link_entry(root, member.path, path, content_of))
                elif member.is_dir(follow_symlinks=False):
                    entries.append(TreeEntry(path, "directory"))
                    walk(member.path, path + b"/")
                elif member.is_file(follow_symlinks=False):
                    mode = member.stat(follow_symlinks=False).st_mode
                    entries.append(TreeEntry(path, "file", bool(mode & stat.S_IXUSR)))
                else:
                    raise StoreError(
                        f"{member.path} is neither a file, a directory nor a link (a socket, pipe "
                        "or device), so the directory cannot be kept."
                    )

    try:
        walk(root, b"")
    except OSError as error:
        raise StoreError(f"cannot read the directory {directory}: {error}") from error
    return entries


def _link_entry(root: str, link: str, path: bytes, content_of: ContentOf) -> TreeEntry:
    """Return a link as it is kept: as a link inside the tree, or as the staged file behind it."""
    text = os.readlink(link)
    target = text
    if os.path.isabs(text):  # the real folder, and the name in it, which may be a link
        target = os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text))
        target = os.path.relpath(target, os.path.dirname(link))
    elif _leaves(path, os.fsencode(text)):
        target = os.path.relpath(os.path.realpath(link), os.path.dirname(link))
    if not _leaves(path, os.fsencode(target)):
        return TreeEntry(path, "link", target=os.fsencode(target))
    staged = content_of(Path(link))
    if staged is None:
        raise StoreError(
            f"the link {link} leads out of its directory (to {text}), so the directory cannot be "
            "kept.\n  Copy the file instead of linking it (cp -L, shutil.copy)."
        )
    return TreeEntry(path, "file", bool(os.stat(staged).st_mode & stat.S_IXUSR))


def _leaves(path: bytes, target: bytes) -> bool:
    """Say whether a link at `path` may point above the tree's root.

    It cannot if ".." stands in front only, and not too often: then it begins in a real directory
    of the tree, and what it passes through on its way down are links of which the same is true.
    """
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    ups = next((n for n, part in enumerate(parts) if part != b".."), len(parts))
    return target.startswith(b"/") or ups > path.count(b"/") or b".." in parts[ups:]


def tree_identity(
    directory: Path, file_digest: Callable[[Path], Digest], content_of: ContentOf = no_content
) -> Digest:
    """Return the identity of a directory on disk.

    `file_digest` gives the identity digest of a file. Equal to that of `put_tree` for the same
    content.
    """
    entries = [
        replace(each, identity=file_digest(directory / os.fsdecode(each.path)))
        if each.kind == "file"
        else each
        for each in scan(directory, content_of)
    ]
    return identity(entries)
