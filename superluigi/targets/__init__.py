"""Where an output lives: `LocalFileTarget`, `LocalFolderTarget`, `S3ObjectTarget`, `S3PrefixTarget`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superluigi.targets.base import AtomicTarget as AtomicTarget
    from superluigi.targets.local import LocalFileTarget as LocalFileTarget
    from superluigi.targets.local import LocalFolderTarget as LocalFolderTarget
    from superluigi.targets.s3 import S3ObjectTarget as S3ObjectTarget
    from superluigi.targets.s3 import S3PrefixTarget as S3PrefixTarget

_ROOMS = {
    "AtomicTarget": "base",
    "LocalFileTarget": "local",
    "LocalFolderTarget": "local",
    "S3ObjectTarget": "s3",
    "S3PrefixTarget": "s3",
}
__all__ = ["AtomicTarget", "LocalFileTarget", "LocalFolderTarget", "S3ObjectTarget", "S3PrefixTarget"]


def __getattr__(name: str) -> Any:  # a local pipeline does not pay for S3
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
