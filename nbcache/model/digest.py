"""Digests with their algorithm in front: `xxh3:` for identity, `b3:` for blobs.

XXH3 (128 bits) names values, input files and hashes: it is the fastest, and it can be forged, so
nothing is trusted for having one. BLAKE3 (256 bits) names blobs, which are verified and signed.
A change here changes every key.
"""

from __future__ import annotations

import re
from typing import NewType

from blake3 import blake3
from xxhash import xxh3_128

Digest = NewType("Digest", str)
_DIGEST = re.compile(r"[0-9a-z]+:[0-9a-f]+")
_BLOB = re.compile(r"b3:[0-9a-f]{64}")


def identity_digest(data: bytes | bytearray | memoryview) -> Digest:
    """Return `xxh3:` and 32 hex digits: the identity of some bytes."""
    return Digest("xxh3:" + xxh3_128(data).hexdigest())


def blob_digest(data: bytes | bytearray | memoryview) -> Digest:
    """Return `b3:` and 64 hex digits: the name of a blob."""
    return Digest("b3:" + blake3(data).hexdigest())


def short(digest: Digest) -> str:
    """Return the eight hex digits by which people name a task."""
    return digest.partition(":")[2][:8]


def is_digest(text: str) -> bool:
    """Whether a text has the form of a digest, of whatever algorithm: folders are named by some."""
    return _DIGEST.fullmatch(text) is not None


def is_blob_name(text: str) -> bool:
    """Whether a text can be the name of a blob: what others write may name anything."""
    return _BLOB.fullmatch(text) is not None
