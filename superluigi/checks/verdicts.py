"""What the answer of a check means, in counts and the first offending rows; all texts are bounded."""

from __future__ import annotations

import builtins
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["passed", "failed", "error"]
PASSED: Status = "passed"
FAILED: Status = "failed"
ERROR: Status = "error"
#: So many offending rows are shown, and so many characters of one text and of all.
EXAMPLES, SHOWN, DETAIL = 5, 300, 2_000


#: Errors of several; Python 3.10 has none.
_GROUPS: tuple[type[BaseException], ...] = tuple(
    getattr(builtins, name) for name in ("BaseExceptionGroup",) if hasattr(builtins, name)
)


class Rejected(Exception):  # noqa: N818 - it is the answer of a schema, no fault
    """A schema's complaint."""


@dataclass(frozen=True)
class Finding:
    """What came of one check."""

    name: str
    status: Status
    severity: str
    #: With loading what was not asked for before.
    seconds: float
    detail: str = ""

    @property
    def blocks(self) -> bool:
        """Whether nothing may be published because of it."""
        return self.status != PASSED and self.severity == "error"

    def as_json(self) -> dict[str, object]:
        """As records keep it."""
        return {
            "name": self.name,
            "status": self.status,
            "severity": self.severity,
            "seconds": round(self.seconds, 6),
            "detail": self.detail,
        }


def shortened(text: str, limit: int = SHOWN) -> str:
    """`text` in one line of at most `limit` characters."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[: limit - 1]}…"


def bounded(detail: str) -> str:
    """A detail as it may stand in a record."""
    return detail if len(detail) <= DETAIL else f"{detail[: DETAIL - 1]}…"


def of_error(error: BaseException) -> str:
    """An exception in one line, with the line of the user's code that raised it."""
    try:
        said = str(error)
    except Exception as broken:  # noqa: BLE001 - foreign code
        said = f"(its text cannot be told: __str__ raised {type(broken).__name__})"
    parts: Sequence[BaseException] = getattr(error, "exceptions", ()) if isinstance(error, _GROUPS) else ()
    if parts:
        said = f"{said}: {'; '.join(of_error(one) for one in parts[:EXAMPLES])}"
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    where = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if said else ''}{shortened(said, 4 * SHOWN)}{where}"


def of_answer(answer: object, value: Callable[[], object]) -> tuple[Status, str]:
    """Status and detail for what a check returned; `value` gives what was checked, where that is known already."""
    if answer is None:
        return PASSED, ""
    if isinstance(answer, str):
        return FAILED, answer.strip() or "the check gave an empty text"
    if isinstance(answer, BaseException):
        return FAILED, of_error(answer)
    plain = _scalar(answer)
    if isinstance(plain, bool):
        return (PASSED, "") if plain else (FAILED, "the check gave False")
    columns = _columns(answer)
    if columns is None:
        if hasattr(answer, "close") and hasattr(answer, "send"):
            answer.close()  # a coroutine: it is not to be waited for
        return ERROR, f"the check returned {shortened(repr_of(answer), 120)} ({type(answer).__name__}): {_EXPECTED}"
    import numpy as np  # what gave the answer has it already

    good: Any = None
    for name, column in columns:
        flags = _flags(column)
        if isinstance(flags, _Odd):
            what = f"column {name!r}" if name is not None else "what it returned"
            return ERROR, f"{what} holds {shortened(repr_of(flags.item), 120)}, not only True and False: {_EXPECTED}"
        good = flags if good is None else good & flags
    if good is None or good.all():
        return PASSED, ""
    wrong = np.flatnonzero(~good)
    lines = [f"{len(wrong)} of {len(good)} rows are false"]
    first = [int(position) for position in wrong[:EXAMPLES]]
    lines += [f"row {label}: {shown}" for label, shown in _examples(first, len(good), answer, value)]
    return FAILED, "\n".join(lines)


_EXPECTED = "return True, False, None, a text, or a series or table of True and False."


def _scalar(answer: object) -> object:
    """A bool as such, numpy's and arrow's too, also in an array of no dimension."""
    arrow = sys.modules.get("pyarrow")
    if arrow is not None and isinstance(answer, arrow.BooleanScalar) and answer.is_valid:
        return answer.as_py()
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return answer
    if isinstance(answer, numpy.ndarray) and answer.ndim == 0 and not isinstance(answer, numpy.ma.MaskedArray):
        answer = answer[()]
    return bool(answer) if isinstance(answer, numpy.bool_) else answer


def _flag(item: object) -> bool | None:
    """One row's answer; what is missing is no pass; None for what is no answer."""
    item = _scalar(item)
    if isinstance(item, bool):
        return item
    if item is None or type(item).__name__ in ("NAType", "NaTType") or (isinstance(item, float) and item != item):
        return False
    return None


def _columns(answer: Any) -> list[tuple[object, object]] | None:
    """The columns of a table, series or array; None for anything else."""
    tops = {one.__module__.partition(".")[0] for one in type(answer).__mro__}
    if "polars" in tops and hasattr(answer, "collect"):  # lazy
        answer = answer.collect()
    if "pandas" in tops and hasattr(answer, "columns"):
        return [(name, answer.iloc[:, at]) for at, name in enumerate(answer.columns)]
    if "polars" in tops and hasattr(answer, "iter_columns"):
        return [(column.name, column) for column in answer.iter_columns()]
    if "pyarrow" in tops and hasattr(answer, "column_names"):
        return [(name, answer.column(name)) for name in answer.column_names]
    if tops & {"pandas", "polars"} and hasattr(answer, "dtype") and hasattr(answer, "__len__"):
        return [(None, answer)]
    if "pyarrow" in tops and hasattr(answer, "to_pylist"):
        return [(None, answer)]
    if "numpy" in tops and getattr(answer, "ndim", 0) == 1:
        return [(None, answer)]
    if "numpy" in tops and getattr(answer, "ndim", 0) == 2:
        return [(at, answer[:, at]) for at in range(answer.shape[1])]
    return None


@dataclass(frozen=True)
class _Odd:
    """Something in a column that is no answer."""

    item: object


def _flags(column: Any) -> object:
    """The answers of one column as an array of bools, as fast as its library gives them; or what is none of them."""
    import numpy as np

    kind = str(getattr(column, "dtype", ""))
    if isinstance(column, np.ma.MaskedArray):
        masked, column = np.ma.getmaskarray(column), column.data.astype(object)
        column[masked] = None  # what is masked is missing
        kind = "object"
    if kind == "bool":  # of pandas and numpy: nothing is missing
        return np.asarray(column)
    if kind in ("boolean", "bool[pyarrow]"):
        return column.to_numpy(dtype=bool, na_value=False)
    if kind == "Boolean":  # of polars
        return column.fill_null(False).to_numpy()
    for name in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, name):
            items = getattr(column, name)()
            break
    flags = []
    for item in items:
        flag = _flag(item)
        if flag is None:
            return _Odd(item)
        flags.append(flag)
    return np.array(flags, dtype=bool)


def _examples(
    wrong: Iterable[int], count: int, answer: object, value: Callable[[], object]
) -> Iterable[tuple[object, str]]:
    """Rows of the value where it has as many as the answer, else the answer's own labels."""
    seen = value()
    same = getattr(seen, "shape", (None,))[0] == count or (isinstance(seen, list) and len(seen) == count)
    for position in wrong:
        label: object = position
        index = getattr(answer, "index", None)
        if index is not None and hasattr(index, "tolist"):
            label = index[position]
        yield label, shortened(_row(seen, position)) if same else "false"


def _row(value: Any, position: int) -> str:
    if hasattr(value, "row"):  # polars
        return repr_of(value.row(position, named=True))
    if hasattr(value, "to_pylist"):
        return repr_of(value.slice(position, 1).to_pylist()[0])
    if hasattr(value, "iloc"):
        row = value.iloc[position]
        return repr_of(row.to_dict() if hasattr(row, "to_dict") else row)
    return repr_of(value[position])


def repr_of(value: object) -> str:
    """`repr`, whatever the object's own does."""
    try:
        return repr(value)
    except Exception as broken:  # noqa: BLE001 - foreign code
        return f"<{type(value).__name__}, whose repr raised {type(broken).__name__}>"
