"""What a team knows of remote files: whose content a URL had under an ETag, read once for all.

A note is a small object under the digest of (URL, tag, size), signed by whoever read the file: a
wrong digest would make a wrong hit. What is not signed by somebody whom the user trusts is no note.
No part of a URL that may be secret reaches the store: the caller gives the name without it.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress

from nbcache.errors import AccessDeniedError, ObjectMissingError, RemoteStoreError
from nbcache.model.digest import Digest, identity_digest
from nbcache.store.filestate import RemoteNote
from nbcache.store.remote.protocol import parsed
from nbcache.store.remote.shared import Shared
from nbcache.store.signing import Signer, is_vouched

_FOLDER = "filestate/"
_TITLE = b"nbcache-file 1\n"


def shared_note(shared: Shared, name: str, tag: str, size: int | None) -> RemoteNote | None:
    """Return what somebody noted of a file; one request, none if the store is unreachable."""
    if not shared.contact.is_reachable:
        return None
    try:
        note = parsed(shared.store.get(_key(name, tag, size)))
        digest, blob = Digest(note["digest"]), Digest(note["blob"])
        signer, signature = str(note["signer"]), base64.b64decode(note["signature"])
    except ObjectMissingError:
        return None
    except RemoteStoreError as error:
        shared.contact.tell(error)
        return None
    except (ValueError, KeyError, TypeError):
        return None  # not written by nbcache
    found = RemoteNote(name, tag, size, digest, blob, signer)
    return found if is_vouched(_said(found), signer, signature) else None


def share_note(shared: Shared, note: RemoteNote) -> bool:
    """Tell the team what the user has found in a remote file; False: it could not be told now."""
    if shared.contact.read_only is not None or not shared.contact.is_reachable:
        return False
    signed = Signer(makes_key=False).sign_bytes(_said(note))
    if signed is None:
        return False
    written = {
        "digest": note.digest,
        "blob": note.blob,
        "signer": signed[0],
        "signature": base64.b64encode(signed[1]).decode("ascii"),
    }
    try:
        shared.store.put(_key(*note[:3]), json.dumps(written).encode("ascii"))
    except AccessDeniedError as error:
        shared.contact.note_denied(error)
    except RemoteStoreError as error:
        shared.contact.tell(error)
    else:
        with suppress(OSError):  # it is told once more
            shared.note_sent([note_id(*note[:3])])
        return True
    return False


def note_id(name: str, tag: str, size: int | None) -> str:
    """Return what names a note in its store: 32 hexadecimal digits."""
    return identity_digest(_state(name, tag, size)).partition(":")[2]


def _key(name: str, tag: str, size: int | None) -> str:
    hexadecimal = note_id(name, tag, size)
    return f"{_FOLDER}{hexadecimal[:2]}/{hexadecimal}"


def _state(name: str, tag: str, size: int | None) -> bytes:
    return json.dumps([name, tag, size]).encode("ascii")


def _said(note: RemoteNote) -> bytes:
    return _TITLE + _state(*note[:3]) + f" {note.digest} {note.blob}".encode("ascii")
