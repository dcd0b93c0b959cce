"""Put results where people look for them: after a task has ended well, and on every hit.

Runs beside the run on a thread of its own. A result is never lost by what happens here: it is in
the cache, a failure is told at the end of the run, and the next run only publishes. Each file
appears whole.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from nbcache.engine.identity.identify import file_leaves
from nbcache.engine.running.decision import Decision
from nbcache.engine.running.evaluating import Evaluator
from nbcache.engine.running.placer import Owner, Placer
from nbcache.engine.running.shelf import Shelf
from nbcache.errors import NbcacheError, PublishError
from nbcache.model.channel import Item
from nbcache.model.process import PublishRule
from nbcache.model.value import FilePath, RemoteFile, Stored
from nbcache.plan.language import publishing
from nbcache.plan.language.quantities import evaluate_dynamic
from nbcache.store.cache import Cache
from nbcache.store.files import is_full


class Publisher:
    """Publishes what the tasks of one run made. All but the constructor: the engine's loop."""

    def __init__(self, cache: Cache, folder: Path, evaluator: Evaluator) -> None:
        self._evaluator, self._folder = evaluator, folder
        self._placer = Placer(cache)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nbcache-publishing")
        self._asked: list[tuple[Decision, Future[None]]] = []
        self._results: set[str] = set()  # what rules have put somewhere, of a folder its name
        self._placed: dict[str, Counter[str]] = {}  # by folder, as the rule writes it; as it is
        self._stored: dict[str, Counter[str]] = {}

    def publish(self, decision: Decision, outputs: Item) -> None:
        """Begin to publish the outputs of a task, if its process asks for it."""
        decl = decision.place.decl
        if decl.directives.publish or (decision.shelf is not None and not decision.stored):
            self._asked.append((decision, self._thread.submit(self._publish, decision, outputs)))

    def finish(
        self, *, cancelled: bool = False, is_whole: bool = False
    ) -> list[tuple[Decision, str]]:
        """Wait until all is done; return the tasks that could not be published, and why.

        `cancelled`: what has not begun is left to the next run. `is_whole`: all tasks
        have their results; else what earlier runs published may be wanted still.
        """
        self._thread.shutdown(wait=True, cancel_futures=cancelled)
        failed = []
        for decision, done in self._asked:
            error = None if done.cancelled() else done.exception()
            if error is not None:
                failed.append((decision, str(error)))
        if is_whole and not failed:
            for target in self._results:
                with suppress(OSError):  # it stands there once more
                    self._placer.remove_stale(target)
        return failed

    def said(self) -> Iterator[str]:
        """Yield what was put where, for people; nothing of what stood there already."""
        for verb, placed in (("published", self._placed), ("stored", self._stored)):
            for rule, folders in sorted(placed.items()):
                if count := folders.total():
                    files = f"{count} file{'s' if count > 1 else ''}"
                    yield f"{verb} {files} in {_where(rule, folders)}"

    def _publish(self, decision: Decision, outputs: Item) -> None:
        decl = decision.place.decl
        owner = Owner(decision.task, decision.label, decl.name)
        failed: list[str] = []
        if decision.shelf is not None and not decision.stored:
            try:
                self._store(decision.shelf, decision, outputs, owner)
            except Exception as error:
                failed.append(f"not stored: {_reason(error, decision.shelf.folder)}")
        for rule in decl.directives.publish:
            try:
                self._follow(rule, decision, outputs, owner)
            except Exception as error:
                failed.append(f"not published: {_reason(error, self._folder / rule.folder)}")
        if failed:
            raise PublishError("; and ".join(failed))

    def _follow(self, rule: PublishRule, decision: Decision, outputs: Item, owner: Owner) -> None:
        """Put the files of a task where one rule wants them."""
        if rule.enabled is not None and not evaluate_dynamic(
            rule.enabled.text,
            self._evaluator.names(decision),
            "expression",
            option="publish: enabled",
        ):
            return
        names = self._evaluator.lazily(decision.values())
        rendered = publishing.render_folder(rule.folder, names)
        folder = os.path.abspath(self._folder / os.path.expanduser(rendered))
        for held in _chosen(rule, decision, outputs):
            assert held.name
            name = publishing.published_name(rule, held.name, names)
            if name is not None:
                target = os.path.join(folder, name)
                self._results.add(target)
                self._placed.setdefault(rule.folder, Counter())[rendered] += self._placer.place(
                    held, target, rule.mode, owner, overwrite=rule.overwrite
                )

    def _store(self, shelf: Shelf, decision: Decision, outputs: Item, owner: Owner) -> None:
        """Put a result into its store folder."""

        def place(held: Stored | FilePath, target: str, overwrite: bool) -> int:
            placed = self._placer.place(
                held, target, "copy", owner, overwrite=overwrite, done="stored"
            )
            self._placer.remove_stale(target)
            return placed

        made = zip(decision.place.outputs, outputs, strict=True)
        passed = decision.place.passed
        held = {output.name: each for output, each in made if output.name not in passed}
        decl = decision.place.decl
        rule, folder = str(decl.directives.store), str(shelf.folder)
        if shelf.folder.is_relative_to(self._folder):
            folder = str(shelf.folder.relative_to(self._folder))
        self._stored.setdefault(rule, Counter())[folder] += shelf.put(held, place)


def _chosen(rule: PublishRule, decision: Decision, outputs: Item) -> Iterator[Stored | FilePath]:
    """Yield the files and folders that a rule is about: made by the task, not passed on."""
    for output, held in zip(decision.place.outputs, outputs, strict=True):
        if output.name in decision.place.passed or (rule.only and output.name not in rule.only):
            continue
        yield from (each for each in file_leaves(held) if not isinstance(each, RemoteFile))


def _where(rule: str, folders: Counter[str]) -> str:
    """Return the folder in which files were put, or as the rule calls them where it has several."""
    used = [folder for folder, count in folders.items() if count]
    return used[0] if len(used) == 1 else f"{rule} ({len(used)} folders)"


def _reason(error: Exception, folder: Path) -> str:
    """Say what is wrong with the folder of a rule, and the way out."""
    if not isinstance(error, OSError):
        return str(error) if isinstance(error, NbcacheError) else f"{type(error).__name__}: {error}"
    if is_full(error):
        return f"the disk of {folder} is full; make room there"
    place = error.filename2 or error.filename  # of a rename, where to
    where = folder if place is None else os.fsdecode(place)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write {where}; make it writable, or name another folder"
    return f"{where}: {error.strerror}"
