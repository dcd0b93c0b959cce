"""Run one attempt: stage, run, make sure that all is dead, harvest, journal, report.

The row is in this worker's journal before the report leaves, so an attempt that was reported is
never lost, and one that was not reported either left its row or did not happen. The body runs in an
empty folder; a failed attempt keeps it under its own name, a successful one leaves nothing but
blobs. An ended worker cannot be restored to its first state in every case: the report's `retire`
says so.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from nbcache.codec.classes import begin_task, end_task
from nbcache.engine.identity.declared_types import fits_type
from nbcache.engine.identity.patches import Patch, patched
from nbcache.engine.identity.value_code import value_leaf
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec, ended_columns, finished_row
from nbcache.engine.work.around_script import answers, run_after
from nbcache.engine.work.callers import ASK_FOR_TEXT
from nbcache.engine.work.harvest import NOTHING, Harvest, Leaf, to_ports
from nbcache.engine.work.hints import hint_about
from nbcache.engine.work.module_state import COMPILED
from nbcache.engine.work.modules_by_path import find_by_path
from nbcache.engine.work.path_values import paths_in
from nbcache.engine.work.process_tree import end_own_children
from nbcache.engine.work.python_body import (
    UNSET,
    PythonBody,
    TaskInfo,
    describe_fault,
    display_chunk,
    task_info,
)
from nbcache.engine.work.reentry import leave_way_back
from nbcache.engine.work.script_body import ScriptBody, failed_line, failure
from nbcache.engine.work.shown import Shown, encode_chunks, hide_secrets
from nbcache.engine.work.staging import Staging
from nbcache.engine.work.workplace import Workplace
from nbcache.errors import (
    CannotKeepError,
    ChannelError,
    InputChangedError,
    InputMissingError,
    NoRoomError,
    OutputError,
    ScriptError,
    SettingError,
    UsageError,
)
from nbcache.model.digest import Digest, blob_digest
from nbcache.model.process import Output
from nbcache.model.row import EvictRow, Row, WatchedRead
from nbcache.model.value import Gathered, Stored
from nbcache.plan.identity.canonical import summarise
from nbcache.plan.identity.confidential import confidential_texts
from nbcache.plan.language.quantities import size_text
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid, told_plainly

SHOWN_INLINE = 4096
DEVICES = "CUDA_VISIBLE_DEVICES"
# Errors whose text says it all.
_SAID = (
    ScriptError, OutputError, InputChangedError, ChannelError, CannotKeepError, NoRoomError,
    SettingError,
)  # fmt: skip


def run_attempt(spec: AttemptSpec, process: ProcessSpec, place: Workplace) -> AttemptReport:
    """Run one attempt to its end; its row is in the journal when this returns, unless it failed
    and the driver has to say first what that means (`AttemptSpec.failed_as`).

    Never raises for what the task does; raises StoreError if the row cannot be written.
    """
    with place.cache.activity.working(recorded=spec.row is not None):
        return _Attempt(spec, process, place).run()


class _Attempt:
    """One attempt in progress."""

    def __init__(self, spec: AttemptSpec, process: ProcessSpec, place: Workplace) -> None:
        self.spec, self.process, self.place = spec, process, place
        self.report = AttemptReport(id=spec.id, outcome="completed")
        self.start, self.begun_s = time.time_ns(), time.monotonic()
        self.retire = False
        self.peak = 0
        self.watched: tuple[WatchedRead, ...] = ()
        self._unknown: dict[str, str] = {}  # the modules that only the run names, with their files
        self.no_scratch: Exception | None = None
        self.secrets = place.secrets(process)
        try:
            self.folder = place.folder(process.scratch, process.folder)
        except (OSError, UsageError) as error:
            self.folder, self.no_scratch = place.folder(), error
        self.main = sys.modules["__main__"]
        self.staging = Staging(place.cache, self.folder)

    def run(self) -> AttemptReport:
        place = self.place
        begin_task()
        place.usage.begin()
        place.capture.begin(self.secrets, self.process.cells)
        try:
            self._body_and_harvest()
        except InputMissingError as error:
            self.report.outcome, self.report.missing = "failed", Digest(error.digest)
            self.report.error = str(error)
        except BaseException as error:
            self._fail(error)
        finally:
            self._settle()
        shown = place.capture.end()
        self._finish(shown)
        return self.report

    def _body_and_harvest(self) -> None:
        process, place = self.process, self.place
        if self.no_scratch is not None:
            raise self.no_scratch
        check_room(self.folder, self.spec.disk)
        body = place.body(process)
        extra = {"MPLBACKEND": "agg", **process.env, **process.secrets}
        place.baseline.prepare(process.key, process.environ, extra, process.sys_path)
        place.baseline.seed(process.seed)
        find_by_path(process.modules)
        if self.spec.gpus:
            os.environ[DEVICES] = ",".join(self.spec.gpus)
        self.retire = place.modules.renew()  # an input's class, too, is of what a module is now
        inputs = self.staging.stage(self.spec.inputs, process.helpers)
        self._hide(inputs)
        self._check_counts(inputs)
        harvest = Harvest(
            place.cache,
            self.folder,
            self.staging.names,
            inputs,
            secrets=process.secrets,
            leaf=self._leaf,
        )
        with place.usage.of_body():
            if isinstance(body, PythonBody):
                made = self._run_python(body, inputs)
            else:
                made = self._run_script(body, inputs)
                self.staging.leave_written()
            if end_own_children():
                self.retire = True
        self.report.changed = self.staging.changed()
        place.check_modules(process, self._unknown)
        self.report.outputs = self._harvest(harvest, made)
        if isinstance(body, ScriptBody):
            body.tidy(self.folder)

    def _hide(self, values: Mapping[str, object]) -> None:
        """Show nothing of values whose names look as if they held a secret."""
        found = confidential_texts(values)
        if found:
            self.secrets = (*self.secrets, *found)
            self.place.capture.hide(found)

    def _check_counts(self, inputs: dict[str, object]) -> None:
        """Count lists that earlier tasks made as values: known only now that they are decoded."""
        for each in self.process.inputs:
            value = inputs.get(each.name)
            if each.type is not None and isinstance(value, (list, tuple)):
                misfit = each.type.misfit(len(value))
                if misfit is not None:
                    raise ChannelError(f"input {each.name!r}: {misfit}")

    def _run_python(self, body: PythonBody, inputs: dict[str, object]) -> dict[str, object]:
        place, process = self.place, self.process
        task = self._task()
        if body.shows_by_ipython:
            place.route_displays(self._show)
        place.modules.prepare()
        if process.watch:
            place.watcher.begin(
                place.places(process.folder), place.real_folder, self.staging.linked()
            )
        loaded: set[str] = set()
        before: dict[str, object] = {}
        try:
            before = body.namespace()  # imports what is captured by name
            self._hide(before)
            loaded = set(place.modules.loaded)
            if process.watch:
                place.watcher.may_read(body.paths(before))
                place.watcher.look_around(body.literals())
                place.watcher.may_read(paths_in(inputs.values()))
            self.retire = self.retire or body.changes_modules(before)
            with patched(self._patches(body)):
                place.watcher.taken.forget()  # what made the namespace counts by the hash
                namespace, final = body.run(before, inputs, task, self._show)
        finally:
            place.baseline.restore_builtins()
            if process.watch:
                self.watched = self._reads(loaded, body)
            named = place.watcher.taken.named - place.modules.loaded.keys()
            self.watched += place.packages_of(self.staging.modules | named, process, body)
        return body.outputs(namespace, before, final, self.staging.is_made)

    def _patches(self, body: PythonBody) -> list[tuple[Patch, object]]:
        """Return what to set in modules; what packages require is not looked up by the body."""
        if not body.settings:
            return body.patches
        self.place.watcher.pause()
        try:
            return [*body.patches, *body.settings.patches(self.staging.modules)]
        finally:
            self.place.watcher.resume()

    def _reads(self, loaded: set[str], body: PythonBody) -> tuple[WatchedRead, ...]:
        """Return what the body read unasked, and what the imports of its modules read."""
        place, process = self.place, self.process
        known = dict.fromkeys((*process.env, *process.secrets, *process.unset, "MPLBACKEND"), "")
        if self.spec.gpus:
            known[DEVICES] = ""
        unknown = self._unknown = place.unknown_modules(process, loaded)
        if any(file.endswith(COMPILED) for file in unknown.values()):
            self.retire = True  # nothing sends this worker away when the file is another one
        used = {*process.modules, *unknown}
        self.report.overlooked = place.watcher.overlooked
        words = body.words() | place.modules.words_of(used)
        imports = place.modules.reads_of(used)
        by_text = not words.isdisjoint(ASK_FOR_TEXT)
        return place.watcher.end(known, unknown, imports, process.sys_path, by_text=by_text)

    def _run_script(self, body: ScriptBody, inputs: dict[str, object]) -> dict[str, object]:
        ended = body.run(inputs, self._task(), self.folder)
        self.peak = ended.peak_rss
        self.report.exit, self.report.signal = ended.exit, ended.signal
        end_own_children()  # a script may leave what it likes; this worker is as it was
        try:
            if ended.exit != 0:
                raise failure(ended, self._printed(), self.process, self.folder)
            values = body.values(self.folder, self._printed("stdout"))
            values.update(answers(self.process, inputs, self._task(), self.folder))
        except BaseException:
            run_after(
                self.process, inputs, self._task(), self.folder
            )  # what the script said counts
            raise
        fault = run_after(self.process, inputs, self._task(), self.folder)
        end_own_children()
        if fault is not None:
            raise fault
        return values

    def _printed(self, *streams: str) -> str:
        return self.place.capture.so_far().text(*streams)

    def _harvest(self, harvest: Harvest, made: dict[str, object]) -> dict[str, Stored | Gathered]:
        kept: dict[str, Stored | Gathered] = {}
        passed = set(self.process.passed) - made.keys()
        outputs = [each for each in self.process.outputs if each.name not in passed]
        for output in outputs:
            if _is_path(output):
                harvest.find(output, made.get(output.name))
        for output in outputs:
            value = made.get(output.name, UNSET)
            if _is_path(output):
                kept[output.name] = harvest.file(output)
            elif value is not UNSET:
                _check_type(output, value)
                kept[output.name] = harvest.value(output.name, value)
            elif output.type is not None and output.type.optional:
                kept[output.name] = NOTHING
            elif self.process.inferred:
                kept[output.name] = harvest.value(output.name, None)
            else:
                raise OutputError(
                    f"output {output.name!r} was not made: the body never set it\n"
                    "  set it in every case, to None where there is nothing to give"
                )
        return kept

    def _leaf(self) -> Leaf:
        """Return what identifies functions and classes in a value that the body made."""
        folder = Path(self.process.folder) if self.process.folder else None
        return value_leaf(vars(sys.modules["__main__"]), folder)

    def _show(self, value: object) -> None:
        self.place.watcher.pause()
        try:
            self.place.capture.add(display_chunk(value))
        finally:
            self.place.watcher.resume()

    def _task(self) -> TaskInfo:
        return task_info(self.process.name, self.spec, self.folder)

    def _fail(self, error: BaseException) -> None:
        report, process = self.report, self.process
        report.outcome = "failed"
        if not _in_body(error, process.filename):  # what a body writes is its own business
            if not isinstance(error, UsageError):  # of --scratch: it says where
                error = told_plainly(error, self.place.cache.root, self.folder)
            if isinstance(error, (OutputError, FileNotFoundError)) and not self.folder.is_dir():
                error = OutputError(
                    f"the task removed the folder that it runs in, {self.folder}.\n"
                    "  Its outputs are looked for there; leave it, and it is removed at the end"
                )
        report.unkept = isinstance(error, CannotKeepError)
        if isinstance(error, _SAID) and not _in_body(error, process.filename):
            report.error = report.traceback = str(error)
            report.undeclared = isinstance(error, OutputError)
            if isinstance(error, ScriptError):
                report.where = failed_line(process, str(error))
            return
        fault = describe_fault(error, process, hint_about(error, process))
        report.error, report.traceback, report.where = fault.error, fault.traceback, fault.where

    def _settle(self) -> None:
        """End what is alive and put the process back into its first state."""
        place = self.place
        sys.modules["__main__"] = self.main
        if end_own_children():
            self.retire = True
        try:
            leaked = place.baseline.restore(place.mapped) or end_task()
        except Exception:
            leaked = True  # what cannot be restored is not used again
        if leaked or place.modules.changed():
            self.retire = True

    def _finish(self, shown: Shown) -> None:
        """Fill in the row, append it, end the use of the folder."""
        report, spec, place = self.report, self.spec, self.place
        report.retire, report.watched = self.retire, self.watched
        keep = spec.id if report.outcome == "failed" and report.missing is None else None
        report.workdir = place.leave_folder(keep)
        if report.workdir is not None:
            printed = shown.text()
            leave_way_back(Path(report.workdir), self.process, spec, printed, report.exit)
        if self.secrets:
            report.error = report.error and hide_secrets(report.error, self.secrets)
            report.traceback = report.traceback and hide_secrets(report.traceback, self.secrets)
        if spec.row is None or report.missing is not None:
            return
        report.columns = {
            **ended_columns(spec.row, report, spec.status_after(report.outcome), self.start),
            "realtime": time.monotonic() - self.begun_s,  # the wall clock may have been set
            "watched": report.watched,
            "outputs": to_ports(report.outputs),
            "shown": store_shown(shown, place.cache),
            **place.usage.end(self.peak),
        }
        report.row = finished_row(spec.row, report.columns)
        place.journal.append(rows_to_append(spec, report))


def check_room(folder: Path, wanted: int | None) -> None:
    """Check that as many bytes are free where an attempt is to run.

    Raises:
        NoRoomError: there are less.
    """
    if wanted is None:
        return
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise NoRoomError(
            f"asks for {size_text(wanted)} of disk, but only {size_text(free)} are free in "
            f"{folder.parent}.\n  Make room there (nbcache clean), lower it (--disk), or run it "
            "elsewhere: --scratch FOLDER"
        )


def _check_type(output: Output, value: object) -> None:
    if not fits_type(value, output.type):
        way_out = "declare the type that the body makes, or convert the value"
        if value is None:
            way_out = f"where there may be nothing to give: `{output.name}: {output.type} | None`"
        raise OutputError(
            f"output {output.name!r} is declared as {output.type}, but the body made "
            f"{summarise(value)} ({type(value).__name__})\n  {way_out}"
        )
    if output.type is not None and isinstance(value, (list, tuple)):
        misfit = output.type.misfit(len(value))
        if misfit is not None:
            raise OutputError(f"output {output.name!r}: {misfit}")


def _is_path(output: Output) -> bool:
    return output.pattern is not None or (output.type is not None and output.type.is_path)


def rows_to_append(spec: AttemptSpec, report: AttemptReport) -> list[Row]:
    """Return what the log gets of an attempt that has ended, unless the driver appends it: its row,
    with a tombstone where inputs changed while the result was made."""
    row = report.row
    if row is None or spec.row_is_drivers(report.outcome):
        return []
    if not report.changed or report.outcome != "completed":
        return [row]
    reason = f"input {', '.join(report.changed)} changed while the task ran"
    tombstone = EvictRow(
        id=new_ulid(),
        at=time.time_ns() // 1000,
        run=row.run,
        session=row.session,
        row=row.id,
        reason=reason,
    )
    return [row, tombstone]


def store_shown(shown: Shown, cache: Cache) -> Stored | None:
    """Keep what an attempt showed; None where it showed nothing."""
    if not shown:
        return None
    data = encode_chunks(shown.chunks())
    digest = blob_digest(data)
    inline = data if len(data) <= SHOWN_INLINE else None
    return Stored(
        digest=digest,
        kind="value",
        codec="json",
        size=len(data),
        inline=inline,
        blob=None if inline is not None else cache.blobs.put_bytes(data),
        vouched=True,
    )


def _in_body(error: BaseException, filename: str) -> bool:
    tb = error.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code.co_filename == filename:
            return True
        tb = tb.tb_next
    return False
