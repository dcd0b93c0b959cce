"""Canonical values: what identifies a value, the same in every process and on every machine."""

from nbcache.plan.identity.canonical.dispatch import (
    canonical_bytes,
    canonical_digest,
    register,
    unregister,
)
from nbcache.plan.identity.canonical.encoder import ENCODER_VERSION
from nbcache.plan.identity.canonical.summary import scalar_json, summarise

__all__ = [
    "ENCODER_VERSION",
    "canonical_bytes",
    "canonical_digest",
    "register",
    "scalar_json",
    "summarise",
    "unregister",
]
