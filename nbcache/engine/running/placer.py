"""Make a result stand at a name outside of the cache: whole, and never over somebody else's file.

What was put somewhere is noted in `cache.published` with its state: only what is still as noted may
be replaced unasked. Used by publish rules and store folders; from one thread at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from nbcache.engine.running.shelf import Keepers
from nbcache.errors import PublishError
from nbcache.model.digest import Digest
from nbcache.model.event import TaskKey
from nbcache.model.process import PublishMode
from nbcache.model.value import FilePath, Stored
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.placing import allow_execution, place_file
from nbcache.store.tree import scan

_BLOB = re.compile(r"/blobs/([0-9a-f]{2})/\1[0-9a-f]{62}\Z")  # where a published link leads


class Owner(NamedTuple):
    """Whose result it is: one object for each time that a task was made."""

    task: TaskKey
    label: str
    process: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """One file, folder or link as it is to stand at `target`."""

    target: str
    kind: Literal["file", "directory", "link"]
    source: str = ""  # of a file: where its bytes are; of a link: what it says
    digest: Digest | None = None
    executable: bool = False
    blob: Digest | None = None


class Placer:
    """Makes files stand at their targets as they should, and tells whose they are."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._owners: dict[str, tuple[Owner, Digest | None, str]] = {}  # -> task, content, done
        self._latest: dict[TaskKey, Owner] = {}
        self._keepers = Keepers()
        self._root = os.path.realpath(cache.root) + os.sep

    def place(
        self,
        held: Stored | FilePath,
        target: str,
        mode: PublishMode,
        owner: Owner,
        *,
        overwrite: bool = False,
        done: Literal["published", "stored"] = "published",
    ) -> int:
        """Make a result stand at `target`; return how many files had to be placed.

        `done`: what messages call it.

        Raises:
            PublishError: somebody else's file stands there, or another task wants the name.
            OSError: the disk is full, or permission is missing. StoreError: its blob is gone.
        """
        if (os.path.realpath(os.path.dirname(target)) + os.sep).startswith(self._root):
            raise PublishError(f"{target} lies in the cache folder; name another one")
        leaves = list(self._leaves(held, target))
        self._forget_earlier(owner)
        for leaf in leaves:
            self._claim(leaf, owner, done)
        _make_folder(os.path.dirname(target), done)
        return sum(self._settle(leaf, mode, done, overwrite) for leaf in leaves)

    def remove_stale(self, folder: str) -> None:
        """Remove what earlier results had put into a published folder and none of these has.

        To be called when all is placed: several tasks may put their own into one folder.
        """
        for place, folders, files in os.walk(folder, topdown=False):
            for name in files:
                path = os.path.join(place, name)
                if path in self._owners:
                    continue
                if os.path.islink(path):  # of a result: into the cache, or within the folder
                    leads = os.path.realpath(path)
                    within = leads.startswith(os.path.realpath(folder) + os.sep)
                    is_ours = within or _BLOB.search(leads) is not None
                else:
                    is_ours = self._cache.published.noted(path) is not None
                if is_ours:
                    os.unlink(path)
            for name in folders:
                if os.path.join(place, name) not in self._owners:
                    with contextlib.suppress(OSError):  # it holds something of somebody else
                        os.rmdir(os.path.join(place, name))

    def _forget_earlier(self, owner: Owner) -> None:
        """Let go of what a task that was made again had put somewhere the first time."""
        before = self._latest.setdefault(owner.task, owner)
        if before is not owner:
            self._latest[owner.task] = owner
            mine = [target for target, (each, *_) in self._owners.items() if each is before]
            for target in mine:
                del self._owners[target]

    def _leaves(self, held: Stored | FilePath, target: str) -> Iterator[Leaf]:
        """Yield what a result consists of, a folder before what is in it."""
        blobs, files = self._cache.blobs, self._cache.files
        root = ""
        if isinstance(held, Stored):
            assert held.blob is not None
            if held.kind == "file":
                source = str(blobs.path(held.blob))
                is_executable = (
                    _is_executable(source) if held.executable is None else held.executable
                )
                yield Leaf(target, "file", source, held.digest, is_executable, held.blob)
                return
            entries = blobs.open_tree(held.blob)
        elif held.is_file():
            source = str(held)
            yield Leaf(target, "file", source, files.digest(held), _is_executable(source))
            return
        else:
            root = str(held)
            entries = sorted(scan(held), key=lambda each: each.path)
        yield Leaf(target, "directory")
        for entry in entries:
            name = os.fsdecode(entry.path)
            place = os.path.join(target, name)
            if entry.kind == "directory":
                yield Leaf(place, "directory")
            elif entry.kind == "link":
                yield Leaf(place, "link", os.fsdecode(entry.target))
            elif entry.blob is not None and entry.identity is not None:
                source = str(blobs.path(entry.blob))
                yield Leaf(place, "file", source, entry.identity, entry.executable, entry.blob)
            else:
                source = os.path.join(root, name)
                yield Leaf(place, "file", source, files.digest(source), entry.executable)

    def _claim(self, leaf: Leaf, owner: Owner, done: str) -> None:
        """Refuse two tasks of a run, or two files of one task, that want one name for different
        contents. An owner stands for one time of publishing: a task that was made again may
        replace what it put there."""
        mine = (owner, leaf.digest, done)
        other, content, before = self._owners.setdefault(leaf.target, mine)
        if other is owner and content != leaf.digest:
            raise PublishError(
                f"{leaf.target} is the name of two files of {owner.label}, with different "
                "contents.\n"
                "  Files keep their names only: declare the folder that they lie in as an output, "
                "which keeps its sub folders"
            )
        if other.task != owner.task and content != leaf.digest:
            way_out = "in the rule: a folder like results/{sample}, or as={sample}.txt"
            if done == "stored":
                way_out = "by the folder: --store store/{sample}"
            raise PublishError(
                f"{leaf.target} is {before} by {other.label} too, with another content.\n"
                f"  Tell them apart {way_out}"
            )
        self._owners[leaf.target] = mine

    def _settle(self, leaf: Leaf, mode: PublishMode, done: str, overwrite: bool) -> bool:
        """Make one leaf stand as it should; return whether anything was to be done."""
        there = _lstat(leaf.target)
        if leaf.kind == "directory":
            _make_folder(leaf.target, done)
            return False
        if leaf.kind == "link":
            return self._settle_link(leaf, done, there)
        standing = self._standing(leaf, there, mode)
        if standing == "right":
            return False
        if done == "published":
            self._leave_stored(leaf, overwrite=overwrite or standing == "missing")
        if standing == "foreign" and not overwrite:
            rule = ", or add overwrite=true to the rule" if done == "published" else ""
            raise PublishError(
                f"{leaf.target} is there, and nbcache did not put it there (or somebody changed "
                f"it since), so it is not overwritten.\n  Move it away{rule}"
            )
        self._put(leaf, mode)
        return True

    def _leave_stored(self, leaf: Leaf, *, overwrite: bool) -> None:
        """Leave what another process keeps in a store folder, where it stands for its task; or
        let its note go with it."""
        keeper = self._keepers.keeper(leaf.target, self._owners[leaf.target][0].process)
        if keeper is not None and overwrite:
            self._keepers.let_go(leaf.target)
        elif keeper is not None:
            raise PublishError(
                f"{leaf.target} was stored by process {keeper}, so it is not overwritten.\n"
                "  Delete it, publish into another folder, or add overwrite=true to the rule"
            )

    def _settle_link(self, leaf: Leaf, done: str, there: os.stat_result | None) -> bool:
        if there is not None and not stat.S_ISLNK(there.st_mode):
            raise PublishError(f"{leaf.target} is no link, and a link is to be {done} there")
        if there is not None and os.readlink(leaf.target) == leaf.source:
            return False
        new = self._beside(leaf.target)
        os.symlink(leaf.source, new)
        os.replace(new, leaf.target)
        return True

    def _standing(
        self, leaf: Leaf, there: os.stat_result | None, mode: PublishMode
    ) -> Literal["missing", "right", "ours", "foreign"]:
        """Say what stands at a file's target now."""
        if there is None:
            return "missing"
        if stat.S_ISLNK(there.st_mode):
            link = os.readlink(leaf.target)
            if mode != "copy" and link == _link_text(leaf, mode):
                return "right"
            leads = os.path.normpath(os.path.join(os.path.dirname(leaf.target), link))
            is_ours = leads == os.path.realpath(leaf.source) or _BLOB.search(leads)
            return "ours" if is_ours else "foreign"
        if not stat.S_ISREG(there.st_mode):
            return "foreign"
        noted = self._cache.published.noted(leaf.target)
        if noted is not None:
            if noted != leaf.digest or mode != "copy":
                return "ours"
            if bool(there.st_mode & stat.S_IXUSR) != leaf.executable:
                with contextlib.suppress(OSError):  # a file system that keeps no such bit
                    os.chmod(leaf.target, 0o755 if leaf.executable else 0o644)
                self._cache.published.note(leaf.target, noted)
            return "right"
        if leaf.digest is None or self._cache.files.digest(leaf.target) != leaf.digest:
            return "foreign"
        if mode != "copy":
            return "ours"
        self._cache.published.note(leaf.target, leaf.digest)
        return "right"

    def _put(self, leaf: Leaf, mode: PublishMode) -> None:
        """Place a file under another name, then give it its own: nobody ever sees half of it.

        Raises:
            BlobDamagedError: its blob was damaged and is put aside; the next run makes it again.
        """
        if leaf.blob is not None:
            self._cache.blobs.sound(leaf.blob)
        new = self._beside(leaf.target)
        try:
            if mode != "copy":
                if leaf.blob is not None:
                    allow_execution(leaf.source, leaf.executable)
                os.symlink(_link_text(leaf, mode), new)
            else:
                place_file(leaf.source, leaf.source, new, ("reflink", "copy"), leaf.executable)
                os.chmod(new, 0o755 if leaf.executable else 0o644)
            os.replace(new, leaf.target)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(new)
        if mode == "copy":
            assert leaf.digest is not None
            self._cache.published.note(leaf.target, leaf.digest)

    def _beside(self, target: str) -> Path:
        """Return a name for a file that is not whole yet: in the cache, whose rubbish is cleaned
        up, or else beside the target, if no file can be moved to it from the cache."""
        folder = os.path.dirname(target)
        new = self._cache.tmp / new_ulid()
        if self._cache.writable and _can_move(new, folder):
            return new
        return Path(folder, f".nbcache-{new.name}")


def _make_folder(folder: str, done: str) -> None:
    """Make a folder and those that it lies in.

    Raises:
        PublishError: something else has the name of one of them.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        place = folder
        while not os.path.lexists(place):
            place = os.path.dirname(place)
        raise PublishError(
            f"{place} is no folder, and one is to be {done} there.\n"
            "  Move it away, or name another folder"
        ) from None


def _can_move(new: Path, folder: str) -> bool:
    """Whether a file could be moved into a folder; `new` is the name of none yet.

    Not from one file system to another; nor, on Linux, between two mounts of one, as of two
    volumes of a container: that is told before it is told that the file is not there.
    """
    if os.stat(folder).st_dev != os.stat(new.parent).st_dev:
        return False
    try:
        os.rename(new, Path(folder, f".nbcache-{new.name}"))
    except OSError as error:
        return error.errno != errno.EXDEV
    return True


def _is_executable(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IXUSR)
    except FileNotFoundError:
        return False  # what is wrong is told when it is placed


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _link_text(leaf: Leaf, mode: PublishMode) -> str:
    source = os.path.realpath(leaf.source)
    if mode == "symlink":
        return source
    return os.path.relpath(source, os.path.realpath(os.path.dirname(leaf.target)))
