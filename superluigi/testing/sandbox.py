"""For tests of your own pipelines: a place that vanishes, records to compare, one task without its requirements."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from luigi.task_register import Register

from superluigi import graph
from superluigi.errors import DefinitionError
from superluigi.execution.attempt import reporter_attached
from superluigi.testing.fake_inputs import given

if TYPE_CHECKING:
    import luigi

    from superluigi.testing.s3_server import S3Server

#: Refuses connections: a test that forgot to ask for S3 must not reach a real one.
_NOWHERE = "http://127.0.0.1:9"
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "superluigi",
    "AWS_SECRET_ACCESS_KEY": "superluigi-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_FILES = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
_OTHERS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE")


class Sandbox:
    """Where tasks run in a test: a store, a workspace, an S3 server once it is asked for."""

    def __init__(self, root: Path, stack: contextlib.ExitStack, outside: Mapping[str, str]) -> None:
        self.root = root
        #: The default home of outputs.
        self.store = root / "store"
        #: Task folders: logs, checkpoints.
        self.workspace = root / "workspace"
        #: Local copies of S3 data.
        self.local_data = root / "data"
        self._stack, self._outside = stack, outside
        self._s3: S3Server | None = None

    @property
    def s3(self) -> S3Server:
        """The S3 server of this place, started when it is first asked for; tasks reach it without any options.

        Raises:
            MissingDependencyError: moto is not installed.
        """
        if self._s3 is None:
            from superluigi.testing.s3_server import ENDPOINT_VARIABLE, s3_server

            if ENDPOINT_VARIABLE in os.environ:  # a server that knows whom it lets in
                for name in (*_CREDENTIALS, *_FILES):
                    os.environ.pop(name)
                os.environ.update(self._outside)
            self._s3 = self._stack.enter_context(s3_server())
            self._stack.callback(self._s3.reset)
            os.environ["AWS_ENDPOINT_URL"] = self._s3.endpoint_url
        return self._s3

    def bucket(self, name: str | None = None) -> str:
        """A new bucket, gone with the place; with a fresh name if none is given."""
        return self.s3.create_bucket(name)


@contextlib.contextmanager
def run_in(folder: str | os.PathLike[str] | None = None) -> Iterator[Sandbox]:
    """While this is open, tasks of this process and its children use a store, a workspace and an S3 that vanish.

    They are made inside `folder` (pytest's `tmp_path`), by default in the system's temporary folder. No AWS
    credentials are read, but for a server that `SUPERLUIGI_TEST_S3_ENDPOINT` names; without `Sandbox.s3` there is no S3
    at all. Commits are not flushed to disk.
    """
    parent = None if folder is None else Path(folder).absolute()
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="superluigi-", dir=parent))
    settings = {
        "SUPERLUIGI_STORE": str(root / "store"),
        "SUPERLUIGI_WORKSPACE": str(root / "workspace"),
        "SUPERLUIGI_LOCAL_DATA_DIR": str(root / "data"),
        "SUPERLUIGI_QUEUE_DIR": str(root / "queues"),
        "SUPERLUIGI_DURABLE": "false",
        "AWS_ENDPOINT_URL": _NOWHERE,
        **dict.fromkeys(_FILES, str(root / "none")),
        **_CREDENTIALS,
    }
    names = {*_CREDENTIALS, *_FILES, *_OTHERS} - {"AWS_ENDPOINT_URL_S3"}
    outside = {name: value for name, value in os.environ.items() if name in names}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        stack.callback(Register.clear_instance_cache)  # what tasks remember of this place goes with it
        stack.enter_context(mock.patch.dict(os.environ, settings))
        for name in _OTHERS:
            os.environ.pop(name, None)
        Register.clear_instance_cache()
        yield Sandbox(root, stack, outside)


def assert_record(made: Any, **expected: Any) -> dict[str, Any]:
    """Check the record of a task or target; returns the record.

    Each keyword names a top-level key of the record, ours (`params`, `run`, `code`) or the user's own. An expected
    dict is a part of the actual one; a function is called with the actual value and says whether it will do;
    anything else must be equal.

        assert_record(Train(lr=0.1), params={"lr": 0.1}, rows=lambda rows: rows > 100)

    Raises:
        AssertionError: there is no record, or it differs; the message lists every difference.
    """
    targets = graph.flatten(made.output()) if hasattr(made, "output") else [made]
    if len(targets) != 1:
        raise DefinitionError(f"{made} has {len(targets)} outputs. Give one of its targets.")
    record: dict[str, Any] | None = targets[0].read_metadata() if targets[0].exists() else None
    if record is None:
        state = "has no record" if targets[0].exists() else "does not exist"
        raise AssertionError(f"{targets[0]} {state}.")
    differences = list(_differences(expected, record, ""))
    if differences:
        raise AssertionError(f"The record of {targets[0]} differs:\n  " + "\n  ".join(differences))
    return record


def _differences(expected: Mapping[str, object], actual: Mapping[str, Any], where: str) -> Iterator[str]:
    for key, value in expected.items():
        name = f"{where}{key}"
        if key not in actual:
            yield f"{name}: missing (there are: {', '.join(map(str, actual))})"
        elif isinstance(value, Mapping) and isinstance(actual[key], Mapping):
            yield from _differences(value, actual[key], f"{name}.")
        elif callable(value):
            if not value(actual[key]):
                yield f"{name}: {actual[key]!r} will not do"
        elif value != actual[key]:
            yield f"{name}: expected {value!r}, found {actual[key]!r}"


def run_alone(task: luigi.Task, inputs: object = None) -> Any:
    """Run one task with fake inputs, without its requirements; returns its output path(s), as `run_task` does.

    `inputs` has the shape of `requires()`: for each required task a value, which is saved as the real output's
    suffix says, or the Path of a file or folder to use in its place.

        run_alone(Features(day), inputs={"flights": pd.DataFrame(...)})

    Raises:
        DefinitionError: `inputs` has another shape than `requires()`; or `run` yields a requirement.
        Exception: what the task raises, as it is.
    """
    with tempfile.TemporaryDirectory(prefix="superluigi-given-") as folder:
        steps = _run(given(task, inputs, Path(folder)))
        if steps is not None:
            raise DefinitionError(f"{task} yields {steps!r}, which run_alone cannot make. Use run_task.")
    return graph.map_structure(lambda target: getattr(target, "path", target), task.output())


def _run(task: luigi.Task) -> object:
    run: Callable[[], Any] = task.run
    with reporter_attached(task):
        value = run()
        if not hasattr(value, "send"):
            return None
        with contextlib.closing(value):
            try:
                return next(value)
            except StopIteration:
                return None
