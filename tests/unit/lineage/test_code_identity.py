"""The digest of a task's code: what changes it, what does not, and what it says."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi
import pytest

from superluigi.lineage.code_fingerprint import code, code_parts, environment, git

PIPELINE = """
import luigi
import toolbox
from toolbox.tables import clean as tidy

LIMIT = 10


class Base(luigi.Task):
    def shared(self):
        return 1


class Upstream(Base):
    def run(self):
        return 2


class Features(Base):
    \"\"\"A docstring.\"\"\"

    date = luigi.Parameter(default="x")

    def requires(self):
        return Upstream()

    def run(self):
        import yaml
        model = toolbox.Model()
        return tidy([1, 2])[:LIMIT], model.fit(), yaml.dump(1)
"""
TOOLBOX = {
    "toolbox/__init__.py": "from toolbox.models import Model\n",
    "toolbox/models.py": "class Model:\n    def fit(self):\n        return step(3)\n\ndef step(x):\n    return x + 1\n",
    "toolbox/tables.py": (
        "import math\n\ndef clean(rows):\n    return [math.floor(r) for r in rows]\n\ndef unused():\n    return 0\n"
    ),
}
Load = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write the pipeline with changes, import it afresh, return its module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write_and_import(**changes: tuple[str, str]) -> Any:
        files = {"pipeline_of_test.py": PIPELINE, **TOOLBOX}
        for name, (old, new) in changes.items():
            path = {"pipeline": "pipeline_of_test.py"}.get(name, f"toolbox/{name}.py")
            assert old in files[path], "the change must hit something"
            files[path] = files[path].replace(old, new)
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text)
        for module in [name for name in sys.modules if name.split(".")[0] in ("pipeline_of_test", "toolbox")]:
            del sys.modules[module]
        for cache in tmp_path.rglob("__pycache__/*"):  # two writes within a second look alike to Python's cache
            cache.unlink()
        importlib.invalidate_caches()
        return importlib.import_module("pipeline_of_test")

    return write_and_import


@pytest.mark.parametrize(
    "change",
    [
        {"pipeline": ("return 1", "return 1  # one")},
        {"pipeline": ('"""A docstring."""', '"""Another docstring."""')},
        {"pipeline": ("model = toolbox.Model()", "model = (\n            toolbox.Model()\n        )")},
        {
            "pipeline": (
                "class Upstream(Base):\n    def run(self):\n        return 2",
                "class Upstream(Base):\n    pass",
            )
        },
        {"tables": ("return 0", "return 1")},
        {"tables": ("import math\n", "import math\nOTHER = 5\n")},
    ],
    ids=["comment", "docstring", "formatting", "another task", "a function not reached", "a constant not reached"],
)
def test_what_cannot_change_the_result_keeps_the_digest(load: Load, change: dict[str, tuple[str, str]]) -> None:
    before = code.code_digest(load().Features)
    assert code.code_digest(load(**change).Features) == before


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"pipeline": ("[:LIMIT]", "[LIMIT:]")}, "Features.run changed"),
        ({"pipeline": ("return 1", "return 7")}, "Base.shared changed"),
        ({"pipeline": ("LIMIT = 10", "LIMIT = 11")}, "LIMIT changed"),
        ({"pipeline": ('default="x"', 'default="y"')}, "Features changed"),
        ({"models": ("return step(3)", "return step(4)")}, "toolbox.models.Model.fit changed"),
        ({"models": ("x + 1", "x + 2")}, "toolbox.models.step changed"),
        ({"tables": ("math.floor", "math.ceil")}, "toolbox.tables.clean changed"),
    ],
    ids=["method", "base class", "constant", "class body", "class through a package", "function of a class", "alias"],
)
def test_a_change_of_what_the_task_reaches_is_named(load: Load, change: Any, word: str) -> None:
    before = code.code_identity(load().Features)
    after = code.code_identity(load(**change).Features)
    assert before["digest"] != after["digest"]
    assert code_parts.changed(before["parts"], after["parts"]) == [word]


def test_the_digest_is_the_same_in_another_process_and_as_a_script(load: Load, tmp_path: Path) -> None:
    here = code.code_digest(load().Features)
    (tmp_path / "pipeline_of_test.py").write_text(
        PIPELINE + "\nfrom superluigi.lineage.code_fingerprint.code import code_digest\nprint(code_digest(Features))\n"
    )
    there = subprocess.run(
        [sys.executable, "pipeline_of_test.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert there.stdout.split() == [here]


def test_a_file_edited_after_its_import_keeps_the_identity_of_the_code_in_memory(load: Load, tmp_path: Path) -> None:
    module = load()
    before = code.code_digest(module.Features)
    file = tmp_path / "pipeline_of_test.py"
    file.write_text(file.read_text().replace("LIMIT = 10", "LIMIT = 99"))
    os.utime(file, (1, 1))
    assert code.code_digest(module.Features) == before
    reloaded = importlib.reload(module)
    assert code.code_digest(reloaded.Features) != before


def test_classes_without_a_file_have_a_digest_of_their_bytecode() -> None:
    text = (
        "import luigi\nSCALE = 2\ndef helper(): return SCALE\n"
        "class Cell(luigi.Task):\n    {doc}\n    def run(self): return helper()\n"
    )

    def made(source: str) -> Any:
        namespace: dict[str, Any] = {"__name__": "no_such_module"}
        exec(source, namespace)
        return namespace["Cell"]

    plain = code.code_identity(made(text.format(doc="pass")))
    assert code.code_digest(made(text.format(doc="pass") + "# note\n")) == plain["digest"]["sha256"]
    assert (
        code.code_digest(made(text.format(doc="pass").replace("SCALE = 2", "SCALE = 3"))) != plain["digest"]["sha256"]
    )
    assert (
        code.code_digest(made(text.format(doc="pass").replace("return SCALE", "return 0"))) != plain["digest"]["sha256"]
    )
    assert plain["path"] is None


def test_a_function_that_makes_classes_makes_them_differ_by_what_it_was_given() -> None:
    def make(factor: int) -> type[luigi.Task]:
        class Scaled(luigi.Task):
            def run(self) -> int:
                return factor

        return Scaled

    assert code.code_digest(make(1)) == code.code_digest(make(1))
    assert code.code_digest(make(1)) != code.code_digest(make(2))


def test_of_many_parts_the_one_that_changed_is_still_named() -> None:
    one = {f"helpers.f{number}": hashlib.sha256(str(number).encode()).hexdigest() for number in range(60)}
    other = {f"models.Net.m{number}": hashlib.sha256(f"m{number}".encode()).hexdigest() for number in range(30)}
    everything = {**one, **other, "LIMIT": "a" * 64}
    record = code_parts.shortened(everything)
    assert len(record) == 3 and len(json.dumps(record)) < 500
    assert code_parts.changed(record, everything) == []
    new = {**everything, "helpers.f7": "f" * 64, "models.Net.m3": "e" * 64, "LIMIT": "b" * 64}
    assert code_parts.changed(record, new) == ["LIMIT changed", "helpers.f7 changed", "models.Net.m3 changed"]
    assert code_parts.changed(record, {**everything, "helpers.extra": "f" * 64}) == ["helpers.extra added"]
    del everything["helpers.f9"]
    assert code_parts.changed(record, everything) == ["helpers.* removed: 1"]


def test_two_records_told_by_group_are_compared_by_group() -> None:
    many = {f"helpers.f{number}": f"{number:064x}" for number in range(200)}
    small = code_parts.shortened(many)
    assert small.keys() == {"helpers.*"}
    assert code_parts.changed(small, code_parts.shortened({**many, "helpers.f7": "f" * 64})) == ["helpers.* changed"]
    assert code_parts.changed(small, code_parts.shortened(many)) == code_parts.changed(small, many) == []


def test_packages_are_those_the_task_names_itself(load: Load) -> None:
    module = load()
    assert set(environment.environment(module.Features)["packages"]) == {"luigi", "superluigi", "PyYAML"}
    assert set(environment.environment(module.Upstream)["packages"]) == {"luigi", "superluigi"}
    assert {"luigi", "pytest"} <= set(environment.environment()["packages"])
    assert pickle.loads(pickle.dumps(environment.environment()))


def test_the_repository_is_told_without_credentials(load: Load, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    module = load()
    run("init", "-q", "-b", "main")
    run("add", "pipeline_of_test.py")
    run("commit", "-q", "-m", "first")
    run("remote", "add", "origin", "https://ada:hunter2@example.org/flights.git?token=abc")
    git._state.cache_clear()
    git.root_of.cache_clear()
    git._read.cache_clear()
    told = code.code_identity(module.Features)
    assert told["repo"] == "https://example.org/flights.git"
    assert (told["commit"], told["branch"], told["dirty"]) == (run("rev-parse", "HEAD"), "main", False)
    assert told["path"] == "pipeline_of_test.py"
    (tmp_path / "pipeline_of_test.py").write_text("changed = 1\n")
    git._state.cache_clear()
    git._read.cache_clear()
    assert code.code_identity(module.Features)["dirty"] is True


@pytest.mark.parametrize(
    "config",
    [
        '[core]\n\tbare = false\n[remote "origin"]\n\turl = https://a/b.git\n\tfetch = +refs/heads/*:refs/x/*\n',
        '[remote "other"]\n\turl = https://a/wrong.git\n[branch "main"]\n\tremote = origin\n',
        '# a comment\n[REMOTE "origin"]\n  URL=https://a/b.git  \n',
        '[remote "origin"]\n\turl = "https://a/quoted.git"\n',
        '[remote "origin"]\n\turl = https://a/b.git ; why\n',
        '[remote "origin"]\n\turl = https://a/\\\nb.git\n',
        '[remote "origin"]\n\turl = https://a/first.git\n\turl = https://a/last.git\n',
        '[remote "origin"]\n\turl = https://a/b.git\n[include]\n\tpath = more\n',
        "",
    ],
)
def test_the_address_is_what_git_itself_says(config: str, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".git" / "more").write_text('[remote "origin"]\n\turl = https://a/included.git\n')
    (tmp_path / ".git" / "config").write_text(config)
    words = ["git", "config", "--file", ".git/config", "--includes", "--get", "remote.origin.url"]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True).stdout.strip()
    git._read.cache_clear()
    assert git._read(str(tmp_path), 0)["repo"] == (said or None)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://user:secret@host:8443/a/b.git", "https://host:8443/a/b.git"),
        ("https://token@host/a.git", "https://host/a.git"),
        ("ssh://git:pw@host/a.git", "ssh://git@host/a.git"),
        ("git@host:team/a.git", "git@host:team/a.git"),
        ("/srv/git/a.git", "/srv/git/a.git"),
    ],
)
def test_addresses_lose_their_secrets(url: str, told: str) -> None:
    assert git.without_credentials(url) == told


def test_the_parts_of_a_record_stay_small(load: Load) -> None:
    text = textwrap.dedent(str(code.code_identity(load().Features)["parts"]))
    assert len(text) < 700


def test_a_notebook_cell_reaches_functions_of_files_also_through_its_own_helpers(load: Load) -> None:
    text = (
        "import luigi, toolbox.tables\nfrom toolbox.models import step\n"
        "def helper(rows): return toolbox.tables.clean(rows), step(1)\n"
        "class Cell(luigi.Task):\n    def run(self): return helper([1])\n"
    )

    def made(**change: tuple[str, str]) -> dict[str, str]:
        load(**change)
        namespace: dict[str, Any] = {"__name__": "no_such_module"}
        exec(text, namespace)
        code_parts: dict[str, str] = code.code_identity(namespace["Cell"])["parts"]
        return code_parts

    before = made()
    assert code_parts.changed(before, made()) == []
    assert code_parts.changed(before, made(tables=("math.floor", "math.ceil"))) == ["toolbox.tables.clean changed"]
    assert code_parts.changed(before, made(models=("x + 1", "x + 2"))) == ["toolbox.models.step changed"]
    assert code_parts.changed(before, made(tables=("return 0", "return 1"))) == []
