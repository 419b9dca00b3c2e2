"""What a user sees of an error begins at the user's own line: in the exception, its cause, the log and the report."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi import cached, run_task, task
from superluigi.errors import CommitError, StorageAccessError, SuperLuigiError, TaskFailedError
from superluigi.parameters import Param
from superluigi.runs import tracebacks
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata


class Fails(AtomicTaskWithMetadata):
    place = luigi.Parameter()
    how = luigi.Parameter()

    def output(self) -> LocalFileTarget:
        return LocalFileTarget(f"{self.place}/never.txt")

    def run(self, output_path: Path) -> None:
        getattr(self, f"_{self.how}")(output_path)

    def _plainly(self, output_path: Path) -> None:
        raise ValueError("rows")

    def _chained(self, output_path: Path) -> None:
        try:
            self._plainly(output_path)
        except ValueError as error:
            raise LookupError("columns") from error

    def _silently(self, output_path: Path) -> None:
        """Nothing is written."""

    def _ours(self, output_path: Path) -> None:
        LocalFileTarget(self.place).exists()


class Yields(Fails):
    def run(self, output_path: Path) -> object:  # type: ignore[override]
        yield []
        self._plainly(output_path)


class BreaksInComplete(Fails):
    def complete(self) -> bool:
        raise ValueError("rows")


class BreaksInRequires(Fails):
    def requires(self) -> list[luigi.Task]:
        raise ValueError("rows")


def shown(task: luigi.Task, **options: object) -> list[str]:
    """The files whose frames stand in the traceback of the first cause."""
    with pytest.raises(TaskFailedError) as caught:
        run_task(task, **options)
    cause = caught.value.__cause__
    assert cause is not None
    return [Path(frame.filename).name for frame in traceback.extract_tb(cause.__traceback__)]


HERE = Path(__file__).name


@pytest.mark.parametrize("options", [{}, {"num_workers": 2, "executor": "threads"}])
@pytest.mark.parametrize("cls", [Fails, Yields, BreaksInComplete, BreaksInRequires])
def test_the_first_frame_is_the_users(cls: type[Fails], options: dict[str, object], tmp_path: Path) -> None:
    found = shown(cls(place=str(tmp_path), how="plainly"), **options)
    assert found and set(found) == {HERE}


def test_the_log_and_the_error_of_another_process_begin_there_too(tmp_path: Path) -> None:
    task = Fails(place=str(tmp_path), how="chained")
    with pytest.raises(TaskFailedError):
        run_task(task, num_workers=2, executor="processes")
    text = (task.task_dir / "stderr.log").read_text()
    files = [line.split('"')[1] for line in text.splitlines() if line.strip().startswith("File ")]
    assert len(files) == 4 and {Path(name).name for name in files} == {HERE}


def test_what_an_error_was_raised_from_begins_there_too(tmp_path: Path) -> None:
    with pytest.raises(LookupError) as caught:
        run_task(Fails(place=str(tmp_path), how="chained"), raise_exception=True)
    first = caught.value.__cause__
    assert first is not None
    assert {Path(frame.filename).name for frame in traceback.extract_tb(first.__traceback__)} == {HERE}


def test_frames_of_ours_below_the_users_line_stay(tmp_path: Path) -> None:
    found = shown(Fails(place=str(tmp_path), how="ours"))
    assert found[0] == HERE and set(found) > {HERE}


def test_an_error_that_no_line_of_the_user_raised_has_no_frames(tmp_path: Path) -> None:
    assert shown(Fails(place=str(tmp_path), how="silently")) == []


def test_a_switch_shows_every_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_FULL_TRACEBACKS", "true")
    assert set(shown(Fails(place=str(tmp_path), how="plainly"))) > {HERE}


@pytest.mark.parametrize("how", ["processes", "queue"])
def test_a_script_whose_tasks_travel_by_value_is_named_with_its_line(tmp_path: Path, how: str) -> None:
    (tmp_path / "script.py").write_text(
        """
import sys
from superluigi import Queue, run_task
from superluigi.tasks import AtomicTaskWithMetadata

def inner():
    raise ValueError("rows")  # here

class Fails(AtomicTaskWithMetadata):
    def run(self) -> int:
        return [inner() for _ in range(1)][0]

if __name__ == "__main__":
    if sys.argv[1] == "processes":
        run_task(Fails(), executor="processes")
    with Queue("./by_value.sqlite") as queue:
        queue.submit(Fails(), by_value=True)
        queue.spawn(workers=1)
        sys.exit(queue.counts()["FAILED"])
"""
    )
    done = subprocess.run(
        [sys.executable, "script.py", how],
        cwd=tmp_path,
        env={**os.environ, "SUPERLUIGI_WORKSPACE": str(tmp_path / "workspace")},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 1
    logs = "".join(log.read_text() for log in tmp_path.glob("workspace/**/stderr.log"))
    assert f'{tmp_path / "script.py"}", line 7, in inner' in logs, logs + done.stderr
    assert "script.py:7 in inner: " in done.stderr
    for shown in (done.stderr, logs):
        assert 'raise ValueError("rows")  # here' in shown
        assert "dynamic-code" not in shown


def test_frames_without_a_source_are_all_named_and_the_error_is_no_code_of_theirs() -> None:
    space: dict[str, object] = {}
    exec(compile("def inner(): raise ValueError('two')\ndef outer(): inner()", "a cell", "exec"), space)
    for function in ("outer", "inner"):
        with pytest.raises(ValueError, match="two") as caught:
            space[function]()  # type: ignore[operator]
        text = "".join(traceback.format_exception(caught.value))
        group = text
        if sys.version_info >= (3, 11):
            group = "".join(traceback.format_exception(ExceptionGroup("all", [caught.value])))  # noqa: F821
        for told in (text, group):
            found = [(frame.function, frame.code) for frame in tracebacks.users_frames(told) if frame.file == "a cell"]
            assert found == [("outer", ""), ("inner", "")][0 if function == "outer" else 1 :]
            assert told[tracebacks.end_of_frames(told) :].lstrip(" |").startswith("ValueError: two")


@pytest.mark.parametrize("said", ["direct", "while"])
@pytest.mark.parametrize("deep", [False, True])
def test_the_error_that_a_traceback_ends_with_is_found_behind_the_frames_of_its_cause(said: str, deep: bool) -> None:
    """Errors of ours keep no frames where no line of the user's raised them; what they come from keeps its own."""

    def refused() -> None:
        raise OSError(30, "Read-only file system")

    inner = CommitError("Cannot write to here.\nChoose another place.")
    outer = StorageAccessError("Not to be had.")
    with pytest.raises(OSError, match="Read-only") as caught:
        refused()
    if said == "direct":
        inner.__cause__ = caught.value
    else:
        inner.__context__ = caught.value
    outer.__cause__ = inner
    last = outer if deep else inner
    text = "".join(traceback.format_exception(last))
    assert text[tracebacks.end_of_frames(text) :].startswith(f"superluigi.errors.{type(last).__name__}: {last}")


@task
def doubled(x: int) -> int:
    """A function with one argument."""
    return 2 * x


class Positive(luigi.IntParameter):
    """Refuses what is below zero, in code of its own."""

    def normalize(self, x: int) -> int:
        if x < 0:
            raise ValueError("below zero")
        return x


class Wants(AtomicTaskWithMetadata):
    x = Positive()


class Silent(AtomicTaskWithMetadata):
    def output(self) -> LocalFileTarget:
        return LocalFileTarget("never.txt")

    def run(self, output_path: Path) -> None:
        """Nothing is written."""


def default(kind: Any, value: object) -> None:
    type("Made", (AtomicTaskWithMetadata,), {"__annotations__": {"x": Param[kind]}, "x": value})


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: doubled("x"),
        lambda: doubled(x=[1]),
        lambda: doubled(),
        lambda: doubled(y=1),
        lambda: doubled(1, 2),
        lambda: doubled(1, x=2),
        lambda: default(int, "a"),
        lambda: default(dict[str, int], {"a": "b"}),
        lambda: default(complex, 1j),
        lambda: default("Unknown", 1),
        lambda: task(lambda x: x)(x=object()),
        lambda: cached("terms.unknown"),
        lambda: LocalFileTarget("a.json").dump({1}),
        lambda: LocalFileTarget("a.unknown").dump(1),
    ],
)
def test_a_mistake_is_told_once_not_with_what_we_raised_on_the_way(
    mistake: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuperLuigiError) as caught:
        mistake()
    assert "The above exception" not in "".join(traceback.format_exception(caught.value))


def test_the_error_of_the_users_own_code_is_told_with_its_line() -> None:
    with pytest.raises(SuperLuigiError) as caught:
        Wants(x=-1)
    text = "".join(traceback.format_exception(caught.value))
    assert 'raise ValueError("below zero")' in text and text.count("The above exception") == 1


def test_an_error_of_ours_is_told_once_beside_that_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskFailedError) as caught:
        run_task(Silent())
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("The above exception") == 1 and "RemoteError" not in text
