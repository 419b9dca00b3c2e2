"""Every option of `run_task`, as a user meets it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import luigi
import pytest
from luigi.rpc import RemoteScheduler
from luigi.task_status import DONE, PENDING

from superluigi import targets
from superluigi.errors import ConfigError, OptionError, SuperLuigiError, TaskFailedError
from superluigi.targets import LocalFileTarget
from superluigi.task_runner import run_task
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, Task


class Step(AtomicTaskWithMetadata):
    """Fails when the file `fail-<n>` is in its folder; logs each of its runs."""

    folder = luigi.Parameter()
    n = luigi.IntParameter(default=1)

    def requires(self) -> Any:
        return [Step(self.folder, self.n - 1)] if self.n else []

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"out-{self.n}")

    def run(self, output_path: Path) -> None:
        with open(Path(self.folder) / "log", "a") as log:
            log.write(f"{self.n} ")
        self.fail_if_told()
        output_path.write_text(f"step {self.n}")

    def fail_if_told(self) -> None:
        if (Path(self.folder) / f"fail-{self.n}").exists():
            raise ZeroDivisionError(f"told to fail in {self.n}")


class Other(Task):
    pass


def ran(folder: Path) -> list[int]:
    log = folder / "log"
    found = [int(n) for n in log.read_text().split()] if log.exists() else []
    log.unlink(missing_ok=True)
    return found


# ---------------------------------------------------------------- task and configuration


class Configured(AtomicTaskWithMetadata):
    folder = luigi.Parameter()
    n = luigi.IntParameter(default=1)
    names = luigi.ListParameter(default=[])
    percent = luigi.Parameter(default="")

    def output(self) -> Any:
        return LocalFileTarget(Path(self.folder) / f"{self.n}.txt")

    def run(self, output_path: Path) -> None:
        from superluigi import config

        output_path.write_text(f"{self.n} {list(self.names)} {self.percent} {config.get('keep_attempts')}")


def test_a_class_takes_its_parameters_from_the_config(tmp_path: Path) -> None:
    config = {"Configured": {"folder": str(tmp_path), "n": 5, "names": ["a", "b"], "percent": "5%s"}}
    assert run_task(Configured, config=config) == tmp_path / "5.txt"
    assert (tmp_path / "5.txt").read_text() == "5 ['a', 'b'] 5%s 10"
    with pytest.raises(SuperLuigiError, match="folder"):
        run_task(Configured)  # the configuration was for that run only


@pytest.mark.parametrize("workers", [1, 2])
def test_a_config_file_is_read_and_the_argument_wins(tmp_path: Path, workers: int) -> None:
    file = tmp_path / "some.cfg"
    file.write_text(f"[Configured]\nfolder = {tmp_path}\nn = 7\npercent = 100%\n[superluigi]\nkeep_attempts = 3\n")
    path = run_task(Configured, {"Configured": {"n": "8"}}, file, num_workers=workers)
    assert path == tmp_path / "8.txt" and path.read_text() == "8 [] 100% 3"


def test_the_default_config_file_is_read_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "superluigi.cfg").write_text(f"[Configured]\nfolder = {tmp_path}\nn = 11\n")
    assert run_task(Configured) == tmp_path / "11.txt"
    (tmp_path / "named.cfg").write_text(f"[Configured]\nfolder = {tmp_path}\nn = 12\n")
    monkeypatch.setenv("SUPERLUIGI_DEFAULT_TASK_CONFIG", str(tmp_path / "named.cfg"))
    assert run_task(Configured) == tmp_path / "12.txt"


def test_a_missing_or_broken_config_file_is_an_error_and_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.cfg"):
        run_task(Step(str(tmp_path)), config_file=tmp_path / "nowhere.cfg")
    (tmp_path / "broken.cfg").write_text("no section = 1\n")
    with pytest.raises(ConfigError, match=r"broken\.cfg"):
        run_task(Step(str(tmp_path)), config_file=tmp_path / "broken.cfg")
    with pytest.raises(ConfigError, match="keep_attempts"):
        run_task(Step(str(tmp_path)), config={"superluigi": {"keep_atempts": 3}})
    with pytest.raises(OptionError, match="section"):
        run_task(Step(str(tmp_path)), config={"section": "value"})  # type: ignore[dict-item]
    assert ran(tmp_path) == []


def test_what_is_no_task_is_refused(tmp_path: Path) -> None:
    for wrong in ("Step", 5, None, [Step(str(tmp_path))], AtomicTaskWithMetadata.output):
        with pytest.raises(OptionError, match="task"):
            run_task(wrong)  # type: ignore[arg-type]


def test_senseless_options_are_refused_before_anything_runs(tmp_path: Path) -> None:
    task = Step(str(tmp_path))
    for options in (
        {"force": True, "force_upstream": True},
        {"force": True, "force_upstream_to_task_cls": Step},
        {"force_upstream_to_task": task, "force_upstream_to_task_cls": Step},
        {"force_upstream_to_task_cls": Other},
        {"force_upstream_to_task": Other()},
        {"force_upstream_to_task": Step(str(tmp_path), 99)},
        {"force_upstream_to_task_cls": "Stepp"},
        {"force_upstream_to_task_cls": []},
        {"force_downstream_of": Other},
        {"num_workers": 0},
        {"num_workers": "two"},
        {"num_workers": True},
        {"on_error": "explode"},
        {"resume": True},
        {"executor": "nowhere"},
    ):
        with pytest.raises(OptionError):
            run_task(task, **options)  # type: ignore[arg-type]
    assert ran(tmp_path) == []
    with pytest.raises(OptionError, match="Did you mean 'Step'"):
        run_task(task, force_upstream_to_task_cls="Stepp")


def test_tasks_in_a_circle_are_refused() -> None:
    class Circle(Task):
        n = luigi.IntParameter(default=0)

        def requires(self) -> Any:
            return Circle((self.n + 1) % 3)

        def output(self) -> Any:
            return LocalFileTarget("/nonexistent/never")

    for options in ({}, {"force_upstream": True}, {"force_upstream_to_task_cls": Circle}):
        with pytest.raises(OptionError, match="circle"):
            run_task(Circle(), **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------- what is printed and returned


def test_the_summary_and_the_outputs_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Several(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return {"a": LocalFileTarget(tmp_path / "a"), "b": [LocalFileTarget(tmp_path / "b")]}

        def run(self, output_path: Any) -> None:
            output_path["a"].write_text("a")
            output_path["b"][0].write_text("b")

    assert run_task(Several()) == {"a": tmp_path / "a", "b": [tmp_path / "b"]}
    said = capsys.readouterr().out
    assert "===== Luigi Execution Summary =====" in said and "* 1 ran successfully" in said
    assert said.index("Summary") < said.index("Outputs can be found at")
    assert str(tmp_path / "a") in said and str(tmp_path / "b") in said

    class Nothing(luigi.WrapperTask):
        pass

    assert run_task(Nothing()) in (None, [])


def test_a_closed_standard_output_does_not_fail_a_run(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom test_main_job_options import Step\n"
        "from superluigi.task_runner import run_task\nrun_task(Step('.', 0))\n"
    )
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "flow.py", str(Path(__file__).parent)],
        cwd=tmp_path,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert (tmp_path / "out-0").exists()
    assert b"Traceback" not in process.stderr


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "executor": "threads"}])
def test_a_failure_names_every_failed_task_and_chains_the_first(tmp_path: Path, options: dict[str, Any]) -> None:
    class Both(Task, luigi.WrapperTask):
        def requires(self) -> Any:
            return [Step(str(tmp_path / "a"), 0), Step(str(tmp_path / "b"), 0), Step(str(tmp_path / "c"), 1)]

    for name in "abc":
        (tmp_path / name).mkdir()
    for file in ("a/fail-0", "b/fail-0", "c/fail-0"):
        (tmp_path / file).touch()
    with pytest.raises(TaskFailedError) as caught:
        run_task(Both(), **options)
    error = caught.value
    assert len(error.failures) == 3
    for name in "abc":
        assert str(tmp_path / name) in str(error)
    assert all("told to fail in 0" in reason for _, reason in error.failures)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert "Both" in str(error)  # whom it blocks
    assert "told to fail in 0" in "".join(traceback.format_exception(error))


def test_a_missing_external_input_is_a_failure_that_names_it(tmp_path: Path) -> None:
    class Given(ExternalTask):
        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "given.csv")

    class Needs(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return Given()

        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "out")

        def run(self, output_path: Path) -> None:
            raise AssertionError("must not run")

    for options in ({}, {"force_upstream": True}, {"raise_exception": True}):
        with pytest.raises(SuperLuigiError, match="Given"):
            run_task(Needs(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "executor": "threads"}])
def test_raise_exception_gives_the_tasks_own_error_with_its_own_frame(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "fail-1").touch()
    with pytest.raises(ZeroDivisionError, match="told to fail in 1") as caught:
        run_task(Step(str(tmp_path), 1), raise_exception=True, **options)
    text = "".join(traceback.format_exception(caught.value))
    assert "fail_if_told" in text and "test_main_job_options.py" in text
    assert (tmp_path / "out-0").exists() and not (tmp_path / "out-1").exists()


def test_in_this_process_the_traceback_itself_leads_to_the_tasks_frame_for_debuggers(tmp_path: Path) -> None:
    (tmp_path / "fail-0").touch()
    with pytest.raises(ZeroDivisionError) as caught:
        run_task(Step(str(tmp_path), 0), raise_exception=True)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-2:] == ["run", "fail_if_told"]


def test_errors_in_requires_output_and_complete_are_failures_that_name_the_task(tmp_path: Path) -> None:
    class BadRequires(Step):
        def requires(self) -> Any:
            raise ValueError("requires is broken")

    class BadOutput(Step):
        def output(self) -> Any:
            raise LookupError("output is broken")

    class BadComplete(Step):
        def complete(self) -> bool:
            raise ArithmeticError("complete is broken")

    for cls, kind in ((BadRequires, ValueError), (BadOutput, LookupError), (BadComplete, ArithmeticError)):
        for options in ({}, {"force": True}, {"num_workers": 2}):
            if cls is BadComplete and options:
                continue  # a forced task is not asked
            with pytest.raises(TaskFailedError, match=f"(?s){cls.__name__}.* is broken") as caught:
                run_task(cls(str(tmp_path), 0), **options)  # type: ignore[arg-type]
            assert isinstance(caught.value.__cause__, kind)
    assert ran(tmp_path) == []


# ---------------------------------------------------------------- forcing


def test_forced_tasks_that_are_retried_run_once_more_and_no_more(tmp_path: Path) -> None:
    class Flaky(Step):
        retry_count = 3

        def fail_if_told(self) -> None:
            tries = (Path(self.folder) / "log").read_text().split()
            if self.n == 1 and tries.count("1") == 1:
                raise ZeroDivisionError

        def requires(self) -> Any:
            return [Flaky(self.folder, self.n - 1)] if self.n else []

    config = {"scheduler": {"retry_delay": "0"}, "worker": {"keep_alive": "true"}}
    for n in (0, 1):
        (tmp_path / f"out-{n}").write_text("old")
    run_task(Flaky(str(tmp_path), 1), config=config, force_upstream=True)
    assert ran(tmp_path) == [0, 1, 1]


def test_resume_goes_on_where_the_forced_run_broke_and_only_then(tmp_path: Path) -> None:
    root = Step(str(tmp_path), 3)
    run_task(root)
    ran(tmp_path)
    (tmp_path / "fail-2").touch()
    with pytest.raises(TaskFailedError):
        run_task(root, force_upstream=True)
    assert ran(tmp_path) == [0, 1, 2]
    (tmp_path / "fail-2").unlink()
    run_task(root, force_upstream=True, resume=True)
    assert ran(tmp_path) == [2, 3]
    ids = {root_.output().read_metadata()["run"]["id"] for root_ in (Step(str(tmp_path), n) for n in range(4))}
    assert len(ids) == 1
    run_task(root, force_upstream=True, resume=True)  # nothing is unfinished: forced like any other
    assert ran(tmp_path) == [0, 1, 2, 3]


def test_several_tasks_and_classes_can_be_named(tmp_path: Path) -> None:
    root = Step(str(tmp_path), 3)
    run_task(root)
    ran(tmp_path)
    run_task(root, force_upstream_to_task=[Step(str(tmp_path), 2), root])
    assert ran(tmp_path) == [2, 3]
    run_task(root, force_upstream_to_task_cls="Step")
    assert ran(tmp_path) == [0, 1, 2, 3]
    run_task(root, force_downstream_of=Step(str(tmp_path), 1))
    assert ran(tmp_path) == [1, 2, 3]


def test_forcing_plain_tasks_without_records_runs_them_once(tmp_path: Path) -> None:
    class Plain(luigi.Task):
        n = luigi.IntParameter()

        def requires(self) -> Any:
            return [Plain(self.n - 1)] if self.n else []

        def output(self) -> Any:
            return luigi.LocalTarget(str(tmp_path / f"plain-{self.n}"))

        def run(self) -> None:
            with open(tmp_path / "log", "a") as log:
                log.write(f"{self.n} ")
            Path(self.output().path).write_text("x")

    for options in ({}, {"num_workers": 2}):
        run_task(Plain(2))
        ran(tmp_path)
        run_task(Plain(2), force_upstream=True, **options)  # type: ignore[arg-type]
        assert ran(tmp_path) == [0, 1, 2]
        run_task(Plain(2), force=True, **options)  # type: ignore[arg-type]
        assert ran(tmp_path) == [2]


# ---------------------------------------------------------------- a central scheduler


@pytest.fixture
def luigid(tmp_path: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Luigi's own server on a free port of this machine; the configuration that leads to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "luigid"
    folder.mkdir()
    words = ["--address", "127.0.0.1", "--port", str(port), "--state-path", str(folder / "state")]
    script = "import sys; from luigi.cmdline import luigid; luigid(sys.argv[1:])"
    log = open(folder / "log", "w")
    process = subprocess.Popen([sys.executable, "-c", script, *words], stdout=log, stderr=log, cwd=folder)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/task_list").close()
                break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield {"core": {"scheduler_host": "127.0.0.1", "scheduler_port": port}}
    finally:
        process.terminate()
        process.wait()
        log.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_central_scheduler_runs_and_forces_like_our_own(tmp_path: Path, luigid: dict[str, Any], workers: int) -> None:
    root = Step(str(tmp_path), 2)
    options: dict[str, Any] = {"config": luigid, "central_scheduler": True, "num_workers": workers}
    run_task(root, **options)
    assert ran(tmp_path) == [0, 1, 2]
    run_task(root, **options)
    assert ran(tmp_path) == []
    run_task(root, force_upstream=True, **options)
    assert ran(tmp_path) == [0, 1, 2]
    run_task(root, force=True, **options)
    assert ran(tmp_path) == [2]
    run_task(root, force_upstream_to_task=Step(str(tmp_path), 1), **options)
    assert ran(tmp_path) == [1, 2]


class SomeoneElse:
    """Another worker of a luigid, which has begun a task that a run wants, too."""

    def __init__(self, luigid: dict[str, Any], task: luigi.Task) -> None:
        self.task = task
        self.scheduler = RemoteScheduler("http://{scheduler_host}:{scheduler_port}".format(**luigid["core"]))
        self.tell(PENDING)
        assert self.scheduler.get_work(worker="someone else")["task_id"] == task.task_id

    def tell(self, status: str) -> None:
        family, module = self.task.task_family, self.task.task_module
        self.scheduler.add_task(
            worker="someone else", task_id=self.task.task_id, status=status, family=family, module=module
        )

    def makes_it_during_a_run_of(self, root: Step, config: dict[str, Any]) -> Any:
        """What the run gives."""
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(run_task, root, config=config, central_scheduler=True)
            while len(self.scheduler.worker_list()) < 2:
                time.sleep(0.05)
            with self.task.output().tmp_write_path() as path:
                path.write_text("by someone else")
            self.tell(DONE)
            return run.result(60)


def test_what_another_worker_of_a_central_scheduler_makes_is_waited_for(tmp_path: Path, luigid: dict[str, Any]) -> None:
    root, first = Step(str(tmp_path), 1), Step(str(tmp_path), 0)
    assert SomeoneElse(luigid, first).makes_it_during_a_run_of(root, luigid) == root.output().path
    assert ran(tmp_path) == [1]


def test_a_run_need_not_make_anything_that_another_worker_makes(tmp_path: Path, luigid: dict[str, Any]) -> None:
    root = Step(str(tmp_path), 0)
    assert SomeoneElse(luigid, root).makes_it_during_a_run_of(root, luigid) == root.output().path
    assert ran(tmp_path) == []


def test_what_another_worker_makes_and_is_not_waited_for_is_no_failure_told_above(
    tmp_path: Path, luigid: dict[str, Any]
) -> None:
    root = Step(str(tmp_path), 0)
    SomeoneElse(luigid, root)
    with pytest.raises(TaskFailedError, match="ended unfinished: 1 elsewhere") as caught:
        run_task(root, config=luigid, central_scheduler=True, exclusive="off")
    assert not caught.value.told


# ---------------------------------------------------------------- S3


@pytest.fixture
def s3_options(s3_server: Any) -> dict[str, Any]:
    return dict(s3_server.client_options)


def test_local_output_downloads_and_returns_local_paths(s3_bucket: str, s3_options: dict[str, Any]) -> None:
    class Far(AtomicTaskWithMetadata):
        def output(self) -> Any:
            return [
                targets.S3ObjectTarget(s3_bucket, "a.txt", **s3_options),
                targets.S3PrefixTarget(s3_bucket, "b", **s3_options),
            ]

        def run(self, output_path: Any) -> None:
            output_path[0].write_text("a")
            (output_path[1] / "x").write_text("x")

    assert run_task(Far()) == [f"s3://{s3_bucket}/a.txt", f"s3://{s3_bucket}/b/"]
    local = run_task(Far(), local_output=True)
    assert local[0].read_text() == "a" and (local[1] / "x").read_text() == "x"
    assert all(isinstance(path, Path) for path in local)


def test_force_local_download_fetches_inputs_again(
    s3_server: Any, s3_bucket: str, s3_options: dict[str, Any], tmp_path: Path
) -> None:
    s3_server.client().put_object(Bucket=s3_bucket, Key="given.txt", Body=b"given")

    class Given(ExternalTask):
        def output(self) -> Any:
            return targets.S3ObjectTarget(s3_bucket, "given.txt", **s3_options)

    class Uses(AtomicTaskWithMetadata):
        def requires(self) -> Any:
            return Given()

        def output(self) -> Any:
            return LocalFileTarget(tmp_path / "uses")

        def run(self, input_path: Path, output_path: Path) -> None:
            output_path.write_text(input_path.read_text())

    def gets(**options: Any) -> int:
        with s3_server.counted() as requests:
            run_task(Uses(), force=True, **options)
        return sum(r.method == "GET" and r.status == 200 and r.path.endswith("/given.txt") for r in requests)

    assert gets() == 1
    assert gets() == 0
    assert gets(force_local_download=True) == 1
    assert gets() == 0
