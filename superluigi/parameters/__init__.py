"""Parameters of tasks: all of Luigi's by name, and annotations that become parameters.

    class Train(AtomicTaskWithMetadata):
        data: Requires[Features]              # a task that is passed in; run gets it as inputs["data"]
        epochs: Param[int] = 100
        device: Meta[str] = "cpu"             # no part of the identity
        dropout: Param[float, IgnoreDefault] = 0.0   # added later: 0.0 leaves the identity as it was
        day = DateParameter()                 # Luigi's own mix with these

| annotation | Luigi parameter | written as |
|---|---|---|
| `bool` `int` `float` `str` | `BoolParameter` (explicit), `IntParameter`, `FloatParameter`, `StrParameter` | text |
| `date` `datetime` | `DateParameter`, `DateSecondParameter` (microseconds and time zones kept) | ISO 8601 |
| `timedelta` `Path` | `TimeDeltaParameter`, `PathParameter` | text |
| `Literal["a", "b"]`, an enum | `ChoiceParameter`, `EnumParameter` | text, name |
| `list[X]`, `tuple[X, ...]`, `dict[K, V]` | `ListParameter`, `TupleParameter`, `DictParameter` | JSON |
| `X | None` | the same, `None` as empty text | |
| a frozen dataclass, a pydantic model, a union, `Any` | a parameter of our own | JSON |
"""

from luigi.parameter import (
    BoolParameter,
    ChoiceListParameter,
    ChoiceParameter,
    DateHourParameter,
    DateIntervalParameter,
    DateMinuteParameter,
    DateParameter,
    DateSecondParameter,
    DictParameter,
    EnumListParameter,
    EnumParameter,
    FloatParameter,
    IntParameter,
    ListParameter,
    MonthParameter,
    NumericalParameter,
    OptionalBoolParameter,
    OptionalChoiceParameter,
    OptionalDictParameter,
    OptionalFloatParameter,
    OptionalIntParameter,
    OptionalListParameter,
    OptionalNumericalParameter,
    OptionalParameter,
    OptionalPathParameter,
    OptionalStrParameter,
    OptionalTupleParameter,
    Parameter,
    ParameterVisibility,
    PathParameter,
    StrParameter,
    TaskParameter,
    TimeDeltaParameter,
    TupleParameter,
    YearParameter,
)

from superluigi.parameters.annotations import IgnoreDefault, Meta, Param, Requires
from superluigi.parameters.const import Const
from superluigi.parameters.references import resolving

__all__ = [
    "BoolParameter", "ChoiceListParameter", "ChoiceParameter", "Const", "DateHourParameter",
    "DateIntervalParameter", "DateMinuteParameter", "DateParameter", "DateSecondParameter", "DictParameter",
    "EnumListParameter", "EnumParameter", "FloatParameter", "IgnoreDefault", "IntParameter", "ListParameter",
    "Meta", "MonthParameter", "NumericalParameter", "OptionalBoolParameter", "OptionalChoiceParameter",
    "OptionalDictParameter", "OptionalFloatParameter", "OptionalIntParameter", "OptionalListParameter",
    "OptionalNumericalParameter", "OptionalParameter", "OptionalPathParameter", "OptionalStrParameter",
    "OptionalTupleParameter", "Param", "Parameter", "ParameterVisibility", "PathParameter", "Requires",
    "StrParameter", "TaskParameter", "TimeDeltaParameter", "TupleParameter", "YearParameter", "resolving",
]  # fmt: skip
