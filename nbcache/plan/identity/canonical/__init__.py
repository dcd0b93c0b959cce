"""Canonical values: what identifies a value, the same in every process and on every machine."""

from nbcache.plan.identity.canonical.dispatch import (
    canonical_bytes,
    canonical_digest,
    register,
    unregister,
)
from nbcache.plan.identity.canonical.encoder import ENCODER_VERSION
from nbcache.plan.identity.canonical.summary import PRINTED, scalar_json, size_of, summarise

__all__ = [
    "ENCODER_VERSION",
    "PRINTED",
    "canonical_bytes",
    "canonical_digest",
    "register",
    "scalar_json",
    "size_of",
    "summarise",
    "unregister",
]
