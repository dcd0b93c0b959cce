"""Stores that break one promise each: the examination has to find every one of them out."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbcache.errors import ObjectMissingError, RemoteStoreError
from nbcache.store.remote.memory import MemoryStore
from nbcache.store.remote.protocol import Entry, OnBytes


class LooksThenWrites(MemoryStore):
    """Not atomic: asks whether a key is free, then writes."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with contextlib.suppress(ObjectMissingError):
            self.head(key)
            return False
        threading.Event().wait(0.02)  # as long as a request takes
        self.put(key, data)
        return True


class OverwritesSilently(MemoryStore):
    """Takes a create for a put, as obstore's fsspec adapter does."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True


class RangesPastTheEndFail(MemoryStore):
    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        data = super().get(key, start, end)
        if end is not None and len(data) < end - start:
            raise RemoteStoreError(self.url, "read", key, "416 range not satisfiable")
        return data


class EndsAreIncluded(MemoryStore):
    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return super().get(key, start, None if end is None else end + 1)


class ListsOnePage(MemoryStore):
    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        yield from list(super().list(prefix, start_after))[:17]


class ListsInAnyOrder(MemoryStore):
    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        yield from reversed(list(super().list(prefix, start_after)))


class ListsWhatBeginsAlike(MemoryStore):
    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        return super().list("", start_after) if prefix else super().list(prefix, start_after)


class UnquotesKeys(MemoryStore):
    def put_if_absent(self, key: str, data: bytes) -> bool:
        return super().put_if_absent(key.replace("%20", " "), data)


class MissingIsAFault(MemoryStore):
    def head(self, key: str) -> Entry:
        try:
            return super().head(key)
        except ObjectMissingError:
            raise RemoteStoreError(self.url, "look at", key, "403 Forbidden") from None


class DeletesOnlyWhatIsThere(MemoryStore):
    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.head(key)
            super().delete([key])


class CutsLargeFiles(MemoryStore):
    def get_file(
        self, key: str, path: Path, size: int | None = None, on_bytes: OnBytes | None = None
    ) -> int:
        return path.write_bytes(self.get(key, 0, 8 << 20))


class AsksTwice(MemoryStore):
    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self.head(key)
        return super().get(key, start, end)


class KeepsItsClockApart(MemoryStore):
    def server_time(self) -> int:
        return super().server_time() + 3_600_000_000


class TakesAnyKey(MemoryStore):
    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with contextlib.suppress(ValueError):
                super().delete([key])


BAD_STORES: dict[type[MemoryStore], str] = {
    LooksThenWrites: "of_many_threads_one_creates_a_key",
    OverwritesSilently: "only_a_free_key_is_created",
    RangesPastTheEndFail: "a_range_is_cut_where_the_object_ends",
    EndsAreIncluded: "a_range_is_cut_where_the_object_ends",
    ListsOnePage: "a_listing_is_whole_and_in_order",
    ListsInAnyOrder: "a_listing_is_whole_and_in_order",
    ListsWhatBeginsAlike: "a_listing_is_whole_and_in_order",
    UnquotesKeys: "odd_keys_are_keys_like_any_other",
    MissingIsAFault: "a_missing_object_is_told_from_all_other_faults",
    DeletesOnlyWhatIsThere: "deleting_takes_what_is_there",
    CutsLargeFiles: "large_files_go_and_come_whole",
    AsksTwice: "requests_are_counted",
    KeepsItsClockApart: "head_tells_size_and_the_servers_time",
    TakesAnyKey: "what_is_no_key_is_refused",
}
