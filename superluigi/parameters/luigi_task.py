"""Luigi's task classes, by names that type checkers see differently: see `luigi_for_mypy`."""

from __future__ import annotations

from typing import Any, TypeAlias

import luigi

MYPY = False  # only mypy believes it to be true
if MYPY:
    from superluigi.parameters.luigi_stubs import LuigiExternalTask as LuigiExternalTask
    from superluigi.parameters.luigi_stubs import LuigiTask as LuigiTask
    from superluigi.parameters.luigi_stubs import keyword_only as keyword_only

    #: A task of Luigi's or of ours.
    AnyTask: TypeAlias = luigi.Task | LuigiTask
else:
    from luigi import ExternalTask as LuigiExternalTask  # noqa: F401
    from luigi import Task as LuigiTask

    AnyTask: TypeAlias = LuigiTask

    def keyword_only(*, default: Any, kw_only: bool = True) -> Any:
        """For type checkers: an attribute that the constructor takes by name only."""
