"""What `verify` says of one output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OK = "ok"
CHANGED = "changed"
MISSING = "missing"
WITHOUT_RECORD = "without record"
HALF_COMMITTED = "half-committed"
EXTERNAL = "external"


@dataclass(frozen=True)
class VerifyResult:
    """What was found at one address: `ok`, `changed`, `missing`, `without record`, `half-committed`, `external`."""

    path: str
    state: str
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether data and record are both there and agree; of data of others, whether it is what outputs have read."""
        return self.state in (OK, EXTERNAL)

    def as_json(self) -> dict[str, str]:
        """Plain values, for scripts."""
        return dict(self.__dict__)


Check = Callable[[], list[VerifyResult]]
