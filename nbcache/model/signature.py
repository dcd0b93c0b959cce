"""What a signature on a row says, and whose word a row is. Pure: the signing itself is the store's.

A signature is over the *sealed form* of a row: the parts that a hit uses, and the digest of all
that is left (docs/format.md, Signatures). So a row can be judged from its keys alone, a change of
any column shows, and a row that was folded, merged or read by a version that does not know all of
its columns still has the bytes that were signed. A change here makes every signature worthless.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from nbcache.model.digest import Digest, blob_digest

ESSENCE = (
    *("kind", "id", "hash", "generation", "status", "run", "process", "tag", "at", "realtime"),
    *("host", "user", "watched", "outputs", "shown"),
)
"""The columns that `keys.parquet` has of a result; an addition there does not come here."""

SIGNATURE, SIGNER, SEALED = "signature", "signer", "sealed"
SIGNING = (SIGNATURE, SIGNER, SEALED)
ORIGIN = "origin"
"""The id of the cache that a row was copied from: it is that cache's word, wherever it lies now."""

_UNSEALED = frozenset((*ESSENCE, *SIGNING, ORIGIN))
_TITLE = b"nbcache-row 1\n"
KEY_PREFIX = "ed25519:"
_KEY = re.compile(KEY_PREFIX + "[0-9a-f]{64}")


class Standing(Enum):
    """Whose word a row is; the value is how a reason says it."""

    OWN = "it was made in this cache, which is yours"
    SIGNED = "it is signed by a key that you trust"
    UNSIGNED = "nobody has signed it"
    UNKNOWN = "it is signed by a key that you do not trust"
    REVOKED = "it is signed by a key that you revoked"
    FORGED = "its signature does not fit: the row or its key was changed after it was signed"

    @property
    def vouches(self) -> bool:
        """Whether values may be decoded that run code when they are."""
        return self in (Standing.OWN, Standing.SIGNED)


def rest_digest(record: Mapping[str, Any]) -> Digest:
    """Return the digest of what a stored row holds beside its essence and its signature."""
    left = {key: each for key, each in record.items() if key not in _UNSEALED}
    return blob_digest(_canonical(left))


def sealed_form(record: Mapping[str, Any]) -> bytes:
    """Return the bytes that are signed; `record` has at least the essence, `signer`, `sealed`."""
    names = (*ESSENCE, SIGNER, SEALED)
    return _TITLE + _canonical({name: record.get(name) for name in names})


def _canonical(record: Mapping[str, Any]) -> bytes:
    """Return one text for equal stored rows: JSON, keys sorted, without nulls, in ASCII."""
    text = _encode({name: each for name, each in record.items() if each is not None})
    if "null" in text:  # or only a word in it: to look for nulls takes longer than all else
        text = _encode(_without_nulls(record))
    return text.encode("ascii")


def _without_nulls(value: object) -> object:
    """Null and absent are one thing in a row, and a table of rows cannot tell them apart."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(each) for each in value]
    return value


# JSON knows no mapping but a dict: any other is made one.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_without_nulls).encode


def is_key(text: object) -> bool:
    """Whether a text has the form of a public key: "ed25519:" and 64 hex digits."""
    return isinstance(text, str) and _KEY.fullmatch(text) is not None


def signature_bytes(record: Mapping[str, Any]) -> bytes | None:
    """Return the 64 bytes of a row's signature, None where it has none of that form."""
    text = record.get(SIGNATURE)
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return None
    return data if len(data) == 64 else None
