"""Limits that an annotation sets beside its type: what pydantic checks of `Annotated[int, Field(ge=0)]`."""

from __future__ import annotations

from typing import Any, get_args

from superluigi.parameters.adapters.basic import RefusalError
from superluigi.parameters.adapters.content import same
from superluigi.parameters.references import tasks_in


class Limits:
    """Those of one annotation. They judge a value, and change none: its text would say something else."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def check(self, value: object, kind: str) -> None:
        """Refuse a value, of the right kind, that is beyond them; one with tasks in it is not known yet.

        Raises:
            RefusalError: says which.
        """
        if next(tasks_in(value), None) is not None:
            return
        try:
            meant = self._adapter.validate_python(value)
        except ValueError as error:
            said = "; ".join(one["msg"] for one in getattr(error, "errors", list)()) or str(error)
            raise RefusalError(f"{kind} within its limits ({said})") from error
        if not same(meant, value):
            raise RefusalError(f"{kind} that its validators leave as it is, not as {meant!r:.80}")


def limits_of(annotation: Any) -> Limits | None:
    """The limits of an annotation; None without any, without pydantic, or where that does not know the types."""
    if not _has_limits(annotation):
        return None
    try:
        import pydantic

        return Limits(pydantic.TypeAdapter(annotation))
    except Exception:  # noqa: BLE001 - of many classes, also of the user's own notes
        return None


def _has_limits(annotation: object) -> bool:
    notes = getattr(annotation, "__metadata__", ())
    packages = {type(note).__module__.partition(".")[0] for note in notes}
    return bool(packages & {"pydantic", "annotated_types"}) or any(map(_has_limits, get_args(annotation)))
