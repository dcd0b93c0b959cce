"""How this process stands with a store: whether it answers, what it takes, what was told of that.

Whatever goes wrong at a shared cache is no error of a run: it is told once for each kind, and
whoever asked goes on without.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nbcache.errors import AccessDeniedError, NbcacheError, StoreUnavailableError
from nbcache.store.remote.protocol import Store

DENIED_S = 60.0  # until what was refused is tried again
_DENIED = "it may only be read"
_SILENT = 3  # requests in a row without an answer: the next look at the store's log asks again


class Contact:
    """One store and what is known of it. Thread-safe."""

    def __init__(
        self, store: Store, *, read_only: str | None = None, trouble: Callable[[str], None]
    ) -> None:
        self.store = store
        self.read_only = read_only  # why nothing may be sent; None: it may
        self.is_reachable = True
        self._trouble = trouble
        self._told: set[type[BaseException]] = set()
        self._denied_at = float("-inf")
        self._unanswered = 0  # requests since the last answer
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ whether it answers

    def note_answer(self) -> None:
        """Note that it has answered."""
        self._unanswered = 0

    def note_silence(self) -> None:
        """Note that it has not answered; after some of these nothing is asked of it."""
        self._unanswered += 1
        if self._unanswered >= _SILENT:  # each would take seconds to learn the same
            self.is_reachable = False

    def note_looked(self, error: BaseException | None) -> None:
        """Note how a look at its log has ended, which decides whether anything is asked of it."""
        self.is_reachable = error is None
        if error is None:
            self.note_answer()
        else:
            self.tell(error)

    # ------------------------------------------------------------------ what it takes

    def note_denied(self, error: AccessDeniedError) -> None:
        """Send nothing for a while, and say so once: what waits goes when it may."""
        self.read_only, self._denied_at = _DENIED, time.monotonic()
        if self._is_new(AccessDeniedError):
            self._trouble(f"shared cache: nothing more is sent to it: {error}")

    def try_again(self) -> None:
        """Send again what was refused a while ago: credentials that had expired may be new."""
        if self.read_only == _DENIED and time.monotonic() - self._denied_at >= DENIED_S:
            self.read_only = None

    def note_taken(self) -> None:
        """Say that results are sent again, to whom it was said that they are not."""
        with self._lock:
            was_denied = AccessDeniedError in self._told
            self._told.discard(AccessDeniedError)
        if was_denied:
            self._trouble(f"shared cache: {self.store.url} takes results again")

    # ------------------------------------------------------------------ what is told

    def tell(self, error: BaseException) -> None:
        """Say once what went wrong, for each kind of error; the run goes on without."""
        kinds = (AccessDeniedError, StoreUnavailableError, type(error))
        if self._is_new(next(kind for kind in kinds if isinstance(error, kind))):
            text = str(error) if isinstance(error, NbcacheError) else f"{self.store.url}: {error}"
            self._trouble(f"shared cache: {text}")

    def _is_new(self, kind: type[BaseException]) -> bool:
        """Whether nothing of this kind was told yet; from now on it was."""
        with self._lock:
            is_new = kind not in self._told
            self._told.add(kind)
        return is_new
