"""What pandera's schemas and pydantic's models check, and their complaints in few words.

Both packages are the user's: they are recognised by where a class comes from, and never imported from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from superluigi.checks.verdicts import EXAMPLES, Rejected, shortened
from superluigi.errors import DefinitionError
from superluigi.formats.suffix_inference import table_kind

PANDAS, POLARS = "pandas.DataFrame", "polars.DataFrame"


@dataclass(frozen=True)
class Schema:
    """A schema or model as a check."""

    name: str
    #: Raises `Rejected`, or what the package raises.
    validate: Callable[[Any], None]
    #: The kind of table it is for; None takes any.
    wants: str | None = None


def known(item: object) -> Schema | None:
    """`item` as a check, if it is a schema of pandera or a model of pydantic."""
    if type(item) is FunctionType:
        return None
    classes = item.__mro__ if isinstance(item, type) else type(item).__mro__
    modules = [str(one.__module__) for one in classes]
    if any(name.startswith("pandera.") for name in modules) and callable(getattr(item, "validate", None)):
        polars = any(name.startswith(("pandera.polars", "pandera.api.polars")) for name in modules)
        frame = hasattr(item, "columns") or isinstance(item, type)
        wants = (POLARS if polars else PANDAS) if frame else None
        return Schema(_name_of(item, "schema"), lambda value: _pandera(item, value), wants)
    if not isinstance(item, type) and modules[0].startswith("pandera.") and "check" in modules[0]:
        raise DefinitionError(
            f"{item!r:.100} is a rule of pandera, which says what a part of a schema is like: put it into one, as in "
            "pa.DataFrameSchema(checks=…)."
        )
    model = getattr(item, "model_validate", None)
    validator = getattr(item, "__pydantic_validator__", None)
    if isinstance(item, type) and not callable(model) and validator is not None:  # a dataclass
        model, modules = validator.validate_python, ["pydantic.main"]
    if isinstance(item, type) and callable(model) and "pydantic.main" in modules:
        return Schema(item.__name__, lambda value: _pydantic(model, item, value))
    if not isinstance(item, type) and modules[0].startswith("pydantic.") and hasattr(item, "validate_python"):
        return Schema("type", lambda value: _pydantic(item.validate_python, None, value))
    return None


def _name_of(item: object, otherwise: str) -> str:
    return item.__name__ if isinstance(item, type) else str(getattr(item, "name", None) or otherwise)


# ---------------------------------------------------------------- pandera


def _pandera(schema: Any, value: object) -> None:
    try:
        mended = schema.validate(value, lazy=True)
    except Exception as error:
        cases = getattr(error, "failure_cases", None)
        if not type(error).__module__.startswith("pandera") or cases is None:
            raise
        raise Rejected(_told_cases(list(_rows(cases)), len(value) if hasattr(value, "__len__") else None)) from None
    if mended is not value and (said := _unlike(value, mended, schema)):
        raise Rejected(f"{said}: the schema mends that in a copy, but what would be published is as it is")


def _unlike(value: Any, mended: Any, schema: object) -> str:
    """What a schema has found wrong and put right in its own copy: rows dropped, columns added, gaps filled."""
    if not all(hasattr(one, "__len__") for one in (value, mended)):
        return ""
    if len(value) != len(mended):
        return f"{len(value) - len(mended)} of {len(value)} rows are invalid"
    if not all(hasattr(one, "columns") for one in (value, mended)):
        return ""
    there, kept = list(value.columns), list(mended.columns)
    for said, names, others in (("missing", kept, there), ("none of its own", there, kept)):
        if odd := [name for name in names if name not in others]:
            return f"column {odd[0]!r} is {said}"
    if not _may_fill(schema):
        return ""
    before, after = _gaps(value), _gaps(mended)
    filled = [name for name in after if before[name] > after[name]]
    return (
        f"{before[filled[0]] - after[filled[0]]} of {len(value)} values of {filled[0]!r} are missing" if filled else ""
    )


def _may_fill(schema: object) -> bool:
    """Whether a schema has defaults or parsers; to count gaps takes as long as a check."""
    made = getattr(schema, "to_schema")() if isinstance(schema, type) else schema  # noqa: B009 - of a model
    parts = [made, *getattr(made, "columns", {}).values()]
    return any(getattr(one, "default", None) is not None or bool(getattr(one, "parsers", None)) for one in parts)


def _gaps(table: Any) -> dict[object, int]:
    """How many values each column lacks."""
    if hasattr(table, "null_count"):
        return {name: int(count) for name, count in table.null_count().row(0, named=True).items()}
    counts = table.isna().sum()
    return dict(zip(counts.index, counts.tolist(), strict=True))


def _rows(cases: object) -> Iterator[Mapping[str, object]]:
    if hasattr(cases, "iter_rows"):
        yield from cases.iter_rows(named=True)
    elif hasattr(cases, "to_dict"):
        yield from cases.to_dict("records")
    else:  # of an error that was not collected
        yield {"check": cases}


def _told_cases(cases: list[Mapping[str, object]], rows: int | None) -> str:
    """Counts for each column and rule, the first offending rows."""
    counts = Counter((_word(case.get("column")), _word(case.get("check"))) for case in cases)
    first: dict[tuple[str, str], list[str]] = {key: [] for key in counts}
    for case in cases:
        shown = first[_word(case.get("column")), _word(case.get("check"))]
        if len(shown) < EXAMPLES:
            shown.append(_case(case))
    lines = [f"{len(cases)} failures{'' if rows is None else f' in {rows} rows'}"]
    for (column, rule), count in counts.most_common(2 * EXAMPLES):
        lines.append(f"{column}: {rule}: {count} ({shortened('; '.join(first[column, rule]))})")
    return "\n".join(lines)


def _case(case: Mapping[str, object]) -> str:
    index = case.get("index")
    row = "" if index is None or index != index else f"row {index}: "
    return f"{row}{_word(case.get('failure_case'))}"


def _word(value: object) -> str:
    return shortened(str(value), 120)


# ---------------------------------------------------------------- pydantic


def _pydantic(validate: Callable[[Any], object], model: Any, value: object) -> None:
    """A model is one of a value, or of each row where the value is a table or a list and the model is no list."""
    whole = model is None or getattr(model, "__pydantic_root_model__", False)
    rows = None if whole else _items(value)
    if rows is None:
        if (said := _complaint(validate, value)) is not None:
            raise Rejected(said)
        return
    count, wrong = 0, 0
    shown: list[str] = []
    for position, row in enumerate(rows):
        count += 1
        said = _complaint(validate, row)
        if said is not None:
            wrong += 1
            if len(shown) < EXAMPLES:
                shown.append(f"row {position}: {shortened(said)}")
    if wrong:
        raise Rejected("\n".join([f"{wrong} of {count} rows are no {model.__name__}", *shown]))


def _items(value: Any) -> Iterable[object] | None:
    """The rows of a table, with None for what is missing; the items of a list; None for one value."""
    if isinstance(value, list):
        return value
    kind = table_kind(type(value))
    if kind is None:
        return None
    if hasattr(value, "iter_rows"):
        return value.iter_rows(named=True)  # type: ignore[no-any-return]
    if hasattr(value, "to_pylist"):
        return value.to_pylist()  # type: ignore[no-any-return]
    if hasattr(value, "columns"):
        plain = value.astype(object).where(value.notna(), None)
        return plain.to_dict("records")  # type: ignore[no-any-return]
    return None


def _complaint(validate: Callable[[Any], object], value: object) -> str | None:
    try:
        validate(value)
    except Exception as error:
        if not type(error).__module__.startswith("pydantic") or not hasattr(error, "errors"):
            raise
        told = error.errors(include_url=False, include_context=False)
        parts = [
            f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg']} ({shortened(repr(one['input']), 60)})"
            for one in told[:EXAMPLES]
        ]
        more = f" and {len(told) - EXAMPLES} more" if len(told) > EXAMPLES else ""
        return "; ".join(parts) + more
    return None
