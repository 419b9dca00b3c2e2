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
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

PLUGIN = Path(__file__).parents[2] / "data" / "luigis_tests"
FILES = (
    *("customized_run_test", "date_interval_test", "decorator_test", "dynamic_import_test", "event_callbacks_test"),
    *("execution_summary_test", "instance_test", "instance_wrap_test", "local_target_test", "mock_test"),
    *("parameter_test", "priority_test", "range_test", "recursion_test", "scheduler_api_test"),
    *("scheduler_message_test", "scheduler_test", "subtask_test", "target_test", "task_bulk_complete_test"),
    *("task_forwarded_attributes_test", "task_progress_percentage_test", "task_register_test"),
    *("task_running_resources_test", "task_serialize_test", "task_status_message_test", "task_test", "util_test"),
    *(
        "visible_parameters_test",
        "worker_external_task_test",
        "worker_scheduler_test",
        "worker_task_test",
        "worker_test",
    ),
)
#: What is put in place -> tests that fail then and pass with stock Luigi.
ACCEPTED: dict[str, set[str]] = {
    "tasks": {
        # makes up names of parameters, `complete` among them, which are reserved
        "task_serialize_test::test_json_serializable",
        # has an `__init__` of its own that calls no other: ours is refused when the task is made, not when it is run
        "worker_task_test::test_constructor",
        # give a parameter a value of another type (a float or tuple for an int, a str for a timedelta), which
        # is refused: Luigi warns, or takes it
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
        # replaces the clock of Luigi's own worker, which ours does not look at
        "event_callbacks_test::test_processing_time_handler_success",
        "worker_external_task_test::test_external_dependency_already_complete",
        *(
            f"worker_test::{name}"
            for name in (
                "test_announce_scheduling_failure_unexpected_error",
                "test_cache_task_completion_config",
                "test_no_process_leak_from_repeatedly_running_same_task",
                "test_process_killed_handler",
                "test_purge_hung_worker_default_timeout_time",
                "test_purge_hung_worker_override_timeout_time",
                "test_stop_worker_kills_subprocesses",
                "test_timeout_handler",
                "test_timeout_handler_single_worker",
                "test_unfulfilled_dep",
            )
        ),
        # fail with stock Luigi now and then too: they compare clocks
        "scheduler_test::test_sending_same_task_twice_with_cooldown_does_not_lead_to_double_run",
        "scheduler_test::test_sending_same_task_twice_without_cooldown_leads_to_double_run",
    },
}


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


def failures(source: Path, in_place: str) -> tuple[set[str], int]:
    """The tests that do not pass, and how many were run."""
    found: set[str] = set()
    count = 0
    for name in FILES:  # a process each: what they patch stays
        file = source / "test" / f"{name}.py"
        if not file.exists():
            continue
        report = source / f"{name}.xml"
        env = {**os.environ, "PYTHONPATH": f"{PLUGIN}:{source / 'test'}:{source}", "SUPERLUIGI_IN_PLACE": in_place}
        env.pop("PYTEST_ADDOPTS", None)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:randomly",
            "-p",
            "no:superluigi",
            "-p",
            "ours_in_place",
        ]
        options = [f"--junitxml={report}", "-c", os.devnull, "--rootdir", str(source), "--timeout", "120"]
        subprocess.run(
            [*command, *options, str(file)], cwd=source, env=env, capture_output=True, check=False, timeout=900
        )
        for case in ElementTree.parse(report).iter("testcase"):
            count += 1
            if case.find("failure") is not None or case.find("error") is not None:
                found.add(f"{name}::{case.get('name')}")
    return found, count


@pytest.fixture(scope="module")
def stock(source: Path) -> set[str]:
    found, count = failures(source, "nothing")
    assert count > 500
    return found


@pytest.mark.parametrize("in_place", ACCEPTED)
def test_luigis_own_tests_pass_with_ours_in_place(in_place: str, source: Path, stock: set[str]) -> None:
    found, count = failures(source, in_place)
    assert count > 500
    assert sorted(found - stock - ACCEPTED[in_place]) == []
