"""How a store is reached, in the same words for every cloud.

Secrets are not among them: they come from where the cloud's own tools find them (environment,
profiles, instance metadata), so that no notebook holds one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """None: as the cloud's own tools would decide."""

    endpoint: str | None = None  # URL of a server other than the cloud's own
    region: str | None = None
    profile: str | None = None  # of ~/.aws/config
    account: str | None = None  # Azure's storage account
    anonymous: bool = False  # public data: send no credentials
