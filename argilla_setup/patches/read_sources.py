"""Whether Argilla's functions are those that were read when a patch was written."""

from __future__ import annotations

import hashlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "2.8.0"
"""The argilla-server that all patches are for."""


def differing(read: Mapping[str, str]) -> list[str]:
    """The functions whose source has another hash than the one that `read` gives by name."""
    return [name for name, known in read.items() if source_hash(name) != known]


def source_hash(name: str) -> str:
    module, _, path = name.rpartition(".")
    found: Any = None
    parts: list[str] = [path]
    while module and module not in sys.modules:
        module, _, part = module.rpartition(".")
        parts.insert(0, part)
    found = sys.modules.get(module)
    for part in parts:
        found = inspect.getattr_static(found, part, None)
    found = getattr(found, "fget", None) or getattr(found, "__func__", None) or found
    return hashlib.blake2b(inspect.getsource(found).encode(), digest_size=8).hexdigest() if found else "missing"
