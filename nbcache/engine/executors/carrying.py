"""Carry inputs to dask workers that do not see the kernel's files, and fetch what they made there.

Everything goes over the connection to the cluster's scheduler, piece by piece, so neither side nor
the scheduler ever holds more than a piece of a file. Belongs to the executor's loop; files are read
and written on threads.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nbcache.engine.executors import cluster_site
from nbcache.engine.executors.cargo import Item
from nbcache.engine.executors.depot import PIECE, Goods, Piece
from nbcache.engine.spec import AttemptSpec, ProcessSpec
from nbcache.engine.work.reentry import LOG, leave_way_back
from nbcache.errors import InputChangedError, InputMissingError
from nbcache.model.digest import Digest
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid, remove
from nbcache.store.filestate import stat_key


class Carrier:
    """What goes over one connection."""

    def __init__(self, client: Any, topic: str, cache: Cache) -> None:
        self._client, self._topic, self._cache = client, topic, cache
        self._going: set[tuple[str, Item]] = (
            set()
        )  # (worker, item): asked for again, it is sent once

    async def send(self, address: str, items: Sequence[Item]) -> None:
        """Send items to a worker; what is on its way already is left out.

        Raises:
            InputMissingError: a blob is not there. InputChangedError: a file is not as it was.
            CannotKeepError: the worker cannot keep it. OSError: a file here cannot be read.
            Exception: what dask raises when the worker is lost.
        """
        mine = [item for item in items if (address, item) not in self._going]
        self._going.update((address, item) for item in mine)
        try:
            batches = self.batches(mine)
            while (pieces := await asyncio.to_thread(next, batches, None)) is not None:
                await self._ask(address, cluster_site.take, pieces)
        finally:
            self._going.difference_update((address, item) for item in mine)

    def batches(self, items: Sequence[Item]) -> Iterator[list[Piece]]:
        """Yield the bytes of items in lists of about a piece: many are small."""
        batch: list[Piece] = []
        held = 0
        for item in items:
            for piece in self._pieces(item):
                batch.append(piece)
                held += len(piece.data)
                if held >= PIECE:
                    yield batch
                    batch, held = [], 0
        if batch:
            yield batch

    def _pieces(self, item: Item) -> Iterator[Piece]:
        path = item.path if item.digest is None else str(self._cache.blobs.path(item.digest))
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115  closed below
        except FileNotFoundError:
            if item.digest is None:
                raise
            raise InputMissingError(item.of or item.digest) from None
        with file:
            offset, is_last = 0, False
            while not is_last:
                data = file.read(PIECE)
                is_last = len(data) < PIECE
                if is_last and item.state is not None and stat_key(path) != item.state:
                    raise InputChangedError(
                        f"the file {path} changed after the run began.\n  Run again: the new "
                        "content then counts."
                    )
                yield Piece(item, offset, data, is_last)
                offset += len(data)

    async def fetch(self, goods: Goods) -> None:
        """Bring into the cache what an attempt made, verified.

        Raises:
            StoreError: it cannot be kept, or is not what it is called. OSError. Exception: what
                dask raises when the worker is lost.
        """
        for item in goods.blobs:
            assert item.digest is not None
            if not self._cache.blobs.has(item.digest, item.size):
                path = await self._fetched(goods.address, item.digest)
                try:
                    await asyncio.to_thread(self._keep, item, path)
                finally:
                    remove(path)

    def _keep(self, item: Item, path: Path) -> None:
        assert item.digest is not None
        self._cache.blobs.keep_as(path, item.digest)
        if item.executable:
            self._cache.blobs.path(item.digest).chmod(0o555)

    async def fetch_workdir(
        self, goods: Goods, process: ProcessSpec, attempt: AttemptSpec, exit_code: int | None
    ) -> str | None:
        """Bring a failed attempt's work directory; return where it lies now, if it came."""
        if goods.workdir is None or goods.workdir.digest is None:
            return None
        archive = await self._fetched(goods.address, goods.workdir.digest)
        folder = self._cache.work / attempt.id
        try:
            await asyncio.to_thread(_unpack, archive, folder)
        finally:
            remove(archive)
        printed = folder / LOG
        text = printed.read_text("utf-8", "surrogateescape") if printed.exists() else ""
        leave_way_back(folder, process, attempt, text, exit_code)
        return str(folder)

    async def _fetched(self, address: str, digest: Digest) -> Path:
        path = self._cache.tmp / new_ulid()
        offset, is_last = 0, False
        try:
            with open(path, "xb") as file:
                while not is_last:
                    data = await self._ask(address, cluster_site.give, digest, offset)
                    await asyncio.to_thread(file.write, data)
                    offset, is_last = offset + len(data), len(data) < PIECE
        except BaseException:
            remove(path)
            raise
        return path

    async def _ask(self, address: str, function: Any, *words: Any) -> Any:
        found = await self._client.run(function, self._topic, *words, workers=[address])
        return found[address]


def _unpack(archive: Path, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            # Links to staged inputs lead out of it; the cluster is ours, whose pickles we take.
            tar.extraction_filter = lambda member, _: member
            tar.extractall(partial)
        os.rename(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
