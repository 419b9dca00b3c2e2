"""Luigi's own tests, from its source package, with classes of ours in the place of Luigi's.

What fails beyond what fails with stock Luigi stands in `ACCEPTED`, each with its reason in docs/decisions/engine/.
Needs PyPI, which has the source package.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

PLUGIN = Path(__file__).parents[2] / "data" / "luigis_tests"
#: Files that say nothing of what is put in place, since they start programs of Luigi's, a server, a browser or a type
#: checker, or read configurations.
LEFT_OUT = frozenset(
    {
        *("_mysqldb_test", "_test_ftp", "cmdline_test", "config_env_test", "config_toml_test", "custom_metrics_test"),
        *("db_task_history_test", "hdfs_client_test", "lock_test", "metrics_test", "most_common_test", "mypy_test"),
        *("rpc_test", "safe_extractor_test", "server_test", "setup_logging_test", "test_sigpipe", "test_ssh"),
    }
)
CONTRIB = ("external_daily_snapshot_test", "external_program_test", "opener_test")
#: What is put in place -> tests that fail then and pass with stock Luigi.
ACCEPTED: dict[str, set[str]] = {
    "tasks": {
        # has a parameter called `task_id`, and makes up names, `complete` among them: both are reserved
        "scheduler_visualisation_test::test.scheduler_visualisation_test",
        *(
            f"task_serialize_test::test_{name}"
            for name in ("json_serializable", "serializable", "task_id_alphanumeric")
        ),
        # has an `__init__` of its own that calls no other: ours is refused when the task is made, not when it is run
        "worker_task_test::test_constructor",
        # gives a TimeDeltaParameter parts of a second, which its text leaves out: two values would be one task
        "parameter_test::testTimeDeltaFloat",
        # give a parameter a value of another type (a float or tuple for an int, a str for a timedelta or a class),
        # which is refused: Luigi warns, or takes it
        "parameter_test::testUsage",
        "task_test::test_warn_on_non_timedelta_param",
        *(
            f"worker_test::{name}"
            for name in (
                "test_run_batch_job_unbatched",
                "test_time_out_hung_single_worker",
                "test_time_out_hung_worker",
            )
        ),
    },
    "scheduler": set(),
    "worker": {
        # replace what Luigi's own worker forks with or asks in parallel by, or need what only a fork has
        "remote_scheduler_test::test_multiple_workers",
        "worker_parallel_scheduling_test::test_number_of_processes",
        "worker_parallel_scheduling_test::test_zero_processes",
        "worker_task_process_test::test_context_manager_with_multiprocessing",
        # a task whose requires() gives what is no task fails, and the rest still runs; Luigi ends the run
        "retcodes_test::test_validate_dependency_error",
        # replaces the clock of Luigi's own worker, which ours does not look at
        "event_callbacks_test::test_processing_time_handler_success",
        "worker_external_task_test::test_external_dependency_already_complete",
        *(
            f"worker_test::{name}"
            for name in (
                "test_announce_scheduling_failure_unexpected_error",
                "test_cache_task_completion_config",
                "test_no_process_leak_from_repeatedly_running_same_task",
                "test_purge_hung_worker_default_timeout_time",
                "test_purge_hung_worker_override_timeout_time",
                "test_stop_worker_kills_subprocesses",
                "test_timeout_handler",
                "test_timeout_handler_single_worker",
                "test_unfulfilled_dep",
            )
        ),
        # counts how often work is asked for while attempts run, which a busy machine changes
        "worker_multiprocess_test::test_path_with_task_failures",
        # makes up names of parameters; with `cls` it fails with stock Luigi too
        "task_serialize_test::test_json_serializable",
        # fail with stock Luigi now and then too: they compare clocks
        "scheduler_test::test_sending_same_task_twice_with_cooldown_does_not_lead_to_double_run",
        "scheduler_test::test_sending_same_task_twice_without_cooldown_leads_to_double_run",
    },
}
#: What is put in place -> a test of Luigi's that would not end: its task loops for ever, to be killed in a process that
#: only Luigi's own worker forks. It is not run.
ENDLESS = {"worker": "worker_test.py::WorkerPurgeEventHandlerTest::test_process_killed_handler"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source package of the Luigi that is installed."""
    folder = tmp_path_factory.mktemp("luigi")
    wanted = f"luigi=={version('luigi')}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", wanted]
    subprocess.run([*command, "--dest", str(folder)], check=True, timeout=300)
    with tarfile.open(next(folder.glob("luigi-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data") if sys.version_info >= (3, 12) else archive.extractall(folder)
    return next(path for path in folder.iterdir() if path.is_dir())


def files_of(source: Path) -> list[Path]:
    own = (path for path in sorted((source / "test").glob("*_test.py")) if path.stem not in LEFT_OUT)
    return [*own, *(source / "test" / "contrib" / f"{name}.py" for name in CONTRIB)]


def ran(source: Path, file: Path, in_place: str, report: Path) -> tuple[set[str], int]:
    """The tests of a file that do not pass, and how many were run, in a process of their own: what they patch stays."""
    path = os.pathsep.join(map(str, (PLUGIN, source / "test", source)))
    env = {**os.environ, "PYTHONPATH": path, "SUPERLUIGI_IN_PLACE": in_place}
    env.pop("PYTEST_ADDOPTS", None)
    plugins = ("no:randomly", "no:superluigi", "no:cacheprovider", "ours_in_place")
    command = [sys.executable, "-m", "pytest", "-q", *(word for name in plugins for word in ("-p", name))]
    options = [f"--junitxml={report}", "-c", os.devnull, "--rootdir", str(source), "--timeout", "600"]
    if in_place in ENDLESS:
        options += ["--deselect", f"test/{ENDLESS[in_place]}"]
    subprocess.run([*command, *options, str(file)], cwd=source, env=env, capture_output=True, check=False, timeout=1200)
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = (case for case in cases if case.find("failure") is not None or case.find("error") is not None)
    return {f"{file.stem}::{case.get('name')}" for case in failed}, len(cases)


def failures(source: Path, in_place: str, folder: Path, expected: Set[str]) -> tuple[set[str], int]:
    """The tests that never pass, and how many were run. Some compare clocks: the unexpected has three tries."""

    def tried(file: Path) -> tuple[set[str], int]:
        failed, count = ran(source, file, in_place, folder / f"{file.stem}.xml")
        for again in ("again", "once-more"):
            if failed - expected:
                failed &= ran(source, file, in_place, folder / f"{file.stem}-{again}.xml")[0]
        return failed, count

    with ThreadPoolExecutor(4) as pool:  # many wait rather than compute
        results = list(pool.map(tried, files_of(source)))
    return set().union(*(failed for failed, _ in results)), sum(count for _, count in results)


@pytest.fixture(scope="module")
def stock(source: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    found, count = failures(source, "nothing", tmp_path_factory.mktemp("stock"), frozenset())
    assert count > 900
    return found


@pytest.mark.parametrize("in_place", ACCEPTED)
def test_luigis_own_tests_pass_with_ours_in_place(in_place: str, source: Path, stock: set[str], tmp_path: Path) -> None:
    known = stock | ACCEPTED[in_place]
    found, count = failures(source, in_place, tmp_path, known)
    assert count > 900
    assert sorted(found - known) == []
