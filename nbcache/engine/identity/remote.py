"""Remote files: what they hold, asked of their server once per run, and fetched once per content.

A remote file counts by its content, as a local one does. Its URL, size and strong ETag (or
generation) are only the key to a digest that was computed earlier; a weak ETag or a time may stay
while bytes change, so without a strong one the content is fetched again in each run. What is
fetched is kept as a blob, in the kernel: workers need no network, no credentials, and no second
download. No user, password or query of a URL is kept anywhere.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode

from nbcache.engine.identity.downloads import Callback, Downloads
from nbcache.engine.identity.remote_errors import cloud_of_login, explained
from nbcache.errors import ChannelError, InputChangedError, NbcacheError
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.value import RemoteFile, Stored
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.filestate import RemoteNote
from nbcache.store.remote.file_notes import share_note, shared_note

_AT_ONCE = 16  # requests for the state of files; the answers are small, the ways long
# Parameters of a signed URL: other ones each day, and they say nothing of the content.
_SIGNED = ("x-amz-", "x-goog-", "x-ms-")
_SIGNATURE = frozenset(
    "awsaccesskeyid signature expires googleaccessid key-pair-id policy token access_token "
    "sig se st sp sv sr spr sip skoid sktid skt ske sks skv".split()
)


class _System(Protocol):
    """What is asked of an fsspec file system."""

    def info(self, path: str) -> dict[str, Any]: ...
    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, Any]]: ...
    def glob(self, path: str) -> list[str]: ...
    def get_file(self, path: str, local: str, *, callback: Callback) -> None: ...
    def unstrip_protocol(self, path: str) -> str: ...


@dataclass(frozen=True, slots=True)
class State:
    """What a server says of a file: `tag` changes with every byte, `loose_tag` as a rule.

    Empty where it says no such thing.
    """

    size: int | None
    tag: str
    loose_tag: str
    members: tuple[str, ...] | None = None  # of a folder: the files in it


class RemoteFiles:
    """The remote files of one run. Thread-safe; each is looked at once."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._systems: dict[str, tuple[_System, str]] = {}
        self._states: dict[str, Future[State]] = {}
        self._fetched: dict[str, Stored] = {}
        self.downloads = Downloads(self._fetch)
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def ask(self, files: Iterable[RemoteFile]) -> None:
        """Begin to ask for the state of files, many at once; nobody waits here."""
        for file in files:
            self._asked(file)

    def is_known(self, file: RemoteFile) -> bool:
        """Whether its digest, or why there is none, can be told at once."""
        asked = self._asked(file)
        if not asked.done():
            return False
        if asked.exception() is not None:
            return True
        return file.url in self._fetched or self._noted(file, asked.result()) is not None

    def digest(self, file: RemoteFile, mode: str) -> Digest:
        """Return what identifies a file's content, which is fetched if it is not known.

        deep: the digest of the content. standard: of URL, size and whatever tag or time the server
        gives; of the content where it gives none. lenient: of URL and size.

        Raises:
            ChannelError: it cannot be read; says why, and what to do.
        """
        state = self._state(file)
        if mode == "lenient" or (mode == "standard" and state.loose_tag):
            parts = ["nbcache-remote", mode, _key(file), str(state.size)]
            parts += [state.loose_tag] if mode == "standard" else []
            return identity_digest("\0".join(parts).encode())
        noted = self._noted(file, state)
        return noted.digest if noted is not None else self.fetch(file).digest

    def size(self, file: RemoteFile) -> str:
        """Return the size as people read it, "?" where the server does not tell."""
        state = self._state(file)
        if state.members is not None:
            return "folder"
        return "? B" if state.size is None else f"{state.size:,} B"

    def fetch(self, file: RemoteFile) -> Stored:
        """Return the content as a blob of the cache, which it becomes if it is none.

        Raises:
            ChannelError: it cannot be read.
            InputChangedError: it was written meanwhile.
        """
        held = self.downloads.begin(file).result()
        if not self._is_there(held):  # a clean-up took it
            held = self.downloads.begin(file, again=True).result()
        return held

    def expect(self, file: RemoteFile) -> None:
        """Begin to fetch a file if its content is not known yet; nobody waits here."""
        asked = self._asked(file)
        asked.add_done_callback(lambda _: None if self.is_known(file) else self._begin(file))

    def _begin(self, file: RemoteFile) -> None:
        with suppress(ChannelError):  # the run has ended meanwhile
            self.downloads.begin(file)

    def _fetch(self, file: RemoteFile, callback: Callback) -> Stored:
        state = self._state(file)
        held = self._fetched.get(file.url) or self._kept(file, state)
        if held is None or not self._is_there(held):
            held = self._download(file, state, callback)
        self._fetched[file.url] = held
        return held

    # ------------------------------------------------------------------ asking

    def _asked(self, file: RemoteFile) -> Future[State]:
        with self._lock:
            if file.url not in self._states:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="nbcache-remote")
                self._states[file.url] = self._pool.submit(self._ask, file)
            return self._states[file.url]

    def _state(self, file: RemoteFile) -> State:
        return self._asked(file).result()

    def _ask(self, file: RemoteFile) -> State:
        """Look at a file, and learn what the team knows of it where nobody here has read it, or
        let it know what the user has read."""
        state = self._look(file)
        shared = self._cache.shared
        if shared is not None and state.tag:
            noted = self._noted(file, state)
            if noted is None:
                known = shared_note(shared, _key(file), state.tag, state.size)
                if known is not None:
                    self._cache.files.note_remote(known)
            elif not noted.signer:
                shared.to_tell[noted.name] = noted
        return state

    def _look(self, file: RemoteFile) -> State:
        try:
            system, path = self._system(file.url)
            info = system.info(path)
            if info.get("type") != "directory":
                return _state_of(info)
            found = system.find(path, detail=True)
        except Exception as error:
            raise explained(error, file) from error
        return _folder_state(path, found)

    def _system(self, url: str) -> tuple[_System, str]:
        """Return the file system of a URL; one for all URLs of a server."""
        system, path = connect(url)
        authority = url if "::" in url else "/".join(url.split("/", 3)[:3])
        with self._lock:
            return self._systems.setdefault(authority, (system, path))[0], path

    # ------------------------------------------------------------------ fetching

    def _noted(self, file: RemoteFile, state: State) -> RemoteNote | None:
        return self._cache.files.remote(_key(file), state.tag, state.size) if state.tag else None

    def _kept(self, file: RemoteFile, state: State) -> Stored | None:
        noted = self._noted(file, state)
        if noted is None:
            return None
        return _stored(file, state, noted.digest, noted.blob, state.size or 0)

    def _is_there(self, held: Stored) -> bool:
        assert held.blob is not None
        if held.kind == "tree":
            return self._cache.blobs.has_tree(held.blob)
        return self._cache.blobs.has(held.blob)

    def _download(self, file: RemoteFile, state: State, callback: Callback) -> Stored:
        place = self._cache.tmp / new_ulid()
        try:
            self._get(file, state, place, callback)
            blobs = self._cache.blobs
            kept = blobs.put_file(place) if state.members is None else blobs.put_tree(place)
            stored = _stored(file, state, kept.identity, kept.blob, kept.size)
        finally:
            shutil.rmtree(place, ignore_errors=True)
            place.unlink(missing_ok=True)
        if state.tag and stored.blob is not None:
            note = RemoteNote(_key(file), state.tag, state.size, stored.digest, stored.blob)
            self._cache.files.note_remote(note)
            shared = self._cache.shared  # is told at once: it may be long until the run sends
            if shared is not None and not share_note(shared, note):
                shared.to_tell[note.name] = note
        return stored

    def _get(self, file: RemoteFile, state: State, place: Path, callback: Callback) -> None:
        """Write a file or folder to `place`, whole and in one version."""
        try:
            system, path = self._system(file.url)
            if state.members is None:
                system.get_file(path, str(place), callback=callback)
            else:
                place.mkdir()
                for member in state.members:
                    target = place / member
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self.downloads.check(file)
                    system.get_file(f"{path.rstrip('/')}/{member}", str(target), callback=callback)
            after = self._look(file)
        except NbcacheError:
            raise
        except Exception as error:
            raise explained(error, file) from error
        got = place.stat().st_size if state.members is None else None
        if after != state or (got is not None and state.size is not None and got != state.size):
            raise InputChangedError(
                f"{file.place} changed while it was read.\n  Run again when it is complete."
            )


def connect(url: str) -> tuple[_System, str]:
    """Return a URL's file system and the path in it; listings are asked for anew each time.

    Raises:
        ImportError, ValueError: there is none for it, or credentials stand in it.
    """
    import fsspec

    if cloud_of_login(RemoteFile(url)) is not None:
        raise ValueError("credentials in a URL")

    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        import aiohttp

        # As it is, a download of more than five minutes would fail; what counts is silence.
        patience = aiohttp.ClientTimeout(total=None, sock_connect=60, sock_read=300)
        options["client_kwargs"] = {"timeout": patience}
    system, path = fsspec.core.url_to_fs(
        url, use_listings_cache=False, skip_instance_cache=True, **options
    )
    return system, path


def matching(pattern: str) -> list[RemoteFile]:
    """Return the remote files and folders that a glob matches, sorted.

    Raises:
        ChannelError: they cannot be listed.
    """
    try:
        system, path = connect(pattern)
        return [RemoteFile(system.unstrip_protocol(found)) for found in sorted(system.glob(path))]
    except Exception as error:
        raise explained(error, RemoteFile(pattern)) from error


def _stored(file: RemoteFile, state: State, digest: Digest, blob: Digest, size: int) -> Stored:
    kind = "file" if state.members is None else "tree"
    return Stored(digest, kind, kind, size, blob=blob, name=file.name)  # type: ignore[arg-type]


def _state_of(info: Mapping[str, Any]) -> State:
    """Return what counts of what fsspec tells; its file systems name things differently."""
    tag = next((str(info[name]) for name in ("ETag", "etag", "generation") if info.get(name)), "")
    times = ("Last-Modified", "LastModified", "last_modified", "mtime")
    time = next((str(info[name]) for name in times if info.get(name)), "")
    size = info.get("size")
    return State(
        size=int(size) if size is not None else None,
        tag="" if tag.startswith("W/") else tag,
        loose_tag=tag or time,
    )


def _folder_state(path: str, found: Mapping[str, Mapping[str, Any]]) -> State:
    prefix = path.rstrip("/") + "/"
    states: dict[str, State] = {}
    for name, info in sorted(found.items()):
        member = name.removeprefix(prefix)
        if info.get("type") == "directory" or name.endswith("/"):
            continue  # S3 keeps an empty object for a folder that somebody made
        if not name.startswith(prefix) or ".." in member.split("/"):
            raise OSError(f"{name!r} is not in the folder that holds it")
        states[member] = _state_of(info)
    sizes = [each.size for each in states.values()]
    lines = [f"{member}\0{each.size}\0" for member, each in states.items()]
    whole = all(each.tag for each in states.values())
    told = all(each.loose_tag for each in states.values())
    tags = [f"{line}{each.tag}" for line, each in zip(lines, states.values(), strict=True)]
    loose = [f"{line}{each.loose_tag}" for line, each in zip(lines, states.values(), strict=True)]
    return State(
        size=sum(each or 0 for each in sizes),
        tag=identity_digest("\0".join(tags).encode()) if whole else "",
        loose_tag=identity_digest("\0".join(loose).encode()) if told else "",
        members=tuple(states),
    )


def _key(file: RemoteFile) -> str:
    """Return the name of a file in the table: its URL, of which what is secret is digested."""
    url = file.url
    if not url.startswith(("http://", "https://")):
        return file.place if file.place == url else f"{file.place}#{identity_digest(url.encode())}"
    query = url.partition("#")[0].partition("?")[2]
    scheme, _, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    bare = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    kept = [
        (name, value)
        for name, value in parse_qsl(query, keep_blank_values=True)
        if not name.lower().startswith(_SIGNED) and name.lower() not in _SIGNATURE
    ]
    told = urlencode(kept)
    place = file.place.removesuffix("?…").removesuffix("#…")
    if place != bare:  # what is not shown counts all the same
        told = f"{told}\0{bare}"
    return f"{place}#{identity_digest(told.encode())}" if told else place
