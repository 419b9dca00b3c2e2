"""Names of queues, what commands tell by their exit codes, and that a pause is never silent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import postgres_support as postgres
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from superluigi import cli, run_task
from superluigi.errors import OptionError, QueueError, QueueGoneError, SuperLuigiError
from superluigi.queue import Queue, run_task_adapter
from superluigi.queue.store.database import Database
from superluigi.queue.store.queue_url import url_of
from superluigi.queue.web import QueueScheduler

Project = Callable[[str], ModuleType]

TASKS = """
    class Fails(luigi.Task):
        def run(self):
            raise ValueError("no")

    class Works(luigi.Task):
        number = luigi.IntParameter(default=0)
        def run(self):
            pass

    class Second(luigi.Task):
        retry_count = 2
        def output(self):
            return luigi.LocalTarget("second.txt")
        def run(self):
            if not os.path.exists("first"):
                pathlib.Path("first").touch()
                raise ValueError("not yet")
            pathlib.Path("second.txt").touch()
"""


@pytest.fixture
def queues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "queues"
    monkeypatch.setenv("SUPERLUIGI_QUEUE_DIR", str(folder))
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "../x", "./x", "/tmp/x", "~/x", "a/../../x", "a/./x", ".", "..", ".x", "a/.x", "", " ", "a b", "a//b", "a/",
        "/", "x\0y", "x\n", "a\\b", "-x", "e\u0301", "x\u202ey", "n" * 300, "a/" + "n" * 240, ".sqlite", "\ud800",
        "x\0.sqlite",
    ],
)  # fmt: skip
def test_no_name_leaves_the_folder_of_queues(name: str, queues: Path) -> None:
    with pytest.raises(OptionError):
        url_of(name)


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=300) | st.text(alphabet="./~ab-_\0:é\\", max_size=12))
def test_any_name_is_refused_or_means_a_file_in_the_folder(queues: Path, name: str) -> None:
    if "://" in name or name.endswith(".sqlite") or name.startswith("env:"):
        return
    try:
        file = Path(str(url_of(name).database))
    except OptionError:
        return
    assert queues in file.parents and file.resolve() == file and file.suffix == ".sqlite"
    assert len(f"{file.name}-wal".encode()) <= 255


def test_names_that_differ_in_case_only_are_one_queue_or_none(queues: Path) -> None:
    Queue("team/Pi").close()
    for _ in range(2):
        with pytest.raises(OptionError, match="upper and lower case"):
            Queue("team/pi")
        Queue("team/Pi").close()
    Queue("pi").close()  # in another folder
    Queue("team/Pi2").close()


def test_logs_of_queues_on_servers_stay_in_the_folder_and_apart(queues: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Database, "__init__", lambda self, name: self.__dict__.update(url=url_of(name), is_sqlite=False)
    )
    names = (
        "postgresql://a/q",
        "postgresql://b/q",
        "postgresql://a:1/q",
        "postgresql://a/..%2F..%2Fq",
        "postgresql:///q",
        "postgresql://a/q?options=-csearch_path%3Dtheirs",
    )
    logs = [Database(name).logs for name in names]
    assert len(set(logs)) == len(logs)
    assert all(folder.resolve() == folder and queues in folder.parents for folder in logs)
    assert queues / "q.logs" not in logs


def test_spawn_and_work_tell_by_their_exit_code_that_tasks_failed(queues: Path, project: Project) -> None:
    module = project(TASKS)
    with Queue("good") as queue:
        queue.submit([module.Works(), module.Second()])
    assert cli.main(["queue", "work", "good"]) == 0  # one attempt failed, no task did
    assert cli.main(["queue", "spawn", "good"]) == 0
    with Queue("bad") as queue:
        queue.submit([module.Works(), module.Fails()])
    assert cli.main(["queue", "work", "bad"]) == 1
    with Queue("bad") as queue:
        queue.retry()
    assert cli.main(["queue", "spawn", "bad", "--workers", "1"]) == 1


def test_queues_are_deleted_by_pattern_after_a_list(queues: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("my_a", "my_b", "other"):
        Queue(name).close()
    (queues / "my_c.sqlite").write_bytes(b"no database" * 100)
    assert cli.main(["queue", "delete", "my_[ab]"]) == 1
    said = capsys.readouterr()
    assert "my_a.sqlite" in said.out and "my_b.sqlite" in said.out and "add --force" in said.err
    assert len(list(queues.glob("*.sqlite"))) == 4
    assert cli.main(["queue", "delete", "my_*", "--force"]) == 1  # one of them is damaged, and stays
    assert "my_c" in capsys.readouterr().err
    assert sorted(file.name for file in queues.glob("*.sqlite")) == ["my_c.sqlite", "other.sqlite"]
    capsys.readouterr()
    assert cli.main(["queue", "delete", "none_*", "--force"]) == 1
    assert "no queue matches 'none_*'; there are my_c, other" in capsys.readouterr().err
    assert cli.main(["queue", "delete", "other", "--force"]) == 0


@pytest.mark.parametrize("verb", [["retry"], ["kill"], ["kill", "--force"]])
def test_a_name_that_no_task_has_is_an_error_that_says_which_there_are(
    queues: Path, project: Project, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    module = project(TASKS)
    Queue("empty").close()
    with Queue("q") as queue:
        queue.submit([module.Works(), module.Fails()])
        for name in ("Wroks", "w*", "Works?"):
            assert cli.main(["queue", verb[0], "q", *verb[1:], "--name", name, "--state", "PENDING"]) == 1, name
            said = capsys.readouterr()
            assert f"no task is called {name!r} in the queue q; there are Fails, Works" in said.err and not said.out
        assert cli.main(["queue", verb[0], "empty", *verb[1:], "--name", "*"]) == 1
        assert "there are none at all" in capsys.readouterr().err
        assert queue.counts()["PENDING"] == 2
        queue.kill(name="*")
        assert cli.main(["queue", "kill", "q", "--name", "Work*", "--force"]) == 0  # it is there, and killed already


def _refused(module: ModuleType) -> dict[str, Callable[[], object]]:
    def submit(*words: str) -> Callable[[], object]:
        return lambda: cli.main(["queue", "submit", "new/q", *words])

    return {
        "pool": submit(module.__name__, "Works", "--pool", "nope"),
        "own pool": submit(module.__name__, "Elsewhere"),
        "force": submit(module.__name__, "Works", "--force-upstream-to", "Nobody"),
        "requires": submit(module.__name__, "AsksInVain"),
        "complete": submit(module.__name__, "DoesNotKnow"),
        "circle": lambda: run_task(module.Circle(), queue="new/q"),
        "run_task": lambda: run_task(module.Elsewhere(), queue="new/q", resources={"x": 2}),
        "file": lambda: run_task(module.DoesNotKnow(), queue=str(Path("new/q.sqlite").absolute())),
    }


REFUSED = """
    class Works(luigi.Task):
        def run(self):
            pass

    class Elsewhere(Works):
        pool = "nope"

    class AsksInVain(Works):
        def requires(self):
            raise LookupError("nothing to ask for")

    class DoesNotKnow(Works):
        def complete(self):
            raise LookupError("who knows")

    class Circle(Works):
        def requires(self):
            return Circle()
"""


@pytest.mark.parametrize("kind", _refused(ModuleType("none")))
def test_what_is_refused_leaves_no_queue_behind(queues: Path, project: Project, kind: str) -> None:
    refused = _refused(project(REFUSED))[kind]
    with contextlib.suppress(SuperLuigiError):
        assert refused() != 0
    assert not queues.exists() and not Path("new").exists()
    with Queue("new/q") as queue, contextlib.suppress(SuperLuigiError):
        assert refused() != 0
    assert not any(queue.counts().values())


def test_what_is_refused_leaves_no_tables_on_a_server(postgres_server: str, project: Project) -> None:
    address = postgres.database(postgres_server, "refusing")
    assert cli.main(["queue", "submit", address, project(REFUSED).__name__, "Elsewhere"]) != 0
    with pytest.raises(QueueGoneError):
        Queue(address, create=False)


def test_what_a_task_raises_when_a_queue_asks_for_its_requirements_is_told_by_its_name(
    queues: Path, project: Project
) -> None:
    with Queue("q") as queue, pytest.raises(QueueError, match=r"requires\(\) of AsksInVain\(\) raised, nothing was"):
        queue.submit(project(REFUSED).AsksInVain())


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_list_in_which_a_queue_cannot_be_read_shows_the_others_and_ends_with_an_error(
    queues: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    Queue("good").close()
    assert cli.main(["queue", "list", *form]) == 0
    (queues / "bad.sqlite").write_bytes(b"no database" * 100)
    for pattern in ([], ["b*"], [str(queues / "none.sqlite")], ["postgresql://nobody@127.0.0.1:9/none"]):
        capsys.readouterr()
        assert cli.main(["queue", "list", *pattern, *form]) == 1, pattern
        assert ("good" in capsys.readouterr().out) == (not pattern)


def test_a_pause_is_said_wherever_it_is_felt(
    queues: Path, project: Project, capsys: pytest.CaptureFixture[str], mocker: MockerFixture
) -> None:
    module = project(TASKS)
    with Queue("q") as queue:
        queue.submit(module.Works())
        queue.pause()
        assert QueueScheduler(queue).is_paused() == {"paused": True}
    for words in (["spawn", "q"], ["work", "q"], ["tasks", "q"], ["list"], ["top", "q", "--once"]):
        cli.main(["queue", *words])
        said = capsys.readouterr()
        assert "paused" in said.out + said.err, words
    warned = mocker.spy(run_task_adapter.logger, "warning")
    with contextlib.suppress(SuperLuigiError):
        run_task(module.Works(number=1), queue="q")
    assert "is paused: 2 ready tasks are not started" in str(warned.call_args_list)
    with Queue("q") as queue:
        queue.resume()
        assert queue.said_of_pause() == ""


def test_no_command_says_the_password_of_a_queue(postgres_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    user, at, host = postgres.database(postgres_server, "secretive").rpartition("@")
    for name in (f"{user}:secret{at}{host}", f"{user}{at}{host}?password=secret"):
        Queue(name).close()
        for verb in ("list", "tasks", "time", "top --once", "pause", "tasks", "work", "spawn", "resume", "delete"):
            cli.main(["queue", *verb.split()[:1], name, *verb.split()[1:]])
            said = capsys.readouterr()
            assert "secret" not in (said.out + said.err).replace("secretive", ""), verb


def test_a_queue_command_that_is_not_finished_gives_advice(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["queue"]) == 2
    assert "which verb? submit" in capsys.readouterr().err
    assert cli.main(["queue", "tasks"]) == 2
    assert "missing: QUEUE" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["tasks"], ["tasks", "--json"], ["retry"], ["kill"], ["kill", "--force"]])
def test_an_id_that_no_task_has_is_an_error_and_nothing_is_done_to_the_others(
    queues: Path, project: Project, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    module = project(TASKS)
    with Queue("q") as queue:
        queue.submit([module.Works(), module.Fails()])
        queue.kill(module.Fails())
        known = module.Works().task_id, module.Fails().task_id
        for ids in (["Nobody_1"], [known[0], "Nobody_1", known[1]]):
            command = ["queue", verb[0], "q", *verb[1:], *[word for one in ids for word in ("--id", one)]]
            assert cli.main(command) == 1, ids
            said = capsys.readouterr()
            assert "has no task Nobody_1" in said.err and "superluigi queue tasks" in said.err
            assert not said.out or verb[1:] == ["--json"]
        for steer in (queue.kill, queue.retry):
            with pytest.raises(QueueError, match="Nobody_1"):
                steer([known[1], ["Nobody_1"]])
        assert {row.name: row.state for row in queue.tasks()} == {"Works": "PENDING", "Fails": "KILLED"}


def test_of_the_folder_of_logs_only_what_the_queue_has_put_there_goes_with_it(queues: Path, project: Project) -> None:
    module = project(TASKS)
    Queue("q.logs/inner").close()  # another queue, in that folder
    inner = Queue(str(queues / "q.logs" / "workers" / "inner.sqlite"))
    with Queue("q") as queue, Queue("q.logs/inner") as other:
        for one in (queue, other, inner):
            one.submit(module.Works())
            one.spawn(1)
        mine, theirs = (Path(str(one.tasks()[0].log)) for one in (queue, other))
        notes = mine.with_name("notes.txt")
        notes.touch()
        queue.delete()
        assert not mine.exists() and theirs.exists() and notes.exists()
        assert not list((queues / "q.logs" / "workers").glob("*.out"))
        assert other.counts()["SUCCEEDED"] == inner.counts()["SUCCEEDED"] == 1
        with Queue(f"sqlite:///{queues}/q.db") as beside:
            assert beside.logs != queue.logs
        notes.unlink()
    inner.close()


def test_a_queue_without_guests_leaves_no_folder_of_logs(queues: Path, project: Project) -> None:
    with Queue("q") as queue:
        queue.submit(project(TASKS).Works())
        queue.spawn(1)
        queue.delete()
        assert not queue.logs.exists()
