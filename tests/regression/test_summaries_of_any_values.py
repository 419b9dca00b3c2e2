"""Rule: after the commits nothing fails a run, also not values that the summary cannot put in a row."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import luigi
import pydantic
import pytest

from superluigi import run_task
from superluigi.parameters import Param
from superluigi.tasks import AtomicTaskWithMetadata

DAY = datetime.date(2024, 2, 28)
LAST = datetime.datetime.max


class Raises(luigi.Parameter[str]):
    def next_in_enumeration(self, value: Any) -> Any:
        raise RuntimeError("there is no next one")


def run(self: object) -> str:
    return "made"


class Frozen(pydantic.BaseModel, frozen=True):
    """Pydantic gives it a hash, which fails where a field has none."""

    late: int
    levels: dict[str, list[float]]
    again: set[int] = set()


CASES: list[tuple[Any, list[Any], str]] = [
    (Param[datetime.date | None], [None], "Of(x=)"),
    (Param[datetime.date | None], [None, DAY], "x="),
    (Param[datetime.datetime | None], [LAST, None], "x="),
    (Param[datetime.date], [datetime.date.max], "9999-12-31"),
    (Param[datetime.date], [DAY + datetime.timedelta(days=n) for n in range(5)], "2024-02-28...2024-03-03"),
    (luigi.DateParameter, [datetime.date.max, DAY], "9999-12-31"),
    (luigi.IntParameter, list(range(5)), "0...4"),
    (Raises, ["a", "b"], "x="),
    (Param[Frozen], [Frozen(late=n, levels={"a": [0.5]}) for n in range(2)], "x="),
]


@pytest.mark.parametrize("more", [False, True], ids=["one parameter", "two"])
@pytest.mark.parametrize(("kind", "values", "said"), CASES, ids=[f"{row[0]}-{row[1][0]}"[:50] for row in CASES])
def test_a_run_ends_well_whatever_its_tasks_are_asked_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: Any, values: list[Any], said: str, more: bool
) -> None:
    parameter = {"x": kind()} if isinstance(kind, type) else {"__annotations__": {"x": kind}}
    beside = {"y": luigi.IntParameter(default=1)} if more else {}
    of = type(AtomicTaskWithMetadata)(
        "Of", (AtomicTaskWithMetadata,), {"run": run, "__module__": __name__, **parameter, **beside}
    )

    class All(luigi.WrapperTask):
        def requires(self) -> Any:
            return [of(x=value) for value in values]

    run_task(All(), store=tmp_path)
    text = capsys.readouterr().out
    assert ":)" in text and (more or said in text)
    assert len(list(tmp_path.rglob("*.metadata.json"))) == len(values)


class TakesFrozen(AtomicTaskWithMetadata):
    x: Param[Frozen]

    def run(self) -> list[str]:
        return list(vars(self.x))


def test_frozen_models_have_the_order_of_their_fields_in_a_queue_too(tmp_path: Path) -> None:
    task = TakesFrozen(x=Frozen(late=1, levels={"a": [0.5]}, again={1}))
    path = run_task(task, queue=f"sqlite:///{tmp_path}/q.db", store=tmp_path / "store")
    assert json.loads(path.read_text()) == ["late", "levels", "again"]
    plain = Frozen(late=1, levels={}, again=frozenset())  # type: ignore[arg-type]
    assert hash(plain) == hash(plain.model_copy())
