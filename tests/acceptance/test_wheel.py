"""The wheel holds what it must, and works on a clean Python without any extra."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Makes and fills environments in a tenth of pip's time, where it is installed: `make` does.
UV = shutil.which("uv", path=os.path.dirname(sys.executable))
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
USE_IT = """
import sys, superluigi
heavy = {"luigi", "boto3", "pandas", "rich", "sqlalchemy"} & set(sys.modules)
print("heavy:", sorted(heavy))
for name in superluigi.__all__:
    getattr(superluigi, name)
from superluigi.tasks import Task, ExternalTask, TaskWithMetadata, AtomicTaskWithMetadata
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget

class Hello(AtomicTaskWithMetadata):
    def output(self):
        return LocalFileTarget("hello.txt")
    def run(self, output_path):
        output_path.write_text("hello")

print("wrote", superluigi.run_task(Hello()).read_text(), LocalFileTarget("hello.txt").read_metadata()["task_family"])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the working tree stays as it is."""
    pytest.importorskip("build.env", reason="needs build, of the extra `dev`")
    source = tmp_path_factory.mktemp("source") / "superluigi"
    ignored = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "site")
    shutil.copytree(ROOT, source, ignore=ignored)
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)]
    by_one_of([[*build, "--installer", "uv"]] if UV else None, [build])
    (built,) = out.glob("*.whl")
    return built


def interpreter(version: str) -> str | None:
    """A working Python of this version: on PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *map(str, pyenv.glob(f"{version}.*/bin/python{version}"))]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "--version"], capture_output=True, timeout=30).returncode == 0:
            return candidate
    return None


def by_one_of(*ways: list[list[str]] | None, **options: Any) -> None:
    """Call the commands of the first way that works: uv does not read pip's configuration, which may name an index."""
    for commands in filter(None, ways):
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
            if done.returncode != 0:
                break
        else:
            return
    pytest.fail(done.stdout + done.stderr)


def install_and_use(python: str, wheel: Path, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    bin_folder = folder / "v" / "bin"
    made = str(bin_folder / "python")
    by_one_of(
        [[UV, "venv", "-q", "-p", python, str(folder / "v")], [UV, "pip", "install", "-q", "-p", made, str(wheel)]]
        if UV
        else None,
        [[python, "-m", "venv", "--clear", str(folder / "v")], [made, "-m", "pip", "install", "--quiet", str(wheel)]],
        cwd=folder, env=environment,
    )  # fmt: skip
    used = subprocess.run(
        [made, "-W", "error::SyntaxWarning", "-c", USE_IT],
        capture_output=True, text=True, cwd=folder, env=environment, timeout=120,
    )  # fmt: skip
    assert used.returncode == 0, used.stderr
    assert "heavy: []" in used.stdout
    assert "wrote hello Hello" in used.stdout
    helped = subprocess.run([str(bin_folder / "superluigi"), "--help"], capture_output=True, text=True, timeout=60)
    assert helped.returncode == 0 and "run" in helped.stdout


def test_the_wheel_holds_the_package_its_types_its_licence_and_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        described = archive.read(metadata).decode()
        commands = archive.read(entry_points).decode()
    assert "superluigi/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert "superluigi = superluigi.cli:program" in commands
    assert "Requires-Python: >=3.10" in described
    assert {name.split("/")[0].split("-")[0] for name in names} == {"superluigi"}  # no tests, no tutorials
    in_tree = {
        str(path.relative_to(ROOT)) for path in (ROOT / "superluigi").rglob("*.py") if "__pycache__" not in path.parts
    }
    assert in_tree - set(names) == set()


def test_the_wheel_works_on_a_clean_environment_of_this_python(wheel: Path, tmp_path: Path) -> None:
    install_and_use(getattr(sys, "_base_executable", sys.executable), wheel, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_works_on_a_clean_python_of_every_supported_version(
    version: str, wheel: Path, tmp_path: Path
) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    install_and_use(python, wheel, tmp_path)
