"""The user's own key, signatures on rows, and whether a row's word may be taken.

A row is signed by the process that made it, once, on its way into the journal; nothing else signs.
`cryptography` is imported when the first row is signed or judged: a cache of one's own that was
never shared needs neither. What is signed is in `model.signature`; docs/security.md says why.
"""

from __future__ import annotations

import base64
import getpass
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbcache.errors import StoreError
from nbcache.model.row import Record
from nbcache.model.signature import (
    KEY_PREFIX,
    ORIGIN,
    SEALED,
    SIGNATURE,
    SIGNER,
    Standing,
    is_key,
    rest_digest,
    sealed_form,
    signature_bytes,
)
from nbcache.store.files import new_ulid, remove, write_whole
from nbcache.store.trust_file import (
    config_folder,
    is_private,
    is_trusted,
    private_folder,
    read_trust,
    trust_key,
)
from nbcache.store.verified import digest_of, verified

_KEY = "key.json"
_SIGNED_KINDS = frozenset({"attempt"})


@dataclass(frozen=True, slots=True)
class OwnKey:
    """The user's key. `public` is what others trust; `secret` (32 bytes) leaves no process."""

    name: str
    public: str
    secret: bytes

    def __repr__(self) -> str:
        return f"OwnKey({self.name!r}, {self.public!r})"


def read_key() -> OwnKey | None:
    """Return the user's key; None where there is none.

    Raises:
        StoreError: it is damaged, or others may write to it.
    """
    path = config_folder() / _KEY
    try:
        if not is_private(path) or os.stat(path).st_mode & 0o077:
            raise StoreError(
                f"the key {path} is open to others, so it signs nothing.\n  If nobody can have "
                f"read it: chmod 600 {path}; else delete it and make a new one: nbcache keys make"
            )
        held = json.loads(path.read_bytes())
        return OwnKey(str(held["name"]), str(held["public"]), bytes.fromhex(held["secret"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"the key {path} cannot be read ({error}).\n  Move it away, and make a new one: "
            "nbcache keys make"
        ) from error


def make_key(name: str = "") -> OwnKey:
    """Make the user's key and trust it; return the one that is there, if there is one.

    Raises:
        StoreError: it cannot be written.
    """
    found = read_key()
    if found is not None:
        return found
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = Ed25519PrivateKey.generate()
    public = KEY_PREFIX + secret.public_key().public_bytes_raw().hex()
    made = OwnKey(name or _user_name(), public, secret.private_bytes_raw())
    path = private_folder() / _KEY
    new = path.with_name(f".{_KEY}.{new_ulid()}")
    held = {"format": 1, "name": made.name, "public": public, "secret": made.secret.hex()}
    try:
        write_whole(new, json.dumps(held).encode() + b"\n", mode=0o600, sync=True)
        trust_key(public, made.name)  # first: what a key signs must count from the beginning
        os.link(new, path)
    except FileExistsError:  # another process was quicker
        found = read_key()
        assert found is not None
        return found
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        remove(new)
    return made


def _user_name() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError, ImportError):  # no such user, as in some containers
        return f"{os.geteuid()}@{socket.gethostname()}"


class Signer:
    """Signs the rows of one cache, if the user has a key. Sees a key that is made later.

    `makes_key`: make one at the first row, since without a signature nobody, not even this user,
    could take the row's word at the next visit.
    """

    def __init__(self, *, makes_key: bool) -> None:
        self._makes_key = makes_key
        self._path = os.path.join(config_folder(), _KEY)  # looked at for each row
        self._state: tuple[int, int] | None = None  # of the key file that `_key` was read from
        self._key: Any = None
        self._public = ""

    def sign(self, record: Record) -> None:
        """Add a signature to a stored row, where its kind is signed and there is a key."""
        if record.get("kind") not in _SIGNED_KINDS or not self._ready():
            return
        record[SIGNER], record[SEALED] = self._public, rest_digest(record)
        signature = self._key.sign(sealed_form(record))
        record[SIGNATURE] = base64.b64encode(signature).decode("ascii")

    def sign_bytes(self, data: bytes) -> tuple[str, bytes] | None:
        """Return the public key and its signature of some bytes; None where there is no key."""
        return (self._public, self._key.sign(data)) if self._ready() else None

    def _ready(self) -> bool:
        try:
            found = os.stat(self._path)
        except OSError:
            if not self._makes_key:
                return False
            self._makes_key = False  # once is enough, where it cannot be made
            return self._load(None)
        state = (found.st_ino, found.st_mtime_ns)
        return self._key is not None if state == self._state else self._load(state)

    def _load(self, state: tuple[int, int] | None) -> bool:
        """Read the key, or make it. A row goes unsigned rather than not at all."""
        self._state, self._key = state, None
        try:
            own = read_key() if state is not None else make_key()
        except StoreError:
            return False
        if own is not None:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            self._key = Ed25519PrivateKey.from_private_bytes(own.secret)
            self._public = own.public
        return self._key is not None


def standing_of(record: Mapping[str, Any], *, whole: bool) -> Standing:
    """Return whose word a stored row of a foreign cache is.

    whole: the record has all of the row, so that columns beside the essence are examined too.
    """
    signature, signer = record.get(SIGNATURE), record.get(SIGNER)
    if signature is None and signer is None:
        return Standing.UNSIGNED
    data = signature_bytes(record)
    if data is None or not is_key(signer):
        return Standing.FORGED
    known = read_trust().keys.get(str(signer))
    if known is not None and known.revoked:
        return Standing.REVOKED
    if not _has_signed(sealed_form(record), data, str(signer)):
        return Standing.FORGED
    if whole and rest_digest(record) != record.get(SEALED):
        return Standing.FORGED
    return Standing.UNKNOWN if known is None else Standing.SIGNED


def is_vouched(data: bytes, signer: str, signature: bytes) -> bool:
    """Whether a key that the user trusts has signed these bytes."""
    return is_trusted(signer) and _has_signed(data, signature, signer)


def _has_signed(data: bytes, signature: bytes, signer: str) -> bool:
    known, digest = verified(), digest_of(data, signer, signature)
    if digest not in known:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer[len(KEY_PREFIX) :]))
            key.verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        known.add(digest)
    return True


class Vouching:
    """Says of the rows of one cache whose word they are.

    In an own cache that is the user's, but for rows that were copied from another one.
    """

    def __init__(self, *, own: bool) -> None:
        self.own = own

    def takes(self, origin: object) -> bool:
        """Whether a row is the user's own, by where it was copied from (None: it was not)."""
        return self.own and origin is None

    def __call__(self, record: Mapping[str, Any], *, whole: bool = True) -> Standing:
        """Return whose word a stored row is; `whole` False: it has the columns of its keys only."""
        if self.takes(record.get(ORIGIN)):
            return Standing.OWN
        return standing_of(record, whole=whole)


FOREIGN = Vouching(own=False)
"""For rows of anybody: those of a shared cache, whoever made it, since others write to it too."""
