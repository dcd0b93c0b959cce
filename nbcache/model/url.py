"""What is secret in a URL: its password, which is found by its place, and its query.

A password that was not escaped may hold what ends it: "/", "?", "#", "@", "::". What people are
shown leaves out all that might be of one; what is searched for in texts is each way to read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate

_CHAINED = re.compile(r"::(?=[A-Za-z][\w.+-]*(?:://|::|$)|/)")  # else it is of a password, or IPv6
_AUTHORITY = re.compile(r"[^/?#]*")
_SCHEME = re.compile(r"(?:[A-Za-z][\w+.-]*|\w)\Z")
_LONGEST_SCHEME = 24
_REST = re.compile(r"\S*")
_QUOTES = re.compile(r"['\"<>]")  # end a URL in a text, but for a password as a URL has it
_FIRST = 4  # "@" that may end a password, beside the last: in a long text there can be many
_TEMPLATE = ("{", "$", "%")
CONTAINER_AT_ACCOUNT = ("abfs", "abfss", "az", "wasb", "wasbs")  # Azure: no user stands there
_CLOUDS = ("s3", "s3a", "gs", "gcs", *CONTAINER_AT_ACCOUNT)  # no port stands there
_OF_NOBODY = ("memory", "zip", "tar", "libarchive", "github")  # `github://org:repository@branch`
_WITHOUT_AUTHORITY = (*_OF_NOBODY, "file", "local", "git")
_WITH_PATH_AFTER_COLON = ("ssh", "git+ssh")  # `ssh://git@github.com:org/tool@v1`


def links(url: str) -> list[str]:
    """Return the URLs that fsspec takes one after the other: `zip://a.txt::s3://lab/x.zip`."""
    return _CHAINED.split(url)


def shown(url: str) -> str:
    """Return a URL without user, password, the values of its query and, on the web, its fragment.

    One that is not written as it should be may have a password up to its last "@": of a URL with a
    ":" in its authority nothing is shown up to there, but for what must be a server if this is one.
    """
    return "::".join(map(_shown, links(url)))


def _shown(url: str) -> str:
    scheme, divider, rest = url.partition("://")
    is_web = scheme.lower() in ("http", "https")  # elsewhere names of files have a "#"
    mark = "#" if is_web and "#" in rest.partition("?")[0] else "?"
    rest, mark, _ = rest.partition(mark)
    authority, slash, path = rest.partition("/")
    if _is_unclear(scheme.lower(), authority, path):
        server, _, port = authority.partition(":")
        is_server = port.isdigit() and scheme.lower() not in _CLOUDS
        authority = f"{server}:…" if is_server else "…"
        _, slash, path = path.rpartition("@")
    user, at, host = authority.rpartition("@")
    if at and (scheme not in CONTAINER_AT_ACCOUNT or ":" in user):
        authority = host
    return f"{scheme}{divider}{authority}{slash}{path if slash else ''}" + (mark and f"{mark}…")


def _is_unclear(scheme: str, authority: str, path: str) -> bool:
    """Whether the "/" or "?" that ends the authority may stand in a password, as in keys of S3."""
    if not may_have_password(scheme, authority):
        return False
    host = authority.rpartition("@")[2]
    _, colon, port = host.rpartition(":")
    is_port = scheme not in _CLOUDS and (port.isdigit() or host.startswith("["))
    return "@" in path or (bool(colon) and not is_port)


def may_have_password(scheme: str, authority: str) -> bool:
    """Whether a ":" stands where it may divide a user from a password."""
    is_other = authority.startswith(("[", "arn:")) or scheme in _WITHOUT_AUTHORITY
    return ":" in authority and not is_other


def urls_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield the scheme of each URL in a text that has an "@", and what follows its "://"."""
    before, *parts = text.split("://")
    for part in parts:
        if "@" in part:
            scheme, rest = _SCHEME.search(before[-_LONGEST_SCHEME:]), _REST.match(part)
            if scheme is not None and rest is not None:
                yield scheme[0].lower(), rest[0]
        before = part


def passwords(scheme: str, rest: str) -> set[str]:
    """Return what may be the password in a URL, given what follows its "://": what stands between
    the first ":" and one "@" or another, which can be of the password or of the text behind.

    Without an "@" in the authority a port, a path or a template can stand there as well.
    """
    if "@" not in rest:
        return set()
    authority = _AUTHORITY.match(rest)[0]  # type: ignore[index]  # it matches anything
    if scheme in _OF_NOBODY or authority.startswith("arn:"):
        return set()
    word = authority.partition(":")[2]
    if "@" not in word:
        is_port = scheme not in _CLOUDS and (not word or word.isdigit())
        is_other = is_port or word.startswith(_TEMPLATE) or scheme in _WITH_PATH_AFTER_COLON
        if is_other or not may_have_password(scheme, authority):
            return set()
    unquoted = _QUOTES.split(rest, maxsplit=1)[0]
    return _readings(word) | _readings(unquoted.partition(":")[2])


def _readings(text: str) -> set[str]:
    """Return what stands before each of the first "@" of a text, and before the last."""
    before = accumulate(text.split("@", _FIRST)[:-1], "{}@{}".format)
    return {*before, text.rpartition("@")[0]} - {""}
