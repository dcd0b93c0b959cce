"""What a team knows of remote files: whose content a URL had under an ETag, read once for all.

A note is a small object under the digest of (URL, tag, size), signed by whoever read the file: a
wrong digest would make a wrong hit. What is not signed by somebody whom the user trusts is no note.
No part of a URL that may be secret reaches the store: the caller gives the name without it.
"""

from __future__ import annotations

import base64
import json

from nbcache.errors import ObjectMissingError, RemoteStoreError
from nbcache.model.digest import Digest, identity_digest
from nbcache.store.remote.protocol import parsed
from nbcache.store.remote.shared import Shared
from nbcache.store.signing import Signer, is_vouched

_FOLDER = "filestate/"
_TITLE = b"nbcache-file 1\n"


def shared_note(
    shared: Shared, name: str, tag: str, size: int | None
) -> tuple[Digest, Digest] | None:
    """Return the content and blob digests that somebody noted; one request, none if unreachable."""
    if not shared.contact.is_reachable:
        return None
    try:
        note = parsed(shared.store.get(_key(name, tag, size)))
        digest, blob = Digest(note["digest"]), Digest(note["blob"])
        signature = base64.b64decode(note["signature"])
    except ObjectMissingError:
        return None
    except RemoteStoreError as error:
        shared.contact.tell(error)
        return None
    except (ValueError, KeyError, TypeError):
        return None  # not written by nbcache
    said = _said(name, tag, size, digest, blob)
    return (digest, blob) if is_vouched(said, str(note["signer"]), signature) else None


def share_note(
    shared: Shared, name: str, tag: str, size: int | None, digest: Digest, blob: Digest
) -> None:
    """Tell the team what a remote file holds, if there is a key to sign it with."""
    if shared.contact.read_only is not None or not shared.contact.is_reachable:
        return
    signed = Signer(makes_key=False).sign_bytes(_said(name, tag, size, digest, blob))
    if signed is None:
        return
    signer, signature = signed
    note = {
        "digest": digest,
        "blob": blob,
        "signer": signer,
        "signature": base64.b64encode(signature).decode("ascii"),
    }
    try:
        shared.store.put(_key(name, tag, size), json.dumps(note).encode("ascii"))
    except RemoteStoreError as error:
        shared.contact.tell(error)


def _key(name: str, tag: str, size: int | None) -> str:
    hexadecimal = identity_digest(_state(name, tag, size)).partition(":")[2]
    return f"{_FOLDER}{hexadecimal[:2]}/{hexadecimal}"


def _state(name: str, tag: str, size: int | None) -> bytes:
    return json.dumps([name, tag, size]).encode("ascii")


def _said(name: str, tag: str, size: int | None, digest: Digest, blob: Digest) -> bytes:
    return _TITLE + _state(name, tag, size) + f" {digest} {blob}".encode("ascii")
