"""nbcache: notebook pipelines with processes, channels and a content-addressed cache.

In a notebook: `%load_ext nbcache`, then `%%process`, `%channel`, `%nbcache run`. In plain Python:
`@nbcache.process(...)`, `nbcache.channel.of(...)`, `nbcache.run()`. Names are imported when they
are first used, so that loading the extension costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nbcache.engine.connecting import connect
    from nbcache.engine.declared.required import required
    from nbcache.engine.plain import (
        channel,
        last_run,
        process,
        relaunch,
        restore,
        resume,
        run,
        share,
    )
    from nbcache.engine.running.hooks import on_complete, on_error
    from nbcache.engine.session import current_session as session
    from nbcache.engine.work.resource import resource
    from nbcache.errors import NbcacheError
    from nbcache.plan.identity.canonical import register

__all__ = [
    "NbcacheError",
    "channel",
    "connect",
    "last_run",
    "on_complete",
    "on_error",
    "process",
    "register",
    "relaunch",
    "required",
    "resource",
    "restore",
    "resume",
    "run",
    "session",
    "share",
]

_HOMES = {
    "NbcacheError": ("nbcache.errors", "NbcacheError"),
    "channel": ("nbcache.engine.plain", "channel"),
    "connect": ("nbcache.engine.connecting", "connect"),
    "last_run": ("nbcache.engine.plain", "last_run"),
    "on_complete": ("nbcache.engine.running.hooks", "on_complete"),
    "on_error": ("nbcache.engine.running.hooks", "on_error"),
    "process": ("nbcache.engine.plain", "process"),
    "register": ("nbcache.plan.identity.canonical", "register"),
    "relaunch": ("nbcache.engine.plain", "relaunch"),
    "required": ("nbcache.engine.declared.required", "required"),
    "resource": ("nbcache.engine.work.resource", "resource"),
    "restore": ("nbcache.engine.plain", "restore"),
    "resume": ("nbcache.engine.plain", "resume"),
    "run": ("nbcache.engine.plain", "run"),
    "session": ("nbcache.engine.session", "current_session"),
    "share": ("nbcache.engine.plain", "share"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nbcache' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext nbcache` calls."""
    from nbcache.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """What `%unload_ext nbcache` calls."""
    from nbcache.notebook.extension import unload

    unload(shell)
