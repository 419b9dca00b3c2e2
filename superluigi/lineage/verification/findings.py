"""What `verify` says of one output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OK = "ok"
CHANGED = "changed"
MISSING = "missing"
WITHOUT_RECORD = "without record"
HALF_COMMITTED = "half-committed"


@dataclass(frozen=True)
class VerifyResult:
    """What was found at one address: `ok`, `changed`, `missing`, `without record` or `half-committed`."""

    path: str
    state: str
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether data and record are both there and agree."""
        return self.state == OK

    def as_json(self) -> dict[str, str]:
        """Plain values, for scripts."""
        return dict(self.__dict__)


Check = Callable[[], list[VerifyResult]]
