"""The whole exception tree: every error that nbcache raises on purpose.

An error names the place, the thing, the reason and the way out, and it survives pickling (its
args are the parameters that it cannot be made without), since many cross from a worker to the
kernel. Nothing here imports anything else of nbcache.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

_as_typed: Callable[[str], str] = "%nbcache {}".format


def command(words: str) -> str:
    """Return a command of nbcache ("share URL") as whoever reads the message types it: as a magic,
    or in a shell as `spoken` says."""
    return _as_typed(words)


def speak(as_typed: Callable[[str], str]) -> None:
    """Let the messages of this process name commands as this function gives them, from now on."""
    global _as_typed
    _as_typed = as_typed


@contextlib.contextmanager
def spoken(as_typed: Callable[[str], str]) -> Iterator[None]:
    """Let them be named so as long as this is open."""
    before = _as_typed
    speak(as_typed)
    try:
        yield
    finally:
        speak(before)


_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, movements
    r"|\x1b[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, the clipboard: strings up to their end
    r"|\x1b[ -/]*[0-~]"  # character sets, and what an incomplete one begins with
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")


def plain(text: str) -> str:
    """Return what somebody else wrote as text that no terminal obeys: without escape sequences,
    other control characters spelled out."""
    if not _CONTROLS.search(text):
        return text
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", _ESCAPES.sub("", text))


def with_article(noun: str) -> str:
    """Return the name of a type as it is spoken: "a list", "an int", "an ndarray"."""
    return f"{'an' if noun[:1] in 'aeioAEIO' or noun.startswith('nd') else 'a'} {noun}"


def kind_of(value: object) -> str:
    """Return what a value is, as it is spoken: "a list", "an int"."""
    return with_article(type(value).__name__)


class NbcacheError(Exception):
    """The root of all errors raised on purpose; its text is meant to be read by a user."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback through nbcache's own code."""
        name, _, rest = f"{type(self).__name__}: {self}".partition(":")
        return [f"\x1b[31m{name}\x1b[0m:{plain(rest)}"]


class DeclarationError(NbcacheError):
    """A cell cannot be declared: a malformed header, an unknown option, a body with a fault.

    Carries where: `line` (1-based, in the cell), `column` (0-based, in that line), the source
    text of the line, so that the message shows a caret under the fault. `cell` names the cell
    where another one may be running by then.
    """

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        source: str | None = None,
        hint: str | None = None,
        cell: str = "",
    ) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column
        self.source, self.hint, self.cell = source, hint, cell

    def __str__(self) -> str:
        where = f"{self.cell} line {self.line}: ".lstrip() if self.line is not None else ""
        lines = [f"{where}{self.message}"]
        if self.source is not None:
            lines.append(f"    {self.source}")
            if self.column is not None:
                lines.append("    " + " " * self.column + "^")
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)


class HeaderError(DeclarationError):
    """The `%%process` or `%channel` line does not follow the grammar."""


class OptionError(DeclarationError):
    """An option is unknown, given twice, or its value does not parse."""


class BodyError(DeclarationError):
    """The body of a process cannot be run as a task: `return`, a magic, a missing output."""


class WiringError(NbcacheError):
    """The pipeline does not fit together: an unknown channel, a cycle, inputs left unfilled."""


class UnknownNameError(DeclarationError, WiringError):
    """An expression names no channel, process or variable; it may come with a later cell."""


class ChannelError(NbcacheError):
    """A channel cannot give its items: no file matches, queues of different length, a bad key."""


class FingerprintError(NbcacheError):
    """A task cannot be fingerprinted."""


class NoCanonicalFormError(FingerprintError, TypeError):
    """A value has no canonical form, so nothing made from it can be fingerprinted.

    `inside` is where it stands in a value that holds it (``.engine``), `place` where that one
    stands, as a user would say it (``process 'fit': captured name 'db'``), `name` what the body
    calls it where it is captured; these are empty until the caller adds them with `at`.
    """

    RESULTS = "it stands for results of tasks"  # the reason of a channel or a run

    def __init__(
        self, type_name: str, reason: str = "", inside: str = "", place: str = "", name: str = ""
    ) -> None:
        super().__init__(type_name, reason, inside, place, name)
        self.type_name, self.reason, self.inside, self.place, self.name = self.args

    def at(self, place: str, name: str = "") -> NoCanonicalFormError:
        """The same error, said with its place."""
        return NoCanonicalFormError(self.type_name, self.reason, self.inside, place, name)

    @property
    def fact(self) -> str:
        """What is wrong, without the ways out."""
        called = with_article(" ".join(filter(None, self._library_and_kind)))
        known = f"holds {called}, at {self.inside}" if self.inside else f"is {called}"
        said = f"{self.place or 'the value'} {known}: no canonical form"
        return said + (f" ({self.reason})" if self.reason else "")

    @property
    def _library_and_kind(self) -> tuple[str, str]:
        library, _, kind = self.type_name.partition(".")
        return library, kind.rpartition(".")[2]

    def __str__(self) -> str:
        if self.reason == self.RESULTS:
            return f"{self.fact}.\n  Take them as inputs, `from ...`; or read them in a cell above"
        library, kind = self._library_and_kind
        made = f"what {self.name} is" if self.inside else f"the {kind or library}"
        said, ways = self.fact, ["pass plain data, a table, an array or a path instead"]
        if self.name:
            said += f"; wrap it:\n  @nbcache.resource\n  def {self.name}(): return <{made}>"
            ways[0] = f"which makes it once per worker, and the body stays as it is; or {ways[0]}"
            ways.append(f"or leave it out of the hash: `--ignore {self.name}`")
        ways.append(f"or teach nbcache the type: nbcache.register({kind or library}, ...)")
        return "\n  ".join([said, ";\n  ".join(ways)])


class NoRoomError(NbcacheError):
    """Less room is free on the disk than an attempt asks for."""


class InputChangedError(FingerprintError):
    """A file changed while it was read or while a task that uses it ran."""


class StoreError(NbcacheError):
    """The cache cannot be read or written."""


class DamagedSegmentError(StoreError):
    """A file of the history does not hold what was written."""


class CannotKeepError(StoreError):
    """The cache takes nothing more: its disk is full, or it may only be read."""


class CacheFormatError(StoreError):
    """The folder holds no nbcache cache, or one in a format that this version cannot use."""


class NoCacheYetError(CacheFormatError):
    """Nothing lies at a place where a cache may be made."""


class BlobDamagedError(StoreError):
    """A blob's bytes do not have the digest that names them, or are not what they should be."""


class BlobMissingError(StoreError, KeyError):
    """A blob that a row names is not there."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "a blob is missing"


class InputMissingError(BlobMissingError):
    """The store no longer holds the content of a task's input: its producer has to run again."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return f"an input's content {self.digest} is no longer in the cache"


class RemoteStoreError(StoreError):
    """A shared store (a bucket, a container, a shared folder) did not do what was asked.

    `url` is the store's, `doing` what was tried ("read", "list"), `key` the object ("" where it
    is about the whole store), `reason` what the store or the network said.
    """

    way_out = (
        "Runs go on without the shared cache; `nbcache doctor URL` says what is possible there."
    )

    def __init__(self, url: str, doing: str, key: str, reason: str) -> None:
        super().__init__(url, doing, key, reason)
        self.url, self.doing, self.key, self.reason = url, doing, key, reason

    def __str__(self) -> str:
        what = f"cannot {self.doing} {self.key!r}" if self.key else f"cannot {self.doing}"
        return f"{self.url}: {what}: {self.reason}\n  {self.way_out}"


class ObjectMissingError(RemoteStoreError, KeyError):
    """There is no object of that name; the store itself answers."""

    way_out = "A result whose object is gone is made again by the next run that needs it."


_CLOCK_IS_WRONG = ("TimeTooSkewed", "date header", "iat and exp values")  # of S3, Azure, Google


class AccessDeniedError(RemoteStoreError):
    """The store knows us and refuses, or does not accept the credentials (expired, none)."""

    def __init__(self, url: str, doing: str, key: str, reason: str) -> None:
        super().__init__(url, doing, key, reason)
        self.way_out = "Renew the credentials, or ask for the right to do this"
        if doing in ("read", "look at", "list"):
            self.way_out += ": who uses a shared cache reads and lists below its prefix."
        else:
            self.way_out += f"; to read only: `{command('share URL --read-only')}`."
        if any(words in reason for words in _CLOCK_IS_WRONG):
            self.way_out = "Set this machine's clock (NTP): the store goes by the time of requests."
        elif url.startswith("file:"):
            self.way_out = (
                "Whoever owns the folder gives its group the right: `chmod -R g+rwX FOLDER`; to "
                f"read only: `{command('share FOLDER --read-only')}`."
            )


class StoreUnavailableError(RemoteStoreError):
    """No answer in time, no connection, or a fault at the server: later it may work.

    Whether a write took place is not known then.
    """

    way_out = (
        "Look at the network and the address; until it answers, runs go on without the shared "
        "cache."
    )


class StoreThrottledError(StoreUnavailableError):
    """The store asks to be asked less often (503, 429)."""

    way_out = "Other work on the same bucket may be the cause; it is tried again later."


class StoreGoneError(RemoteStoreError):
    """The bucket, container or folder itself is not there."""

    way_out = "Check the URL; create the bucket, or mount or create the folder."


class StoreForkedError(RemoteStoreError):
    """A store that another process opened was used after a fork; its connections are not ours."""

    way_out = "Open the store in the process that uses it; start processes by spawn or forkserver."


class CannotOpenStoreError(RemoteStoreError):
    """A URL names no store that this installation can open."""

    way_out = "Known are s3://, gs://, az:// and file:// URLs without credentials, and folders."


class FetchStoppedError(StoreError):
    """Nobody wants any more what was being fetched."""


class OutputError(NbcacheError):
    """A task ended without making what its process declares."""


class PublishError(NbcacheError):
    """A result is kept, but cannot be put where a publish or store rule wants it."""


class SettingError(NbcacheError):
    """What a cell sets in a module cannot be set where a task runs."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place, self.reason = place, reason

    def __str__(self) -> str:
        return (
            f"{self.place}, which a cell sets, cannot be set in the worker ({self.reason})\n"
            "  set it in the body instead"
        )


class ScriptError(NbcacheError):
    """A script could not be started, or ended with an exit code other than 0 or by a signal."""


class CodecError(NbcacheError):
    """A value cannot be turned into bytes, or bytes not back into a value."""


class UntrustedError(CodecError):
    """A value runs code when it is decoded, and nobody whom the user trusts vouches for it."""

    def __init__(self, codec: str) -> None:
        super().__init__(codec)
        self.codec = codec

    def __str__(self) -> str:
        return (
            f"reading {with_article(self.codec)} runs code, and this one is of a cache that is "
            "not yours, without a signature that you trust, so it is not read.\n"
            f"  Let its task run again: {command('run')}. Or, in a shell: nbcache keys"
        )


class ResultGone(NbcacheError):
    """A result that a name still points to is no longer kept; names the task and the command."""


class NotRunError(NbcacheError):
    """A result was asked for that no run has made."""


class RunFailed(NbcacheError):
    """One or more tasks failed; the text is the short report that ends the cell."""


class RunError(NbcacheError):
    """A run cannot start or go on: unknown or ambiguous id, still running elsewhere."""


class MissingParameterError(NbcacheError):
    """Required parameters have no value; nothing was started.

    `missing` are (name, what it is for) pairs; the name is "" where a cell used the value itself.
    """

    def __init__(self, missing: tuple[tuple[str, str], ...]) -> None:
        super().__init__(missing)
        self.missing = missing

    def __str__(self) -> str:
        named = ", ".join(f"{name} ({text})" if text else name for name, text in self.missing)
        first = self.missing[0][0] or "NAME"
        if not self.missing[0][0]:
            named = self.missing[0][1] or "a required parameter"
        return (
            f"no value is given for {named}.\n  Give it: `%nbcache run -p {first}=...`, "
            f"`nbcache run NOTEBOOK -p {first}=...`, or assign it in a cell."
        )


class NotKept(NbcacheError):
    """A `%%cached` cell runs as any cell, and what it made is not kept: the text says why."""


class MissingPackageError(NbcacheError, ImportError):
    """Something needs a package that nbcache itself does not; names it and the command."""


class UsageError(NbcacheError):
    """A command or magic was called with words that it does not take."""


class ClusterDiffersError(UsageError):
    """A machine of a cluster is another one than the kernel's, or has other packages or tools."""
