"""What a shared cache says of itself in nbcache.json, which is made where nothing is."""

from __future__ import annotations

from collections.abc import Callable

from nbcache.errors import CacheFormatError, NoCacheYetError, ObjectMissingError, command
from nbcache.model.row import Record
from nbcache.store.header import FORMAT, encode_header, new_header
from nbcache.store.remote.layout import HEADER, OF_A_MOMENT, WEEKLY
from nbcache.store.remote.protocol import Store, create_owned, parsed


def read_header(
    store: Store, read_only: str | None, before_making: Callable[[], None] = lambda: None
) -> tuple[Record, str | None]:
    """Return what nbcache.json says, which is made where nothing is, and why nothing may be sent.

    Raises:
        CacheFormatError, RemoteStoreError: as `Shared.open`.
    """
    for _ in range(2):  # what lies there after the first look may be what another has just made
        try:
            found = _parse(store, store.get(HEADER))
        except ObjectMissingError:
            pass
        else:
            if read_only is None and not is_weekly(found):
                raise CacheFormatError(
                    f"{store.url} is the cache of one machine, which takes nothing from others.\n"
                    f"  Use what is in it: `{command('share URL --read-only')}`; or name a place "
                    "beside it."
                )
            return found, read_only
        if is_unused(store):
            break
    else:
        raise CacheFormatError(
            f"{store.url} holds other things and no nbcache cache.\n"
            f"  Name an empty place below it: `{command('share URL/cache')}`."
        )
    if read_only is not None:
        raise NoCacheYetError(
            f"there is no nbcache cache at {store.url}.\n"
            f"  Somebody who may write makes it: `{command('share URL')}`."
        )
    before_making()
    header = new_header(WEEKLY)
    others = create_owned(store, HEADER, encode_header(header))
    return (header if others is None else _parse(store, others)), None


def is_unused(store: Store) -> bool:
    """Whether nothing lies there but what a `doctor` wrote that may not delete."""
    return all(entry.key.startswith(OF_A_MOMENT) for entry in store.list())


def is_weekly(header: Record) -> bool:
    """Whether blobs lie by weeks, as where many share a cache and each may clean it."""
    return WEEKLY in header.get("capabilities", ())


def _parse(store: Store, data: bytes) -> Record:
    try:
        header = parsed(data)
        number, name = header["format"], header["id"]
        known = isinstance(number, int) and isinstance(header.get("created", 0), int)
        if not known or not (len(name) == 26 and name.isalnum()):
            raise ValueError("format or id")
    except (ValueError, KeyError, TypeError) as error:
        raise CacheFormatError(
            f"{store.url}/{HEADER} is damaged ({error}).\n"
            "  Put back an earlier version of this object, or share another place."
        ) from error
    if number > FORMAT:
        raise CacheFormatError(
            f"{store.url} is of format {number}, newer than this nbcache, which knows {FORMAT}.\n"
            "  Upgrade nbcache."
        )
    checked: Record = header
    return checked
