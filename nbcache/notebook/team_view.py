"""What `share`, `push` and `pull` answer, for the notebook and the shell alike."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypedDict

from nbcache.engine.cache_in_use import CacheInUse
from nbcache.engine.joining import tier_behind
from nbcache.engine.sharing import sharing_of, unshare
from nbcache.engine.tier import Tier
from nbcache.errors import UsageError, command
from nbcache.notebook import render
from nbcache.notebook.answer import Answer, answer
from nbcache.notebook.fetching import shown_while_waiting
from nbcache.notebook.verbs import Parsed
from nbcache.store.cache import Cache
from nbcache.store.history import Logged
from nbcache.store.remote.sending import Sent


class Manner(TypedDict):
    """How a cache is shared."""

    read_only: bool
    claim: str


def tier_of(cache: Cache) -> Tier:
    """Return the shared cache behind a cache, opened.

    Raises:
        UsageError: there is none, or it does not answer.
    """
    said: list[str] = []
    tier = tier_behind(cache, said.append)
    if tier is None:
        if not said:
            said.append(
                f"nothing is shared: {cache.root} has no shared cache behind it.\n"
                f"  Put one there: `{command('share s3://bucket/prefix')}`."
            )
        raise UsageError(said[0])
    tier.shared.fetching.showing = shown_while_waiting
    return tier


def tell_of_pins(cache: Cache) -> list[str]:
    """Let a shared cache know at once what is pinned, for whoever cleans it; what is in the way."""
    said: list[str] = []
    sharing = sharing_of(cache.root)
    if sharing is not None and not sharing.read_only:
        tier = tier_behind(cache, said.append)
        if tier is not None:
            tier.send_pins()
    return said


def share_in_shell(parsed: Parsed, place: Path) -> Answer:
    """Share the cache in a folder, which is made for it; a URL that is refused makes none. Not well
    is what is shared already and does not answer."""
    held = CacheInUse(place, _tell, lambda said: nullcontext())
    try:
        tier = held.share(parsed.words[0], **manner(parsed))
        return replace(status(held.cache, tier), good=tier is not None)
    finally:
        held.close()


def sharing_in_shell(parsed: Parsed, cache: Cache) -> Answer:
    """Share a cache no more, or say with what."""
    if "--off" not in parsed:
        return status(cache, None)
    check_words(parsed)
    unshare(cache)
    return off()


def manner(parsed: Parsed) -> Manner:
    """Return how a cache is shared, by the options."""
    return {"read_only": "--read-only" in parsed, "claim": parsed.text("--claim") or "auto"}


def check_words(parsed: Parsed) -> None:
    """Refuse a URL beside --off."""
    if parsed.words:
        raise UsageError("share takes a URL or --off, not both")


def off() -> Answer:
    """Say that nothing is shared any more."""
    return answer("nothing is shared any more; what came from there stays", None)


def status(cache: Cache, tier: Tier | None) -> Answer:
    """Say what a cache is shared with."""
    if tier is not None:
        return _described(tier)
    sharing = sharing_of(cache.root)
    if sharing is None:
        return answer("nothing is shared; `share URL` does it", None)
    return answer(f"shared with {sharing.url}{_manner(sharing.read_only)}", asdict(sharing))


def _described(tier: Tier) -> Answer:
    """Say what is shared, with what it holds."""
    shared = tier.shared
    shared.log.refresh(relist=True)  # what this process has sent since
    segments = shared.log.segments().values()
    results = sum(segment.hashes for segment in segments)
    data = {
        **asdict(tier.sharing),
        "id": shared.id,
        "backend": shared.store.backend,
        "results": results,
        "segments": len(segments),
    }
    text = (
        f"shared with {shared.store.url} ({shared.store.backend}), "
        f"{render.count_of(results, 'result')}{_manner(shared.contact.read_only is not None)}"
    )
    return answer(text, data)


def _manner(read_only: bool) -> str:
    return "; nothing is sent to it" if read_only else ""


def history_of(tier: Tier) -> Logged:
    """Return the whole history of the shared cache, fetched as far as it is not here."""
    tier.shared.mirror.refresh(older_than_s=1.0)
    tier.shared.mirror.fetch_all_rows()
    return tier.shared


def push(parsed: Parsed, tier: Tier) -> Answer:
    """Send what is missing there."""
    from nbcache.engine.record import history

    run = history.find_run(tier.cache, parsed.words[0]).id if parsed.words else None
    sent = tier.push(run, _progress if sys.stderr.isatty() else None)
    text = (
        f"sent {render.count_of(sent.rows, 'row')} and {render.count_of(sent.blobs, 'blob')} "
        f"({render.size(sent.bytes)}) to {tier.shared.store.url}"
    )
    if sent.left:
        text += f"; {render.count_of(sent.left, 'row')} stayed, since their results are gone here"
    return answer(text, asdict(sent))


def pull(parsed: Parsed, tier: Tier) -> Answer:
    """Fetch what is missing here."""
    done = tier.pull(parsed.word)
    text = (
        f"{render.count_of(done.results, 'result')} of {tier.shared.store.url}: fetched "
        f"{render.count_of(done.blobs, 'blob')}, the rest was here"
    )
    if done.gone:
        text += f"; {render.count_of(done.gone, 'blob')} cannot be had"
    return answer(text, asdict(done))


TRANSFERS = {"push": push, "pull": pull}


def _progress(sent: Sent, of: int) -> None:
    print(f"sent {sent.rows} of {of} rows, {render.size(sent.bytes)}", file=sys.stderr)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
