"""Executors that a user names or lends: refused before anything is looked at, and never ended by us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest

from superluigi import cli, run_task
from superluigi.engine.engine import run_graph
from superluigi.errors import ExecutorLostError, OptionError

Project = Callable[[str], ModuleType]

TASKS = """
    from superluigi.targets import LocalFileTarget
    from superluigi.tasks import AtomicTaskWithMetadata

    class Makes(AtomicTaskWithMetadata):
        def output(self):
            return LocalFileTarget("made.txt")
        def run(self, output_path):
            output_path.write_text("x")

    class Elsewhere(luigi.Task):
        number = luigi.IntParameter()
        def output(self):
            return luigi.LocalTarget(f"{self.number}.txt")
"""


@pytest.mark.parametrize("executor", ["nosuch", "", "Threads", 4, int, object()])
@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_no_executor_is_refused_even_where_nothing_would_run(
    project: Project, executor: Any, complete: bool, dry_run: bool
) -> None:
    module = project(TASKS)
    if complete:
        run_task(module.Makes(), quiet=True)
    with pytest.raises(OptionError, match="executor="):
        run_task(module.Makes(), executor=executor, dry_run=dry_run)
    assert module.Makes().complete() == complete


def test_a_command_line_that_names_no_executor_ends_with_an_error_even_where_all_is_complete(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    module = project(TASKS)
    line = ["run", module.__name__, "Makes"]
    assert cli.main(line) == 0
    assert cli.main([*line, "--executor", "nosuch"]) != 0
    assert "'nosuch' is unknown" in capsys.readouterr().err


@pytest.mark.parametrize("of_run", [True, False])
def test_an_executor_that_cannot_be_had_is_sought_once(
    project: Project, monkeypatch: pytest.MonkeyPatch, of_run: bool
) -> None:
    """Finding out may take long: nothing answers at an address, say."""
    module, sought = project(TASKS), list[str]()

    def seek(name: str, max_workers: int) -> Executor:
        sought.append(name)
        raise ExecutorLostError("nobody answers")

    monkeypatch.setattr("superluigi.execution._factory", lambda name: seek)
    if not of_run:
        module.Elsewhere.executor = "there"
    tasks = [*map(module.Elsewhere, range(3)), module.Makes()]
    report = run_graph(tasks, executor="there" if of_run else None)
    assert report.counts() == ({"failed": 1, "not run": 3} if of_run else {"failed": 3, "ran": 1})
    assert sought == ["there"] and all("nobody answers" in str(failure.error) for failure in report.failures)


def _shut_down() -> Executor:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    return executor


def _refuses() -> None:
    raise LookupError("no licence")


def _cannot_begin() -> Executor:
    return ThreadPoolExecutor(1, initializer=_refuses)


class Full(Executor):
    def submit(self, fn: object, /, *args: object, **kwargs: object) -> Any:
        raise MemoryError("no room")


class Leaves(Executor):
    def submit(self, fn: object, /, *args: object, **kwargs: object) -> Any:
        raise SystemExit("no queue")


class Gives(Executor):
    def __init__(self, future: Callable[[Any], object]) -> None:
        self.future = future

    def submit(self, fn: Any, /, *args: object, **kwargs: object) -> Any:
        return self.future(fn(*args, **kwargs))


def _ended(result: object) -> Future[object]:
    future = Future[object]()
    future.set_result(result)
    return future


def _of_asyncio(result: object) -> object:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.set_result(result)
    loop.close()
    return future


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_shut_down, "has been shut down"),
        (_cannot_begin, "thread initializer failed"),
        (Full, "no room"),
        (Leaves, "no queue"),
        (lambda: Gives(lambda result: None), "Gives gave a NoneType. It must give a concurrent.futures.Future"),
        (lambda: Gives(lambda result: result), "gave a bytes"),
        (lambda: Gives(_of_asyncio), "gave a Future"),
        (lambda: Gives(lambda result: _ended(None)), "ended the future of Elsewhere(number="),
        (lambda: Gives(lambda result: _ended(repr(result))), "with a str, not with what the call returned"),
    ],
)
def test_an_executor_that_takes_no_call_fails_the_tasks_that_it_was_to_run_and_no_others(
    project: Project, make: Callable[[], Executor], says: str
) -> None:
    module = project(TASKS)
    module.Elsewhere.executor = make()
    report = run_graph([module.Elsewhere(number=0), module.Elsewhere(number=1), module.Makes()], num_workers=2)
    assert report.counts() == {"failed": 2, "ran": 1}
    assert all(says in str(failure.error) for failure in report.failures)
