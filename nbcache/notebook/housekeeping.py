"""What `clean`, `pin`, `unpin`, `du` and `check` answer, for the notebook and the shell alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from html import escape
from typing import TypeVar

from nbcache.engine.record import history, usage
from nbcache.engine.record.finding import is_hash
from nbcache.engine.repeat import SAMPLE, ProcessRepeat, repeat
from nbcache.engine.session import Session
from nbcache.engine.upkeep.cleaning import Cleaning, Share, clean
from nbcache.engine.upkeep.pins import Pin, let_go, pin, pins, pins_of_team
from nbcache.engine.upkeep.shared_cleaning import SharedCleaning, clean_shared
from nbcache.errors import StoreError, UsageError, command
from nbcache.model.digest import Digest
from nbcache.model.holding import Pins
from nbcache.notebook import render
from nbcache.notebook.answer import Answer, answer, moment
from nbcache.notebook.render import Rendered
from nbcache.notebook.team_view import tell_of_pins, tier_of
from nbcache.notebook.verbs import Parsed
from nbcache.plan.cleaning import Selection
from nbcache.plan.language.quantities import parse_duration, parse_size
from nbcache.store.cache import Cache
from nbcache.store.remote.compact import compact_shared

T = TypeVar("T")

_LISTED = 20  # runs in `du`
_STATUSES = frozenset({"completed", "stored", "failed", "ignored", "aborted", "skipped"})
_LEFT = {
    "work": "work directories of failed and killed tasks",
    "temporary": "temporary files",
    "copy": "copies of results that are gone",
    "damaged": "damaged blobs that were put aside",
}


def selection_of(parsed: Parsed, cache: Cache) -> Selection:
    """Return what the options of `clean` select.

    Raises:
        UsageError: a number, time or size is none. RunError: there is no such run.
    """
    statuses = frozenset(text.lower() for text in parsed.flags.get("--status", ()))
    for status in statuses - _STATUSES:
        raise UsageError(history.unknown("status", status, sorted(_STATUSES)))
    processes = parsed.flags.get("--process", ())
    runs = history.runs(cache)
    for name in processes:
        history.check_process(name, runs)
    hashes = [text.lower() for text in parsed.flags.get("--hash", ())]
    for text in hashes:
        if not is_hash(text):
            raise UsageError(f"--hash: {text!r} is not the start (4 digits or more) of a hash")
    return Selection(
        older_than=_read(parsed, "--older-than", parse_duration),
        runs=frozenset(history.find_run(cache, word).id for word in parsed.flags.get("--run", ())),
        processes=frozenset(processes),
        hashes=tuple(text.rpartition(":")[2] for text in hashes),
        statuses=statuses,
        incomplete="--incomplete" in parsed,
        expired="--expired" in parsed,
        keep_last=_read(parsed, "--keep-last", _number),
        max_size=_read(parsed, "--max-size", parse_size),
    )


def _read(parsed: Parsed, flag: str, read: Callable[[str], T]) -> T | None:
    text = parsed.text(flag)
    if text is None:
        return None
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no number")
    return int(text)


def clean_answer(parsed: Parsed, cache: Cache) -> Answer:
    """Take away what is selected, or say what would go; without a selection what there is."""
    dry, force = "--dry-run" in parsed, "--force" in parsed
    if dry and force:
        raise UsageError("clean takes -n (only say what would go) or -f (do it), not both")
    if "--shared" in parsed:
        return _clean_shared(parsed, cache)
    selection = selection_of(parsed, cache)
    if not selection and "--compact" not in parsed:
        return _choices(cache)
    done = clean(cache, selection, force=force, reason=_reason(parsed))
    grid = _grid("process", [(each.process, each) for each in done.shares])
    lines, good = [_head(done), *([grid] if done.shares else []), *_remarks(done)], True
    if "--compact" in parsed and force:  # last: it needs room, which what went has made
        try:
            text = f"the log is {render.count_of(_compact(cache), 'segment')} now"
        except (OSError, StoreError) as error:  # what was deleted is said all the same
            good, text = False, f"the log could not be merged: {error}"
        lines.append(render.line(text))
    if not force:
        lines.append(render.line("nothing is deleted yet: add -f (--force) to do it", render.FAINT))
    return answer(lines, done.record(), good=good)


def _clean_shared(parsed: Parsed, cache: Cache) -> Answer:
    """The same for the shared cache behind this one."""
    for flag in {"--keep-last", "--expired", "--incomplete"} & parsed.flags.keys():
        raise UsageError(f"clean --shared does not take {flag}: it has results of many people")
    force, shared = "--force" in parsed, tier_of(cache).shared
    merged = compact_shared(shared) if "--compact" in parsed and force else None
    kinds: dict[str, dict[str, str]] = {"run": {}, "process": {}, "hash": {}}
    for each in pins(cache):
        kind, _, name = each.target.partition(":")
        kinds[kind][name] = each.reason
    selection = selection_of(parsed, cache)
    done = clean_shared(
        shared,
        selection,
        force=force,
        pins=Pins(kinds["run"], kinds["process"], kinds["hash"]),
        reason=_reason(parsed),
    )
    is_chosen = bool(selection) or "--compact" in parsed
    lines = [render.line(text) for text in _shared_lines(done, merged, is_chosen=is_chosen)]
    if not force:
        lines.append(render.line("nothing is changed yet: add -f (--force) to do it", render.FAINT))
    return answer(lines, {**asdict(done), "merged_segments": merged or 0})


_DELETED = {
    "segments": "segments that were merged",
    "claims": "claims and heartbeats that have ended",
    "moments": "left from asking for the time or for rights",
    "blobs": "blobs that no result needs",
    "uploads": "uploads that nobody finished",
}


def _shared_lines(done: SharedCleaning, merged: int | None, *, is_chosen: bool) -> Iterator[str]:
    would = "" if done.done else "would be "
    if done.marked:
        what = f"{render.count_of(done.marked, 'result')} {would}marked"
        yield (
            f"{what}, {render.size(done.marked_bytes)}; "
            f"to compute them again takes {render.duration(done.cost)}; what nobody uses for a day "
            "goes with the next clean-up after it"
        )
    if done.waiting:
        yield f"{render.count_of(done.waiting, 'result')} marked before, and not yet due"
    if done.evicted:
        yield f"{render.count_of(done.evicted, 'result')} {would}taken out of the cache"
    for kind, number in done.deleted.items():
        if number:
            yield f"{render.count_of(number, 'object')} {would}deleted: {_DELETED[kind]}"
    if done.deleted_bytes:
        yield f"{render.size(done.deleted_bytes)} {'are' if done.done else 'would be'} free"
    if done.pinned or done.live:
        yield f"kept: {done.pinned:,} pinned, {done.live:,} that a run uses which is going on"
    if merged is not None:
        what = (
            render.count_of(merged, "segment") if merged else "nothing, as there are few segments"
        )
        yield f"merged {what} of the log"
    if not any((done.marked, done.waiting, done.evicted, *done.deleted.values(), merged)):
        hint = "" if is_chosen else "; say what may go, such as --older-than 90d"
        yield f"nothing to take away{hint}"


def _compact(cache: Cache) -> int:
    """Fold and merge the log as far as it goes; return how many segments there are then."""
    cache.log.rotate()
    cache.log.fold()
    cache.log.compact()
    return len(cache.log.segments())


def _reason(parsed: Parsed) -> str:
    options = " ".join(
        f"{name} {text}".strip()
        for name, texts in parsed.flags.items()
        if name not in ("--force", "--json", "--cache")
        for text in texts
    )
    return f"clean {options}"


def _head(done: Cleaning) -> Rendered:
    verb = "took away" if done.done else "would take away"
    size = render.size(sum(each.size for each in done.shares))
    text = f"{verb} what is kept of {render.count_of(done.holdings, 'task')}, {size}"
    if done.cost:
        text += f"; to compute them again takes {render.duration(done.cost)}"
    return Rendered(text, f"<b>{escape(text)}</b>")


def _grid(word: str, found: Iterable[tuple[str, Cleaning | Share]]) -> Rendered:
    rows = [
        (name, f"{each.holdings:,}", render.size(each.size), render.duration(each.cost))
        for name, each in found
    ]
    headers = (word, "tasks", "bytes", "to compute again")
    return render.table(headers, rows, numeric=headers[1:])


def _remarks(done: Cleaning) -> list[Rendered]:
    lines = [
        f"and {_LEFT[kind]}: {number:,}, {render.size(size)}"
        for kind, (number, size) in done.leftovers.items()
    ]
    if done.orphans[0]:
        blobs = render.count_of(done.orphans[0], "blob")
        lines.append(f"and {blobs} that nothing needs, {render.size(done.orphans[1])}")
    if done.pinned:
        lines.append(f"kept: {done.pinned:,} pinned")
    if done.live:
        lines.append(f"kept: {done.live:,} that a run uses which is going on")
    if done.done:
        lines.append(f"{render.size(done.freed)} are free")
    if done.waiting:
        lines.append(
            f"{render.size(done.waiting)} wait, since somebody is working on this cache: the end "
            "of a run, or the next clean-up, frees them"
        )
    return [render.line(text) for text in lines]


def _choices(cache: Cache) -> Answer:
    """What a clean-up could take away, each with the option that says so."""
    options = {
        "--incomplete": Selection(incomplete=True),
        "--older-than 30d": Selection(older_than=30 * 86_400.0),
        "--keep-last 5": Selection(keep_last=5),
        "--expired": Selection(expired=True),
    }
    found = {text: clean(cache, selection) for text, selection in options.items()}
    total = next(iter(found.values())).total
    head = f"the cache holds {render.size(total)}; say what may go, such as"
    grid = _grid("command", [(command(f"clean {text}"), each) for text, each in found.items()])
    data = {
        "total_bytes": total,
        "choices": {text: each.record() for text, each in found.items()},
    }
    return answer([render.line(head), grid], data)


def pin_answer(parsed: Parsed, cache: Cache) -> Answer:
    """Pin something (or no longer), or list what is pinned."""
    pinned = parsed.verb.name == "pin"
    if "--user" in parsed:
        return _let_go(parsed, cache)
    named = {"--run", "--process", "--reason"} & parsed.flags.keys() or parsed.words
    for flag in {"--team", "--list"} & parsed.flags.keys() if named else ():
        raise UsageError(
            f"pin {flag} only lists what is pinned; to pin a task, a run or a process, leave "
            f"{flag} away: pins of tasks and runs count for the team in any case"
        )
    if "--team" in parsed:
        return _list_pins(pins_of_team(tier_of(cache).shared), of_team=True)
    if pinned and not named:
        return _list_pins(pins(cache))
    found = pin(
        cache,
        parsed.words,
        run=parsed.text("--run"),
        process=parsed.text("--process"),
        pinned=pinned,
        reason=parsed.text("--reason") or "",
    )
    text = f"{found.what} is pinned: no clean-up takes its results"
    if found.target.startswith("hash:") and cache.log.is_evicted(Digest(found.target[5:])):
        text += "; its last one was taken out of the cache before: run it again to have one"
    lines = [render.line(text if pinned else f"{found.what} is no longer pinned")]
    if not found.target.startswith("process:"):  # of which only this cache knows
        lines += [render.line(note, render.FAINT) for note in tell_of_pins(cache)]
    return answer(lines, found.record())


def _let_go(parsed: Parsed, cache: Cache) -> Answer:
    """Let go of what a colleague has pinned, who does it no more."""
    if "--process" in parsed or len(parsed.words) > 1:
        raise UsageError(
            "of a colleague's pins name one TASK by its hash, or --run RUN; without, all of them go"
        )
    user = parsed.text("--user") or ""
    shared = tier_of(cache).shared
    found = let_go(shared, user, parsed.word, run=parsed.text("--run"), here=cache)
    lines = [render.line(f"{each.what} is no longer pinned by {user}") for each in found]
    return answer(lines, [each.record() for each in found])


def _list_pins(found: Sequence[Pin], *, of_team: bool = False) -> Answer:
    if not found:
        return answer("nothing is pinned", [])
    cells = [(each.user, each.what, moment(each.at), each.reason) for each in found]
    left = 0 if of_team else 1
    grid = render.table(("by", "pinned", "since", "why")[left:], [row[left:] for row in cells])
    return answer(grid, [each.record() for each in found])


def usage_answer(parsed: Parsed, cache: Cache) -> Answer:
    """Whose the bytes are."""
    found = usage.usage(cache)
    parts = [_parts("process", found.processes), _parts("run", found.runs[:_LISTED])]
    if len(found.runs) > _LISTED:
        parts.append(render.line(f"… and {len(found.runs) - _LISTED} more runs", render.FAINT))
    beside = [f"{name} {render.size(size)}" for name, size in found.beside.items()]
    if found.unneeded:
        beside.insert(0, f"blobs that nothing needs {render.size(found.unneeded)}")
    if beside:
        parts.append(render.line(f"besides: {', '.join(beside)}"))
    dollars = found.total / 1e9 * usage.S3_PRICE
    parts.append(
        render.line(
            f"{render.size(found.total)} in all, ${dollars:.2f} a month on S3 Standard "
            f"(${usage.S3_PRICE} per GB and month, us-east-1)"
        )
    )
    return answer(parts, found.record())


ANSWERS = {"clean": clean_answer, "pin": pin_answer, "unpin": pin_answer, "du": usage_answer}


def check_answer(parsed: Parsed, session: Session) -> Answer:
    """Run kept tasks again; say per process and output whether they came out the same."""
    if "--repeat" not in parsed:
        raise UsageError(f"say what to check: {parsed.verb.usage('notebook')}")
    text = parsed.text("--sample") or str(SAMPLE)
    if text != "all" and not (text.isdecimal() and int(text)):
        raise UsageError(f"--sample takes a number from 1 on, or `all`, not {text!r}")
    found = repeat(session, parsed.words, sample=None if text == "all" else int(text))
    lines = [each for process in found for each in _repeated(process)]
    colour = "done" if all(process.good for process in found) else "failed"
    return answer(lines, [each.record() for each in found], colour)


def _repeated(found: ProcessRepeat) -> list[Rendered]:
    left = f"{render.count_of(found.left, 'task')} without a kept result: not checked"
    if not found.tasks:
        return [render.line(f"{found.process}: {left}")]
    head = f"{found.process}: {found.tasks:,} of {render.count_of(found.kept, 'task')} run again"
    head += ", all came out the same" if found.good else ""
    lines = [render.line(f"{head}; {left}" if found.left else head)]
    for task, error in found.failed:
        lines.append(render.line(f"  {task} failed: {error}"))
    for output in found.outputs.values():
        if output.data is None:
            continue
        told = f"  {output.name} differs in {output.different:,}: {output.task}: {output.data.head}"
        lines.append(render.line(told))
        lines += [render.line(f"    {each}", render.MONO) for each in output.data.lines]
    return lines


def _parts(word: str, found: Sequence[usage.Part]) -> Rendered:
    if not found:
        return Rendered("", "")
    headers = (word, "tasks", "bytes", "to compute again", "$ a month")
    rows = [
        (
            each.name,
            f"{each.results:,}",
            render.size(each.size),
            render.duration(each.cost),
            f"{each.dollars:.2f}",
        )
        for each in found
    ]
    return render.table(headers, rows, numeric=headers[1:])
