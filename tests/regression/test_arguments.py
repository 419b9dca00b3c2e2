"""Arguments of public functions: what cannot be meant is refused by one door, before anything happens."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import superluigi
from superluigi import formats, lineage, visuals
from superluigi.errors import DefinitionError, OptionError, SuperLuigiError
from superluigi.parameters import IntParameter
from superluigi.queue import Pool, Queue
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata, Environment


class Made(AtomicTaskWithMetadata):
    n = IntParameter(default=1)

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"made-{self.n}.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text("x")


class Unspeakable:
    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


#: What a mistake puts in the place of an argument.
ODD: list[Any] = [
    *(None, "", 0, -1, 10**30, 1.5, float("nan"), b"x", True, [], {}, (), set(), object(), Made),
    *(Made(), Path("p"), "nonsense", ["a"], {"a": 1}, {1: 2}, timedelta(-1), int, ValueError("x"), "\0", "\ud800"),
]
FINE = {"task": Made(), "root": Made(), "bucket": "b", "function": len, "why": "because", "value": 1}
#: What runs tasks, or makes a parameter of anything.
_NOT_CALLED = ("Const", "Queue", "lineage", "run_task", "compute")
#: What is called: each begins nothing that lasts.
CALLED: list[Any] = [
    *(LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget, Pool, Environment),
    *(getattr(lineage, name) for name in lineage.__all__),
    *(visuals.plot_dependency_graph, visuals.dependency_graph, visuals.plot_lineage),
    *(formats.save, formats.load, formats.register, formats.suffix_for),
    *(getattr(superluigi, name) for name in superluigi.__all__ if name not in _NOT_CALLED),
]


def said(call: Any, *args: Any, **kwargs: Any) -> str:
    """What a call says that is refused; fails where Python's own errors come through."""
    try:
        call(*args, **kwargs)
    except (SuperLuigiError, FileNotFoundError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("called", CALLED, ids=lambda one: one.__name__)
def test_any_value_in_the_place_of_any_argument_is_taken_or_refused_by_us(
    called: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no option 'nonsens'" in said(called, nonsens=1) or _takes_any_name(called)
    parameters = [one for one in inspect.signature(called).parameters.values() if one.kind is not one.VAR_KEYWORD]
    needed = [one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_POSITIONAL]
    said(called)
    said(called, *range(30))
    for parameter in parameters:
        for odd in ODD:
            given = {name: FINE.get(name, "x.txt") for name in needed if name != parameter.name}
            if parameter.kind is parameter.VAR_POSITIONAL:
                said(called, *given.values(), odd)
            else:
                said(called, **given, **{parameter.name: odd})


def _takes_any_name(called: Any) -> bool:
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(called).parameters.values())


@pytest.mark.parametrize("option", [*inspect.signature(superluigi.run_task).parameters])
def test_an_option_of_a_run_of_another_kind_is_refused_before_anything_runs(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for odd in (object(), b"x", 1.5):
        with pytest.raises(DefinitionError, match=option):
            superluigi.run_task(**{"task": Made(), option: odd})
        assert not Path("made-1.txt").exists()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: superluigi.run_task(Made(), on_error="Stop"), ["on_error is 'Stop'", "Did you mean 'stop'?"]),
        (lambda: superluigi.run_task(Made(), refresh="codes"), ["Did you mean 'code'?"]),
        (lambda: superluigi.run_task(Made(), resources={"gpu": "1"}), ["resources['gpu'] is '1' (str)"]),
        (lambda: superluigi.run_task(Made(), num_workers="2"), ["Write num_workers=2"]),
        (lambda: superluigi.run_task(Made(), report_file=3), ["report_file is 3 (int)", "a text or a Path"]),
        (lambda: superluigi.compute(Made(), num_workers=-1), ["num_workers is -1 (int)", "from 1"]),
        (lambda: LocalFileTarget("a", extrnal=True), ["Did you mean 'external'?"]),
        (lambda: LocalFileTarget("a", format=123), ["format is 123", "luigi.format"]),
        (lambda: LocalFolderTarget("a", metadata_inside_folder="no"), ["Write metadata_inside_folder=False"]),
        (lambda: LocalFolderTarget("a", metadata_contents_limit="all"), ["'all' (str)", "or None"]),
        (lambda: S3ObjectTarget("b", "k", put_options=["ACL"]), ["put_options is ['ACL'] (list)", "a dict"]),
        (lambda: S3ObjectTarget("b", "k", cache_limit_bytes="1GB"), ["cache_limit_bytes", "a number of bytes"]),
        (lambda: S3ObjectTarget("b", "k", progress="yes"), ["progress", "a function"]),
        (lambda: S3PrefixTarget("b", "p", local_root=3), ["local_root is 3 (int)"]),
        (lambda: lineage.accept(Made, why="x"), ["task is <class", "Call it: Made(…)"]),
        (lambda: lineage.accept(Made()), ["needs 'why'"]),
        (lambda: lineage.read(Made()), ["task.output().path"]),
        (lambda: Pool(max_workers="2", on_term="Kill"), ["Write max_workers=2", "Did you mean 'kill'?"]),
        (lambda: Queue("q", resources={"gpu": "1"}), ["resources['gpu'] is '1' (str)"]),
    ],
)
def test_the_error_says_what_came_what_is_taken_and_what_to_write(call: Any, words: list[str]) -> None:
    with pytest.raises(OptionError) as caught:
        call()
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_value_that_answers_nothing_is_refused_all_the_same() -> None:
    for call in (lambda: LocalFileTarget(Unspeakable()), lambda: Pool(on_term=Unspeakable())):  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="a value that cannot be shown \\(Unspeakable\\)"):
            call()


def test_numbers_and_flags_of_numpy_are_numbers_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np = pytest.importorskip("numpy")
    monkeypatch.chdir(tmp_path)
    target = LocalFolderTarget("a", metadata_inside_folder=np.True_, metadata_contents_limit=np.int64(3))
    assert str(target.metadata_path) == str(tmp_path / "a" / ".metadata.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [("init", ["a"]), ("init", [Made]), ("init", 3), ("command_prefix", int), ("command_prefix", [1]),
     ("environment", {1: "x"}), ("checks", len), ("exclusive", True)],
)  # fmt: skip
def test_an_attribute_of_a_class_is_looked_at_through_and_through_when_it_is_written(name: str, value: Any) -> None:
    with pytest.raises(DefinitionError, match=f"Wrong.{name} is"):
        type(AtomicTaskWithMetadata)("Wrong", (AtomicTaskWithMetadata,), {name: value})
