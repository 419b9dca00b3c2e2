"""What surrounds the code: the public names, the services, the make targets, the site's table of contents."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

import superluigi

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", superluigi.__all__)
def test_every_public_name_is_there_and_is_what_type_checkers_think(name: str) -> None:
    value = getattr(superluigi, name)
    tree = ast.parse(Path(superluigi.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("superluigi")
        for alias in node.names
    }
    assert name in imported, f"{name} is not imported under TYPE_CHECKING"
    module = __import__(imported[name], fromlist=[name])
    assert getattr(module, name) is value
    assert name in dir(superluigi)


def test_the_version_stands_in_one_place() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert superluigi.__version__ == importlib.metadata.version("superluigi") == citation["version"]
    assert f"## {superluigi.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_workflow_does_what_make_check_does_on_every_python_that_is_promised() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["check"]["steps"][-1]["run"] == "make check"
    classified = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.cfg").read_text(encoding="utf-8"))
    assert set(classified) <= set(jobs["check"]["strategy"]["matrix"]["python"])


def test_the_readme_and_the_list_of_names_say_which_extras_there_are() -> None:
    extras = set(importlib.metadata.metadata("superluigi").get_all("Provides-Extra") or ()) - {"dev", "docs"}
    for page, as_written in (("README.md", "'.[{}]'"), ("docs/reference/by-name.md", "| `{}` |")):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert {extra for extra in extras if as_written.format(extra) not in text} == set(), page


def commands_of_the_workflow() -> list[str]:
    """Each `run` of each job, as the shell gets it for each row of the job's matrix."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    found = []
    for job in jobs.values():
        for row in job.get("strategy", {}).get("matrix", {}).get("include", [{}]):
            for step in (step for step in job["steps"] if "run" in step):
                found.append(re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda name, row=row: row[name[1]], step["run"]))
    return found


@pytest.mark.parametrize("command", sorted(set(commands_of_the_workflow())))
def test_what_the_workflow_runs_is_there_and_says_to_the_shell_what_it_means(command: str) -> None:
    words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
    assert not [word for word in words if set(word) <= set("();<>|&")], "an unquoted sign of the shell"
    words = shlex.split(command)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert [target for target in words[1:] if not re.search(rf"^{target}:", makefile, re.M)] == []
    elif words[0].startswith(".venv/"):
        if "-r" in words:
            assert (ROOT / words[words.index("-r") + 1]).is_file()
        known = set(importlib.metadata.metadata("superluigi").get_all("Provides-Extra") or ())
        named = {
            extra for word in words for extra in re.findall(r"[\w-]+", (re.findall(r"^\.\[(.*)\]$", word) or [""])[0])
        }
        assert named <= known
    else:
        assert os.access(ROOT / words[0], os.X_OK)


def test_an_unknown_public_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="runtask"):
        _ = superluigi.runtask  # type: ignore[attr-defined]


def test_the_services_have_health_checks_and_are_reachable_from_this_machine_only() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    assert {"minio", "minio-buckets", "postgres", "dask-scheduler", "dask-worker"} <= set(services)
    for name, service in services.items():
        for port in service.get("ports", ()):
            assert str(port).startswith("127.0.0.1:"), f"{name} would be reachable from other machines"
        if "ports" in service:
            assert service["healthcheck"]["test"], f"{name} has no health check"
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy" and "healthcheck" in services[needed]
    assert services["minio-buckets"]["depends_on"]["minio"]["condition"] == "service_healthy"
    assert "mc mb --ignore-existing local/flights" in " ".join(services["minio-buckets"]["command"])


def test_make_alone_lists_the_targets() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    for target in ("demo", "test", "test-long", "test-minio", "check", "docs", "bench", "wheel"):
        assert re.search(rf"^make {target} +\S", listed, re.M), target


def test_ci_makes_a_clean_environment_and_runs_the_tests_of_the_readme() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "rm -rf .venv" in text and "make test" in text
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def pages_of(node: object) -> set[str]:
    if isinstance(node, str):
        return {node}
    parts = node.values() if isinstance(node, dict) else node
    assert not isinstance(parts, str)
    return set().union(*(pages_of(part) for part in parts))  # type: ignore[union-attr, arg-type]


def test_the_site_lists_every_page_and_every_listed_page_is_there() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = pages_of(yaml.safe_load(text)["nav"])
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert listed - there == set(), "listed, but missing"
    assert {page for page in there - listed if not page.startswith("decisions/")} == set(), "not listed"


def test_every_command_is_in_the_docs() -> None:
    from superluigi.cli import command_lines

    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert [name for name in command_lines() if f"| `superluigi {name}" not in page] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| `superluigi` \(command\) \| (.*) \|$", readme, re.M)
    assert set(re.findall(r"`([\w-]+)`", row)) == set(command_lines())


def test_the_page_of_promises_names_tests_that_exist() -> None:
    page = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    code = "".join(
        file.read_text(encoding="utf-8")
        for folder in ("tests", "superluigi/testing")
        for file in (ROOT / folder).rglob("*.py")
    )
    known = set(re.findall(r"^\s*(?:def|class) (\w+)", code, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+|Test\w+)`", page))
    assert len(named) > 30
    assert named - known == set()
