"""`doctor` and `verify`: is this installation sound, and is what the cache holds what it says?

Both only read, unless `verify` is told to repair. A finding is a line for people; `good` is False
where something is wrong.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from dataclasses import dataclass, field

from nbcache.engine.record import history
from nbcache.engine.sharing import sharing_of
from nbcache.engine.upkeep.cleaning import finish
from nbcache.errors import CacheFormatError, RemoteStoreError, StoreError, command
from nbcache.notebook import render
from nbcache.store.cache import Cache
from nbcache.store.remote.header import is_unused, read_header
from nbcache.store.remote.opening import check_outside, open_store
from nbcache.store.remote.probing import probe
from nbcache.store.remote.protocol import Store
from nbcache.store.repair import has_put_aside, open_repaired, repair
from nbcache.store.stock import sizes_below
from nbcache.store.verify import verify as check_store

_LISTED = 20
_PATIENT_S = 20.0  # whoever asks wants to know, and many requests at once take their time
_CLOCK_OFF_S = 300.0
_PACKAGES = ("nbcache", "ipython", "ipykernel", "nbclient", "duckdb", "pyarrow", "pandas", "rich")


@dataclass
class Findings:
    """What was looked at, line by line, and what is wrong."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def lines(self) -> list[str]:
        """The findings for people."""
        width = max(map(len, self.facts), default=0)
        lines = [f"{name:<{width}}  {text}" for name, text in self.facts.items()]
        lines += [f"repaired: {each}" for each in self.repaired[:_LISTED]]
        if (more := len(self.repaired) - _LISTED) > 0:
            lines.append(f"… and {more} more")
        shown = self.problems[:_LISTED]
        lines += [f"problem: {problem}" for problem in shown]
        if more := len(self.problems) - len(shown):
            lines.append(f"… and {more} more problems")
        end = "all is well" if self.good else render.count_of(len(self.problems), "problem")
        return [*lines, end]

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "good": self.good,
            "facts": self.facts,
            "problems": self.problems,
            "repaired": self.repaired,
        }


def verify(cache: Cache, *, quick: bool = False, mend: bool = False) -> Findings:
    """Look at every row, journal and segment, and at every blob that a counted result needs.

    quick: presence and size only; else every blob is read and its digest computed. mend: repair
    what can be repaired, clear away left-overs, and say what is still wrong.
    """
    found, shared = Findings(), sharing_of(cache.root) is not None
    if mend:
        opened, found.repaired = open_repaired(cache.root)
        with opened:
            for deep in (not quick, False):  # a damaged blob was put aside: now results lack it
                found.repaired += repair(opened, check_store(opened, deep=deep, shared=shared))
            if not has_put_aside(opened.root):  # what it names may yet be wanted
                finish(opened)
    report = check_store(cache, deep=not quick, shared=shared)
    found.facts["cache"] = str(cache.root)
    found.facts["rows"] = (
        f"{report.rows:,} in {render.count_of(report.segments, 'segment')} "
        f"and {render.count_of(report.journals, 'journal')}"
    )
    how = "present" if quick else "read and compared"
    found.facts["blobs"] = f"{report.blobs:,} {how} ({render.size(report.bytes)})"
    if report.away:
        away = render.count_of(report.away, "result")
        found.facts["away"] = f"{away} of a shared cache, whose values come when they are read"
    if report.orphans:
        found.facts["unused"] = f"{render.count_of(len(report.orphans), 'blob')} that no row names"
    if report.leftovers:
        left = render.count_of(len(report.leftovers), "leftover")
        found.facts["left"] = f"{left}, of killed processes or put aside as damaged"
    end = "" if mend else "; what needs it runs again, or --repair"
    found.problems += [
        str(each) if not each.fault or "--repair" in each.what else f"{each}{end}"
        for each in report.problems
    ]
    return found


def doctor(cache: Cache | None) -> Findings:
    """Look at versions, the cache's folder, the disk and the runs; None: there is no cache yet."""
    found = Findings()
    found.facts["python"] = f"{platform.python_version()} ({sys.executable})"
    found.facts["system"] = platform.platform()
    found.facts["packages"] = ", ".join(filter(None, map(_version, _PACKAGES)))
    if sys.platform == "win32":
        found.problems.append("nbcache needs Linux or macOS; on Windows use WSL")
    if cache is None:
        found.facts["cache"] = "none here; the first run makes one beside its notebook"
    else:
        _look_at_cache(cache, found)
    return found


def _look_at_cache(cache: Cache, found: Findings) -> None:
    found.facts["cache"] = str(cache.root)
    if cache.read_only is not None:
        found.problems.append(f"the cache is read-only: {cache.read_only}")
    free = shutil.disk_usage(cache.root).free
    found.facts["disk"] = f"{render.size(free)} free"
    if free < 1_000_000_000:
        found.problems.append(f"only {render.size(free)} are free on the cache's disk")
    sizes = list(sizes_below(cache.blobs.folder))
    found.facts["blobs"] = f"{len(sizes):,} files, {render.size(sum(sizes))}"
    known = history.runs(cache)
    going = [run for run in known if run.status in history.LIVE]
    found.facts["runs"] = f"{len(known):,}, {len(going)} going now"
    broken = [run.name for run in known[:20] if run.status == "interrupted"]
    if broken:
        found.facts["interrupted"] = f"{', '.join(broken)} (their finished tasks are kept)"


def examine_sharing(found: Findings, cache: Cache) -> None:
    """Add what the store behind a cache allows to read, where there is one; writes nothing."""
    try:
        sharing = sharing_of(cache.root)
        if sharing is None:
            return
        if not cache.is_own:
            found.facts["shared"] = f"{sharing.url}, not asked: the cache is not yours"
            return
        more = f"what else is tried by `{command(f'doctor {sharing.url}')}`, which writes there"
        examine_store(found, sharing.url, untried="shared read-only" if sharing.read_only else more)
    except StoreError as error:
        found.problems.append(str(error))


def examine_store(found: Findings, url: str, *, untried: str = "") -> None:
    """Add what a shared store is able to do with the credentials that are here.

    untried: why nothing is written there; empty: whether it may be is tried.

    Raises:
        CannotOpenStoreError: the URL is none, or what opens it is not installed.
    """
    store = open_store(url, lookup_s=_PATIENT_S)
    found.facts["store"] = f"{store.url} ({store.backend})"
    try:
        able = probe(store, writes=not untried)
        if able.read:
            found.facts["shared"] = _what_is_there(store)
    except (RemoteStoreError, CacheFormatError) as error:
        found.problems.append(str(error))
        return
    finally:
        store.close()
    rights = {"read": able.read, "write": able.write, "delete": able.delete}
    allowed = ", ".join(name for name, is_allowed in rights.items() if is_allowed) or "none"
    found.facts["rights"] = f"{allowed} ({untried})" if untried else allowed
    if able.write:
        found.facts["claims"] = (
            "yes: of 16 that created one object at once, one was first, three times"
            if able.exclusive_create
            else "no: two people may compute the same result at the same time"
        )
    elif able.read and not untried:
        found.facts["claims"] = "no: this is a store to read from"
    if able.clock_offset_s is not None:
        _look_at_clock(found, store, able.clock_offset_s)
    if not able.read:
        found.problems.append(
            f"the store cannot be read (reading needs the right to list as well): {able.faults[0]}"
        )
    elif not (able.write or untried):
        found.problems += able.faults


def _what_is_there(store: Store) -> str:
    """Say which cache lies in a store that may be read.

    Raises:
        CacheFormatError: other things lie there, or a cache that this version does not know; it
            lies in another cache.
    """
    if is_unused(store):
        check_outside(store.url)
        return "no cache yet: whoever shares it first makes it"
    header, _ = read_header(store, "to look")
    return f"a cache, {header['id']}"


def _look_at_clock(found: Findings, store: Store, offset_s: float) -> None:
    way, other = ("ahead of", "behind") if offset_s > 0 else ("behind", "ahead of")
    if abs(offset_s) <= _CLOCK_OFF_S:
        found.facts["clock"] = f"the store's is {abs(offset_s):.0f} s {way} this machine's"
        return
    minutes = f"{abs(offset_s) / 60:.0f} minutes"
    found.facts["clock"] = f"the store's is {minutes} {way} this machine's"
    refused = ", and S3 refuses who is 15 minutes off" if store.url.startswith("s3:") else ""
    found.problems.append(
        f"this machine's clock is {minutes} {other} the store's: the history has wrong times for "
        f"what it makes{refused}. Claims go by the store's clock.\n  Set the clock (NTP)."
    )


def _version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""
