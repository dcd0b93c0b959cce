"""How long a store is asked again that is too busy for what somebody needs of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from nbcache.errors import StoreUnavailableError
from nbcache.store.remote.protocol import LOOKUP_S

T = TypeVar("T")

_RETRIES = (0.5, 2.0, 5.0)  # seconds: a store that is asked too often


def patiently(request: Callable[[], T], is_worth: Callable[[], bool] = lambda: True) -> T:
    """Send a request again where the store was too busy, as long as it is worth it; gives up
    after some seconds.

    A store that refuses at once is busy. One that was silent for as long as a look-up may take has
    been waited for: four times the time that a large transfer is given would be hours.
    """
    for wait in _RETRIES:
        began = time.monotonic()
        try:
            return request()
        except StoreUnavailableError:
            if time.monotonic() - began >= LOOKUP_S or not is_worth():
                raise
        time.sleep(wait)
    return request()
