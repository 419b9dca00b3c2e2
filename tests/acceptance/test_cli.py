"""The command line as a user meets it: output, exit codes, what a mistake is answered with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from superluigi.cli import main

PIPELINE = '''
"""Three tasks on local files."""
import datetime
import luigi
from superluigi.parameters import ChoiceParameter, DateParameter, IntParameter, Parameter
from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata


class Features(AtomicTaskWithMetadata):
    """Features of one day."""

    task_namespace = "demo"
    date = DateParameter()
    width = IntParameter(default=2, description="how many columns, 100% of them")

    def output(self):
        return LocalFileTarget(f"out/features-{self.date}-{self.width}.txt")

    def run(self, output_path):
        output_path.write_text("f" * self.width)


class Predictions(AtomicTaskWithMetadata):
    """Predictions of one day."""

    date = DateParameter(description="the day to predict")
    version = IntParameter(default=1)
    max_iter = IntParameter(default=10)
    kind = ChoiceParameter(choices=["linear", "tree"], default="tree")
    verbose = luigi.BoolParameter(significant=False)
    layers = luigi.ListParameter(default=[1], significant=False)
    workers = IntParameter(default=7, significant=False)
    token = Parameter(default="s3cr3t", visibility=luigi.parameter.ParameterVisibility.PRIVATE)

    def requires(self):
        return Features(date=self.date)

    def output(self):
        return LocalFileTarget(f"out/predictions-{self.date}-{self.version}.txt")

    def run(self, input_path, output_path):
        if self.version == 13:
            raise ValueError("thirteen brings bad luck")
        output_path.write_text(f"{input_path.read_text()} {self.max_iter} {self.kind} {self.verbose} {self.workers}")


today = Predictions(date=datetime.date(2013, 12, 15), version=5)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return tmp_path


def superluigi(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "superluigi", *words]
    settings = {**os.environ, "HOME": str(folder), **environment}
    return subprocess.run(
        command, cwd=folder, env=settings, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return superluigi(folder, "run", "pipeline", "Predictions", *words)


def test_run_makes_the_output_prints_where_it_is_and_exits_with_0(folder: Path) -> None:
    done = run(folder, "--date", "2013-12-15", "--version", "4")
    assert done.returncode == 0, done.stderr
    output = folder / "out" / "predictions-2013-12-15-4.txt"
    assert output.read_text() == "ff 10 tree False 7"
    assert "Outputs can be found at" in done.stdout and "out/predictions-2013-12-15-4.txt" in done.stdout
    assert "Luigi Execution Summary" in done.stdout + done.stderr


def test_a_failing_task_exits_with_1_and_names_the_task_and_its_error(folder: Path) -> None:
    done = run(folder, "--date", "2013-12-15", "--version", "13")
    assert done.returncode == 1
    assert "Predictions" in done.stderr and "thirteen brings bad luck" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(("TaskFailedError", "  "))


def test_flags_may_be_spelt_with_underscores_with_equals_and_with_the_family(folder: Path) -> None:
    done = run(folder, "--date=2013-12-15", "--max_iter", "3", "--Predictions-kind", "linear", "--verbose")
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "predictions-2013-12-15-1.txt").read_text() == "ff 3 linear True 7"


def test_a_parameter_named_like_an_option_is_reached_with_the_family(folder: Path) -> None:
    done = run(folder, "--date", "2013-12-15", "--workers", "1", "--Predictions-workers", "9")
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "predictions-2013-12-15-1.txt").read_text().endswith(" 9")


def test_another_tasks_parameter_is_set_with_its_family(folder: Path) -> None:
    done = run(folder, "--date", "2013-12-15", "--demo.Features-width", "5")
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "features-2013-12-15-5.txt").read_text() == "fffff"


def test_explicit_beats_configuration_beats_default(folder: Path) -> None:
    (folder / "my.cfg").write_text("[Predictions]\nversion = 8\nmax_iter = 99\n[demo.Features]\nwidth = 3\n")
    done = run(folder, "--config", "my.cfg", "--date", "2013-12-15", "--version", "4")
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "predictions-2013-12-15-4.txt").read_text() == "fff 99 tree False 7"


def test_a_task_may_be_namespaced_ready_made_or_in_a_file(folder: Path) -> None:
    other = folder / "elsewhere"
    other.mkdir()
    for words in (
        ("pipeline", "demo.Features", "--date", "2013-12-15"),
        ("pipeline", "today"),
    ):
        done = superluigi(folder, "run", *words)
        assert done.returncode == 0, done.stderr
    done = superluigi(other, "run", "../pipeline.py", "demo.Features", "--date", "2013-12-15")
    assert done.returncode == 0, done.stderr
    assert (other / "out" / "features-2013-12-15-2.txt").exists()
    assert (folder / "out" / "predictions-2013-12-15-5.txt").exists()


def test_a_task_of_a_declared_module_needs_no_module(folder: Path) -> None:
    declared = folder / "mine-1.0.dist-info"
    declared.mkdir()
    (declared / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (declared / "entry_points.txt").write_text("[superluigi.modules]\nmine = pipeline\n")
    done = superluigi(folder, "run", "Predictions", "--date", "2013-12-15", PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "predictions-2013-12-15-1.txt").exists()


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (("run", "pipeline", "Predictoins", "--date", "2013-12-15"), "did you mean Predictions?"),
        (("run", "pipelin", "Predictions"), "did you mean pipeline?"),
        (("run", "pipeline", "Predictions", "--date", "2013-12-15", "--config", "no.cfg"), "no.cfg"),
        (("run", "broken", "Any"), "NameError"),
        (("run", "misspelt", "Any"), "misspelt.py, line 2)"),
        (("run", "placeless", "Placeless"), "The path of a target is empty"),
        (("cancel", "placeless", "Placeless"), "no Super Luigi task"),
        (("run", "placeless", "Circle"), "in a circle"),
        (("adopt", "pipeline", "today"), "is not there"),
        (("accept", "pipeline", "today", "--why", "it is good"), "cannot be accepted"),
    ],
)
def test_what_does_not_exist_or_is_wrong_exits_with_1_and_says_what_to_do(
    words: tuple[str, ...], reply: str, folder: Path
) -> None:
    (folder / "broken.py").write_text("import json\n\nundefined_name\n")
    (folder / "misspelt.py").write_text("from superluigi.targets import LocalFileTarget\nLocalFileTarget('')\n")
    (folder / "placeless.py").write_text(
        "import luigi\nfrom superluigi.targets import LocalFileTarget\n"
        "class Placeless(luigi.Task):\n    def output(self):\n        return LocalFileTarget('')\n"
        "class Circle(luigi.Task):\n    def output(self):\n        return LocalFileTarget('circle')\n"
        "    def run(self):\n        yield self\n"
    )
    done = superluigi(folder, *words)
    assert done.returncode == 1, done.stderr
    assert reply in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (("rnu",), "did you mean run?"),
        (("run",), "MODULE, TASK"),
        ((), "which command?"),
        (("run", "pipeline", "today", "surplus"), "'surplus'"),
        (("run", "pipeline", "today", "--force", "--force-upstream"), "not allowed with"),
        (("run", "pipeline", "Predictions", "--workers", "many"), "--workers"),
        (("run", "pipeline"), "It has: Predictions, demo.Features."),
    ],
)
def test_a_command_line_that_cannot_be_read_exits_with_2(words: tuple[str, ...], reply: str, folder: Path) -> None:
    done = superluigi(folder, *words)
    assert done.returncode == 2, done.stderr
    assert reply in done.stderr and "Traceback" not in done.stderr
    assert not (folder / "out").exists()


OF_A_TASK = (
    *("run", "status", "why", "graph", "show", "ls", "rm", "logs", "cancel", "check", "adopt", "accept --why because"),
    "queue submit q.sqlite",
)
READ = """
import datetime
from superluigi.parameters import ChoiceParameter, DateParameter
from superluigi.tasks import AtomicTaskWithMetadata

class Read(AtomicTaskWithMetadata):
    task_namespace = __name__
    suffix = ".txt"
    date = DateParameter()
    kind = ChoiceParameter(choices=["a", "b"], default="a")

    def run(self, output_path):
        output_path.write_text("done")

today = Read(date=datetime.date(2013, 12, 15))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a task, in the current folder, for command lines in this process."""
    name = f"read_{os.urandom(4).hex()}"
    (tmp_path / f"{name}.py").write_text(READ)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return name


@pytest.mark.parametrize("command", OF_A_TASK)
def test_every_command_of_a_task_reads_its_parameters_alike(
    command: str, module: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for words, reply in (
        (["--date", "tomorrow"], "--date"),
        (["--date", "2013-12-15", "--kind", "c"], "one of a, b"),
        (["--date", "2013-12-15", "--knid", "a"], "did you mean --kind"),
        (["--dat=2013-12-15"], "did you mean --date"),
        (["--kind", "a"], "needs --date"),
        (["--date"], "--date"),
    ):
        code = main([*command.split(), module, f"{module}.Read", *words])
        said = capfd.readouterr().err
        assert (code, reply in said, "Traceback" in said) == (2, True, False), (words, code, said)


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("run MODULE today --workers 0", "--workers: '0'"),
        ("run MODULE today --force-upstream-to Rad", "Read"),
        ("run MODULE today --executor thread", "threads"),
        ("run MODULE today --force --refresh all", "give one of them"),
        ("run MODULE today --resume", "force"),
        ("run MODULE today --limit Read=often", "10/minute"),
        ("graph MODULE today --svg page.pdf", "page.pdf"),
        ("cache prune", "--to SIZE"),
        ("cache prune --to much", "--to"),
        ("lineage", "Which output?"),
        ("queue submit redis://host/q MODULE today", "redis"),
        ("queue submit q.sqlite MODULE today --pool nobodys", "nobodys"),
        ("queue tasks q.sqlite --state LOST", "LOST"),
        ("queue kill q.sqlite", "which tasks?"),
        ("queue prune q.sqlite", "--older DAYS"),
    ],
)
def test_an_option_that_means_nothing_exits_with_2(
    words: str, reply: str, module: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["queue", "submit", "q.sqlite", module, "today"]) == 0
    code = main(words.replace("MODULE", module).split())
    said = capfd.readouterr().err
    assert (code, reply in said, "Traceback" in said) == (2, True, False), (code, said)


def test_limits_and_resources_are_given_by_name(folder: Path) -> None:
    (folder / "limited.py").write_text(
        "import time\n"
        "import luigi\n"
        "from superluigi.parameters import IntParameter\n"
        "from superluigi.tasks import AtomicTaskWithMetadata\n"
        "class Call(AtomicTaskWithMetadata):\n"
        "    number = IntParameter()\n"
        "    channel, suffix, resources = 'api', '.txt', {'gpu': 2}\n"
        "    def run(self, output_path):\n"
        "        output_path.write_text(str(time.time()))\n"
        "class Calls(luigi.WrapperTask):\n"
        "    def requires(self):\n"
        "        return [Call(number=n) for n in range(3)]\n"
    )
    words = ("run", "limited.py", "Calls", "--workers", "3", "--executor", "threads", "--resource", "gpu=4")
    done = superluigi(folder, *words, "--limit", "api=1/1s")
    assert done.returncode == 0, done.stderr
    first, _, third = sorted(float(path.read_text()) for path in folder.glob("superluigi-data/Call/*.txt"))
    assert third - first >= 1  # 2 but for the time that a start takes on a crowded machine


@pytest.mark.parametrize(
    "words", [("--limit", "api"), ("--limit", "=3"), ("--limit", "api=often"), ("--resource", "gpu=1.5")]
)
def test_a_limit_that_cannot_be_read_is_answered_with_an_example(words: tuple[str, ...], folder: Path) -> None:
    refused = run(folder, "--date", "2013-12-15", *words)
    assert refused.returncode == 2
    assert "10/minute" in refused.stderr or "gpu" in refused.stderr
    assert not (folder / "out").exists()


def test_help_of_a_task_shows_its_parameters_with_luigis_descriptions_and_defaults_but_no_secret(folder: Path) -> None:
    (folder / "my.cfg").write_text("[Predictions]\nversion = 8\n")
    done = superluigi(folder, "run", "pipeline", "Predictions", "--config", "my.cfg", "--help")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "--date DATE the day to predict (required)" in words
    assert "--version INT (default: 8)" in words
    assert "one of linear, tree (default: tree)" in words
    assert "Predictions of one day." in words
    assert "--Predictions-workers INT (default: 7)" in words
    assert "s3cr3t" not in words


def test_help_lists_every_command_and_each_has_help_with_an_example(folder: Path) -> None:
    from superluigi.cli import command_lines

    listed = superluigi(folder, "--help")
    assert listed.returncode == 0
    for name, line in command_lines().items():
        assert f"  {name} " in listed.stdout and len(line) > 10, name
        helped = superluigi(folder, name, "--help")
        assert helped.returncode == 0, helped.stderr
        assert "example:" in helped.stdout and "exit codes:" in helped.stdout, name
        assert f"superluigi {name}" in helped.stdout.split("example:")[1], name


def test_help_imports_neither_luigi_nor_anything_heavy(folder: Path) -> None:
    program = (
        "import sys, json; from superluigi.cli import main; main(['--help'])\n"
        "print(json.dumps(sorted({'luigi', 'boto3', 'pandas', 'rich', 'sqlalchemy', 'asyncio'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, timeout=60)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_output_that_nobody_reads_to_the_end_is_no_traceback(folder: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m superluigi --help | head -1",
        shell=True, capture_output=True, text=True, cwd=folder, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith("usage:") and "Traceback" not in done.stderr


@pytest.mark.parametrize("path", ["x" * 300, "x/" * 3000, "round/round", "a file/below"])
@pytest.mark.parametrize("command", ["clean", "verify", "lineage", "rm", "adopt", "ls", "graph", "logs"])
def test_a_path_that_the_system_refuses_is_advice_and_no_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, path: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "round").symlink_to("round")
    (folder / "a file").touch()
    assert main([command, path]) in (1, 2)
    told = capsys.readouterr().err
    assert "Traceback" not in told and len(told) < 7000, told


@pytest.mark.parametrize("path", ["/", "//", ""])
def test_the_root_of_all_folders_has_no_lineage(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(folder)
    assert main(["lineage", path]) in (0, 1, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_what_a_pipeline_cannot_open_is_told_with_its_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "broken.py").write_text("open('not/there')\n")
    assert main(["status", "broken.py", "Any"]) == 1
    assert "not/there" in capsys.readouterr().err
