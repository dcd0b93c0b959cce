"""Say why a remote file cannot be read, and the way out; never with what is secret in its URL."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nbcache.errors import ChannelError
from nbcache.model.url import links, may_have_password
from nbcache.model.value import RemoteFile

_EXTRAS = {
    "s3": "nbcache[s3]", "gs": "nbcache[gcs]", "abfs": "nbcache[azure]",
    "http": "nbcache[http]", "https": "nbcache[http]",
}  # fmt: skip
_CREDENTIALS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the environment",
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "abfs": "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and _KEY",
}
_ALIASES = {"s3a": "s3", "gcs": "gs", "abfss": "abfs", "az": "abfs"}
_WEB = "take a URL that grants access, or put headers into fsspec's configuration"


def explained(error: Exception, file: RemoteFile) -> ChannelError:
    """Return what to tell of a failure to reach a remote file."""
    told = _explained(error, file)
    if file.hides_authority and cloud_of_login(file) is None:
        return ChannelError(f"{told}\n  {_ESCAPED}")
    return told


def _explained(error: Exception, file: RemoteFile) -> ChannelError:
    scheme, place, causes = _scheme(file), file.place, list(_causes(error))
    cloud = cloud_of_login(file)
    if cloud is not None:
        way_out = _CREDENTIALS[cloud]
        return ChannelError(f"{place}: credentials do not belong in a URL; {way_out}")
    if any(isinstance(each, ImportError) for each in causes):
        package = _EXTRAS.get(scheme)
        way_out = f"pip install '{package}'" if package else _clean(error, file)
        return ChannelError(
            f"{place}: reading {scheme}:// needs a package that is not installed; {way_out}"
        )
    status = next((found for each in causes if (found := _status(each))), 0)
    if status in (401, 403) or any(_is_refusal(each) for each in causes):
        way_out = _CREDENTIALS.get(scheme, _WEB)
        said = f" ({status})" if status else ""
        return ChannelError(f"{place}: access is refused{said}; {way_out}")
    lost = _lost(causes)
    if status in (404, 410) or (isinstance(error, FileNotFoundError) and not (status or lost)):
        hint = _OF_MEMORY if scheme == "memory" else ""
        return ChannelError(
            f"no file {place}{f' (the server says {status})' if status else ''}{hint}"
        )
    if lost:  # also a body that was cut off, in whose error a client puts a status of its own
        return ChannelError(
            f"cannot reach the server of {place}: {_clean(lost, file)}\n"
            "  Check the address and the network, then run again."
        )
    if status:
        return ChannelError(f"cannot read {place}: the server says {status}; try again later")
    name, said = type(error).__name__, _clean(error, file)
    return ChannelError(f"cannot read {place}: {name}{f': {said}' if said != name else ''}")


def cloud_of_login(file: RemoteFile) -> str | None:
    """Return the cloud in whose URL, or link of a chained one, credentials stand: its library would
    send or log them."""
    for link in map(RemoteFile, links(file.url)):
        rest = link.url.partition("://")[2]
        is_login = "@" in rest and may_have_password(_scheme(link), rest.partition("/")[0])
        if _scheme(link) in _CREDENTIALS and (is_login or link.hides_authority):
            return _scheme(link)
    return None


def _scheme(file: RemoteFile) -> str:
    scheme = file.url.partition("://")[0].rpartition("::")[2].lower()
    return _ALIASES.get(scheme, scheme)


_ESCAPED = (
    "Not all of its address is shown, as a password may stand there: in one, / ? # @ are written "
    "%2F %3F %23 %40."
)
_OF_MEMORY = "; what lies in memory:// is gone with the kernel that wrote it"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from: fsspec says "not found" of whatever failed."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        yield current
        current = current.__cause__ or current.__context__


def _status(error: BaseException) -> int:
    """Return the HTTP status that a client library tells in its own way, 0 where it tells none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        held: object = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        held = getattr(error, "status", None) or getattr(error, "status_code", None)
        held = held or getattr(error, "code", None)
    return held if isinstance(held, int) and 400 <= held < 600 else 0


def _is_refusal(error: BaseException) -> bool:
    return isinstance(error, PermissionError) or "Credentials" in type(error).__name__


def _lost(causes: list[BaseException]) -> BaseException | None:
    """Return the error that says that no server was there, or that it fell silent."""
    for each in causes:
        name = type(each).__name__
        is_network = isinstance(each, (ConnectionError, TimeoutError)) or "Connect" in name
        if is_network or name in ("gaierror", "ServerDisconnectedError", "ClientPayloadError"):
            return each
    return None


def _clean(error: BaseException, file: RemoteFile) -> str:
    """Return an error's text in one line, without what the URL hides."""
    if file.hides_authority:  # what a library says may quote it, in any form
        return type(error).__name__
    text = " ".join(str(error).split()).replace(file.url, file.place)
    query = file.url.partition("?")[2]
    authority = file.url.partition("://")[2].partition("/")[0]
    for secret in (query, authority.rpartition("@")[0]):
        if secret:
            text = text.replace(secret, "…")
    return re.sub(r"(https?://)[^/@\s]+@", r"\1", text)[:300]
