"""Rule: a name is the user's unless it is reserved aloud; a reserved one with another shape is refused when written."""

from __future__ import annotations

import ast
import functools
import os
from pathlib import Path
from typing import Any, cast

import luigi
import pytest

import superluigi
from superluigi import cached, compute, run_task, task
from superluigi.checks import quarantine
from superluigi.errors import DefinitionError, TaskFailedError
from superluigi.parameters import IntParameter, Param, Parameter
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task, TaskWithMetadata, reserved_names

BASES = (Task, TaskWithMetadata, AtomicTaskWithMetadata)
ROOT = Path(superluigi.__file__).parent


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)


def made(body: dict[str, Any], base: type = AtomicTaskWithMetadata) -> Any:
    """A task class with this body."""
    return type(base)("Made", (base,), {"__module__": __name__, "run": lambda self: 42, **body})


def names_looked_up() -> set[str]:
    """Every text that the package gives to getattr, hasattr or `own(task, …)`, and so may mean a user's attribute."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "class_attr"):
                found |= {one.value for one in node.args[1:] if isinstance(one, ast.Constant)}
    return {name for name in found if isinstance(name, str) and name.isidentifier() and not name.startswith("_")}


def test_the_table_holds_every_name_that_task_classes_have() -> None:
    known = {name for base in (*BASES, luigi.Task) for name in dir(base) if not name.startswith("_")}
    assert known - set(reserved_names.RESERVED) == set()
    luigis = set(dir(luigi.Task)) | {"_repr_html_", "_requires", "_Task__hash", "_unconsumed_params"}
    private = {name for base in BASES for name in {*dir(base), *vars(base())} if name[:1] == "_" and name[:2] != "__"}
    assert {name for name in private - luigis if not name.startswith("_superluigi_")} == set()


def test_every_name_that_our_own_classes_take_fits_its_own_row() -> None:
    for base in BASES:
        for name, value in vars(base).items():
            reserved = reserved_names.RESERVED.get(name)
            if reserved is not None and reserved.fits is not reserved_names._never and value is not ...:
                assert reserved.takes(value), name


def test_the_docs_show_the_table() -> None:
    page = ROOT.parent / "docs/reference/tasks.md"
    assert reserved_names.table() in page.read_text(encoding="utf-8")


FREE = sorted(
    (names_looked_up() | {"load", "dump", "read_value", "_tags", "_outputs", "_job", "_variants"})
    - set(reserved_names.RESERVED)
)


def test_methods_of_other_names_are_never_called() -> None:
    def not_ours(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"the user's method was called with {args} {kwargs}")

    lower = made(dict.fromkeys(FREE, not_ours))

    class Upper(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return lower()

        def run(self, inputs: Any) -> int:
            return int(inputs) + 1

    assert compute(Upper()) == 43 and compute(lower(), force=True) == 42 and lower().result() == 42
    assert compute(lower(tags={"a": 1})) == 42 and lower().clear()


def test_parameters_and_attributes_of_other_names_are_what_the_user_set() -> None:
    def run(self: Any) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FREE}

    parameters = made({**{name: luigi.Parameter(default=f"the {name}") for name in FREE}, "run": run})
    assert compute(parameters(tags={"a": 1})) == {name: f"the {name}" for name in FREE}
    attributes = made({**dict.fromkeys(FREE, 5), "run": run})
    assert compute(attributes(hash_seed="b")) == dict.fromkeys(FREE, 5)


@pytest.mark.parametrize(
    "namespace", ["..", "../..", "/", "/x/..", "~", "~/x", "a/../..", "a//b", ".", "n" * 300, "a/b"]
)
def test_no_name_of_a_family_leads_out_of_the_store_and_the_workspace(tmp_path: Path, namespace: str) -> None:
    def part(self: Any) -> str:
        return namespace

    def run(self: Any) -> str:
        assert (self.shared_path("s") / "s").write_text("") == 0
        return str(self.part())

    def rejected(self: Any) -> str:
        return "rejected"

    kept = {"keep_task_dir": True, "task_namespace": namespace, "part": cached("part.json")(part)}
    before = [*Path("/").iterdir(), *tmp_path.parent.iterdir()]
    good = made({**kept, "run": run})()
    assert compute(good) == good.result() == good.part() == namespace
    with pytest.raises(TaskFailedError, match="the check gave False"):
        compute(made({**kept, "run": rejected, "checks": [lambda value: False]})(), force=True)
    folders = [Path(good.output().path), good.part.path(), good.task_dir, *(one.path for one in quarantine.entries())]
    for path in folders:
        assert path.resolve().parents[1].is_relative_to(tmp_path / ("workspace" if path.is_dir() else "store")), path
    assert [*Path("/").iterdir(), *tmp_path.parent.iterdir()] == before
    assert sorted(os.listdir(tmp_path)) == ["store", "workspace"] and good.clear_all() and not good.complete()
    assert folders[0].parent == tmp_path / f"store/{namespace}.Made" or namespace != "a/b"  # where older ones are


WRONG: list[tuple[str, Any]] = [
    ("cls", Parameter()), ("self", IntParameter()),
    ("tags", luigi.ListParameter()), ("tags", ["a"]), ("tags", {"a": 1}), ("tag", "v1"), ("run", Parameter()),
    ("run_names", Parameter()), ("environment", 5), ("environment", "prod"), ("environment", lambda self: {}),
    ("environment", Parameter(default="prod")), ("executor", property(lambda self: "threads")), ("executor", 5),
    ("cancel", lambda self, id: None), ("cancel", lambda self: None), ("on_failed", lambda self: None),
    ("clear", lambda self, table: None), ("result", lambda self, x: x), ("result", 5), ("result", lambda self: 5),
    ("validate", lambda self, frame: True), ("validate", IntParameter()), ("init", lambda self: None),
    ("save_output", lambda self, value: None), ("save_output", "x"), ("load_output", lambda self: None),
    ("load_output", cached("x.json")(lambda self: 1)), ("result", cached("x.json")(lambda self: 1)),
    ("suffix", "csv"), ("suffix", Parameter()), ("read_mode", "share"), ("resumable", 1), ("max_attempts", "5"),
    ("task_dir", "/tmp/x"), ("task_hash", "x"), ("task_id", Parameter()), ("shared_path", lambda self, name: name),
    ("requires", [1]), ("requires", lambda self, day: []), ("output", property(lambda self: None)), ("output", "x"),
    ("complete", True), ("on_success", lambda self, x: None), ("on_failure", lambda self: None), ("channel", 5),
    ("channel", ["a", 1]), ("pool", 5), ("priority", "high"), ("priority", luigi.StrParameter()),
    ("resources", ["gpu"]),
    ("disabled", luigi.StrParameter()), ("retry_count", luigi.Parameter(default="3")), ("returns", "x"),
    ("returns", 0.05), ("clone", lambda self: self), ("param_kwargs", {}), ("must_pickle", True), ("deps", 5),
    ("command_prefix", 5), ("command_prefix", lambda self, x: "nice"), ("keep_task_dir", luigi.IntParameter()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{name}-{number}" for number, (name, _) in enumerate(WRONG)])
def test_a_reserved_name_with_another_shape_is_refused_with_advice(name: str, value: Any) -> None:
    for base in BASES:
        with pytest.raises(DefinitionError, match=rf"{name}.*Choose another name"):
            made({name: value}, base)
    mixin = type("Mixin", (), {name: value, "__module__": __name__})
    with pytest.raises(DefinitionError, match=r"Mixin.*Choose another name"):
        type(Task)("Mixed", (mixin, AtomicTaskWithMetadata), {"__module__": __name__})
    if name not in vars(luigi.Task):
        base = type("Plain", (luigi.Task,), {name: value, "__module__": __name__})
        with pytest.raises(DefinitionError, match=r"Plain.*Choose another name"):
            type(Task)("Mixed", (base, AtomicTaskWithMetadata), {"__module__": __name__})


def test_annotated_parameters_and_arguments_of_functions_are_refused_too() -> None:
    for name in ("tags", "executor", "result", "task_id", "priority"):
        with pytest.raises(DefinitionError, match=name):
            made({"__annotations__": {name: Param[str]}})  # type: ignore[misc]
    with pytest.raises(DefinitionError, match="pool"):

        @task
        def function(pool: int) -> int:
            return pool

    with pytest.raises(DefinitionError, match=r"no attribute 'piority'. Did you mean 'priority'"):
        task(piority=3)(named)


def named() -> int:
    return 1


def test_a_parameter_that_comes_later_is_checked_as_well() -> None:
    class Heir(AtomicTaskWithMetadata):
        pass

    with pytest.raises(DefinitionError, match="environment"):
        cast(Any, Heir).environment = Parameter(default="prod")


RIGHT: list[tuple[str, Any]] = [
    ("priority", IntParameter(default=3)), ("priority", property(lambda self: 5)), ("priority", 2.5),
    ("resources", luigi.DictParameter(default={"gpu": 1})), ("resources", {"gpu": 1}), ("suffix", ".csv"),
    ("suffix", property(lambda self: ".json")), ("suffix", None), ("environment", property(lambda self: {"A": "1"})),
    ("environment", {"A": "1"}), ("pool", Parameter(default="x")), ("channel", ["gpu", "memory"]), ("channel", "gpu"),
    ("result", lambda self, as_type=None: 5), ("cancel", lambda self, reason="x", *, hard=False: None),
    ("validate", functools.lru_cache(lambda self: None)), ("clear_all", classmethod(lambda cls: [])),
    ("on_failure", lambda self, *args: None), ("clone", lambda self, cls=None, **values: self), ("init", ()),
    ("bulk_complete", classmethod(lambda cls, tuples: [])), ("requires", staticmethod(list)), ("hash_seed", "b"),
    ("hash_seed", IntParameter(default=1)), ("command_prefix", lambda self: "nice"), ("worker_timeout", None),
    ("task_seed", functools.cached_property(lambda self: 5)), ("owner_email", ["a@b"]), ("returns", list[int]),
    ("disabled", luigi.BoolParameter()), ("retry_count", luigi.IntParameter(default=3)), ("retry_delay", 5),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), RIGHT, ids=[f"{name}-{number}" for number, (name, _) in enumerate(RIGHT)])
def test_a_reserved_name_with_its_own_shape_is_welcome(name: str, value: Any) -> None:
    assert made({name: value})().task_id


def test_values_are_saved_and_loaded_by_the_hooks_of_these_names() -> None:
    class Own(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return LocalFileTarget("own.json")

        def save_output(self, value: Any, path: Path) -> None:
            path.write_text(f"<{value}>")

        def load_output(self, path: Path) -> Any:
            return int(path.read_text()[1:-1])

        def run(self) -> int:
            return 7

    run_task(Own())
    assert Path("own.json").read_text() == "<7>" and Own().result() == 7


@pytest.mark.parametrize("attribute", ["pool", "channel", "retry_delay", "resources", "suffix"])
def test_every_setting_can_be_given_to_a_function(attribute: str) -> None:
    given: dict[str, Any] = {"retry_delay": 5, "resources": {"gpu": 1}, "suffix": ".txt"}
    value = given.get(attribute, "gpu")
    assert getattr(cast(Any, task(**{attribute: value})(named)), attribute) == value
