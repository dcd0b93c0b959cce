"""What the command line tells the kernel that it starts, through one environment variable.

JSON with the fields of `Headless`; taken out of the environment at once, so that no task sees it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass, field

HEADLESS_VARIABLE = "NBCACHE_HEADLESS"


@dataclass(frozen=True, slots=True)
class Headless:
    """What the command line asked of the kernel that it started."""

    cache: str | None = None
    fresh: bool = False
    notebook: str | None = None  # its path, for the history
    parameters: Mapping[str, str] = field(default_factory=dict)

    def to_variable(self) -> str:
        """Return the text of the environment variable."""
        return json.dumps(asdict(self))

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Headless | None:
        """Take the settings out of the environment; None where nobody gave any."""
        text = environ.pop(HEADLESS_VARIABLE, None)
        if text is None:
            return None
        data = json.loads(text)
        return cls(
            data.get("cache"),
            bool(data.get("fresh")),
            data.get("notebook"),
            data.get("parameters") or {},
        )
