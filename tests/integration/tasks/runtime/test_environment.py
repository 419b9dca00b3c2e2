"""Environment variables of tasks: added, exact, and seen by nobody else."""

from __future__ import annotations

import os
from typing import Any

import pytest

from superluigi.errors import CommandFailedError, DefinitionError
from superluigi.tasks.runtime.environment import Environment, parse, resolve

ODD = {"A": "1=2=3", "B": "line\nbreak\n", "C": "'\" $HOME `id` \\", "D": "", "UNICODE": "ü ∂", "E F": "space"}

TASKS = f"""
ODD = {ODD!r}
class Sees(Base):
    environment = {{**ODD, "PATHLIKE": Path("/x"), "NUMBER": 3, "DROPPED": None}}
    def run(self, output_path):
        seen = subprocess.run(["env", "-0"], capture_output=True).stdout
        theirs = dict(entry.split("=", 1) for entry in seen.decode().split("\\0") if entry)
        for env in (os.environ, theirs):
            assert {{k: env[k] for k in ODD}} == ODD, dict(env)
            assert env["PATHLIKE"] == "/x" and env["NUMBER"] == "3" and "DROPPED" not in env
            assert env["HOME"] and env["PATH"] == os.environ["PATH"]
        assert os.getenv("A") == "1=2=3" and "A" in os.environ and "DROPPED" not in list(os.environ)
        assert os.system('test "$NUMBER" = 3') == 0
        assert os.popen("echo $NUMBER").read() == "3\\n"
        os.environ["LEFT"] = "behind"; os.environ["A"] = "changed"
        output_path.write_text("ok")
class Next(Base):
    def requires(self):
        return Sees()
    def run(self, output_path, input_path):
        assert not [k for k in ODD if k in os.environ], "the next task in this process sees nothing of it"
        assert os.environ["DROPPED"] == "back"
        output_path.write_text("ok")
"""


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_variables_hold_anything_and_end_with_the_task(user: Any, executor: str | None) -> None:
    user.write(TASKS)
    user.run(
        f"""
        run_task(Next(), executor={executor!r})
        assert "A" not in os.environ and os.environ["DROPPED"] == "back"
        assert type(os.environ).__name__ == "_Environ"
        """,
        DROPPED="back",
    )


def test_a_hundred_tasks_beside_threads_have_a_hundred_environments(user: Any) -> None:
    """Each in a process of its own: a process has one table of variables."""
    user.write("""
        class Other(Task):
            x = IntParameter()
            pids = {}
            def run(self):
                assert "ONLY_MINE" not in os.environ
                self.pids[self.x] = os.getpid()
            def complete(self):
                return self.x in self.pids
        class One(Base):
            x = IntParameter()
            @property
            def environment(self):
                return {"ONLY_MINE": str(self.x), f"KEY_{self.x}": "1"}
            def run(self, output_path):
                getenv = ctypes.CDLL(None).getenv
                getenv.restype = ctypes.c_char_p
                assert getenv(b"ONLY_MINE") == str(self.x).encode()
                for _ in range(3):
                    assert os.environ["ONLY_MINE"] == str(self.x)
                    assert [k for k in os.environ if k.startswith("KEY_")] == [f"KEY_{self.x}"]
                    time.sleep(0.001)
                if self.x % 10 == 0:
                    seen = []
                    said = subprocess.run("echo $ONLY_MINE", shell=True, capture_output=True, text=True).stdout
                    assert said == f"{self.x}\\n"
                    inner = threading.Thread(target=lambda: seen.append(os.environ["ONLY_MINE"]))
                    inner.start(); inner.join()
                    assert seen == [str(self.x)]
                output_path.write_text(str(os.getpid()))
    """)
    user.run("""
        from superluigi.engine.engine import run_graph
        ones, others = [One(x) for x in range(100)], [Other(x) for x in range(100)]
        report = run_graph([*ones, *others], num_workers=2, executor="threads")
        assert report.success, report.describe()
        assert set(Other.pids.values()) == {os.getpid()}
        assert str(os.getpid()) not in {one.output().path.read_text() for one in ones}
        assert "ONLY_MINE" not in os.environ
    """)


def test_the_run_adds_to_all_and_a_class_wins(user: Any) -> None:
    user.write("""
        class Tells(Base):
            environment = {"BOTH": "class"}
            def run(self, output_path):
                output_path.write_text(f"{os.environ['BOTH']} {os.environ['RUNS']}")
    """)
    out = user.run("""
        env = {"BOTH": "run", "RUNS": "a=b"}
        for executor in (None, "processes"):
            print(run_task(Tells(), environment=env, force=True, executor=executor).read_text())
    """)
    assert out.count("class a=b") == 2


def test_a_command_sets_up_more(user: Any) -> None:
    user.write("""
        from superluigi.tasks import Environment
        class Sourced(Base):
            environment = Environment(data={"LEVEL": "1"}, command=". ./settings.sh; echo noise")
            def run(self, output_path):
                output_path.write_text(repr([os.environ.get(k) for k in ("LEVEL", "DERIVED", "MANY", "GONE")]))
        class Broken(Base):
            environment = Environment(command="echo no such module >&2; exit 3")
            def run(self, output_path):
                output_path.write_text("never")
    """)
    (user.folder / "settings.sh").write_text("export DERIVED=$LEVEL$LEVEL; export MANY=$(printf 'a\\nb=c'); unset GONE")
    out = user.run("print(run_task(Sourced(), executor='processes').read_text())", GONE="there")
    assert "['1', '11', 'a\\nb=c', None]" in out
    out = user.run("run_task(Broken())", expect=1)
    assert "ended with exit code 3: no such module" in out


@pytest.mark.parametrize(
    "data", [{"A=B": "1"}, {"": "1"}, {"A": "nul\0"}, {"A": True}, {"A": ["list"]}, {1: "x"}], ids=repr
)
def test_what_no_environment_can_hold_is_refused_by_name(data: dict[Any, Any]) -> None:
    with pytest.raises(DefinitionError, match=r"(?i)environment"):
        Environment(data).variables({})


def test_an_environment_survives_its_way_as_json() -> None:
    import json

    option = json.loads(json.dumps(Environment({"A": "1\n=", "B": None}, "true").as_option()))
    assert parse(option) == Environment({"A": "1\n=", "B": None}, "true")
    assert parse({"data": "x", "command": "y", "shell": "z"}).data == {"data": "x", "command": "y", "shell": "z"}
    with pytest.raises(DefinitionError, match="Give a dict"):
        parse("A=1")


def test_later_environments_win_and_their_commands_see_the_earlier_ones() -> None:
    parts = [Environment({"A": "1", "B": "1"}), Environment({"B": "2"}, "export C=$A$B")]
    assert resolve(parts, dict(os.environ)) == {"A": "1", "B": "2", "C": "12"}
    with pytest.raises(CommandFailedError, match="cannot be started"):
        Environment(command="true", shell=("no-such-shell", "-c")).variables({})
