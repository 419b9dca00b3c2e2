"""Limits that an annotation sets beside its type: what pydantic checks of `Annotated[int, Field(ge=0)]`."""

from __future__ import annotations

from typing import Any, get_args

from superluigi.parameters.adapters.basic import RefusalError
from superluigi.parameters.adapters.content import same
from superluigi.parameters.references import tasks_in


def limits_of(annotation: Any) -> Any:
    """What checks the limits of an annotation; None without any, without pydantic, or for types it does not know."""
    if _has_limits(annotation):
        try:
            import pydantic

            return pydantic.TypeAdapter(annotation)
        except Exception:  # noqa: BLE001 - of many classes, also of the user's own notes
            pass
    return None


def keep_within(limits: Any, value: object, kind: str) -> None:
    """Refuse a value beyond limits. They judge it and change nothing: its text would say something else.

    Raises:
        RefusalError: says which.
    """
    if next(tasks_in(value), None) is not None:  # not known yet
        return
    try:
        meant = limits.validate_python(value)
    except ValueError as error:
        said = "; ".join(one["msg"] for one in getattr(error, "errors", list)()) or str(error)
        raise RefusalError(f"{kind} within its limits ({said})") from error
    if not same(meant, value):
        raise RefusalError(f"{kind} that its validators leave as it is, not as {meant!r:.80}")


def _has_limits(annotation: object) -> bool:
    notes = getattr(annotation, "__metadata__", ())
    packages = {type(note).__module__.partition(".")[0] for note in notes}
    return bool(packages & {"pydantic", "annotated_types"}) or any(map(_has_limits, get_args(annotation)))
