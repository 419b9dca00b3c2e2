"""The site is only built when every link leads somewhere, and it can be searched without a server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


#: What `make docs` says.
FLAGS = re.findall(r"mkdocs build(.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))[0].split()


def build(folder: Path, config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *FLAGS, "-f", str(config), "-d", str(site)],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The rules of this site over two pages, without the reference, which takes its time."""
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    config.update(plugins=[], nav=[{"Home": "index.md"}, {"More": "more.md"}], hooks=["docs/links.py"])
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "links.py", tmp_path / "docs")
    (tmp_path / "docs" / "more.md").write_text("# More\n\n## A part\n\n[back](index.md)\n")
    (tmp_path / "docs" / "index.md").write_text(
        "# Home\n\n[a part](more.md#a-part) and <a href='more.html#a-part'>it</a>\n"
    )
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_a_site_whose_links_all_lead_somewhere_is_built(small: Path) -> None:
    done = build(small, small / "mkdocs.yml", small / "site")
    assert done.returncode == 0, done.stderr
    assert (small / "site" / "more.html").is_file()


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        ("[gone](no-such-page.md)", "no-such-page.md"),
        ("[gone](more.md#no-such-part)", "no-such-part"),
        ("[gone](#no-such-part)", "no-such-part"),
        ("[gone](/more.html)", "/more.html"),
        ("<a href='no-such-page.html'>gone</a>", "no-such-page.html"),
        ("<a href='more.html#no-such-part'>gone</a>", "more.html#no-such-part"),
        ("![gone](no-such-picture.png)", "no-such-picture.png"),
        ("<img src='no-such-picture.png'>", "no-such-picture.png"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build_and_is_named(small: Path, planted: str, named: str) -> None:
    page = small / "docs" / "index.md"
    page.write_text(f"{page.read_text()}\n{planted}\n")
    done = build(small, small / "mkdocs.yml", small / "site")
    assert done.returncode != 0
    assert named in done.stderr + done.stdout


def test_a_page_that_no_menu_lists_fails_the_build(small: Path) -> None:
    (small / "docs" / "forgotten.md").write_text("# Forgotten\n")
    done = build(small, small / "mkdocs.yml", small / "site")
    assert done.returncode != 0 and "forgotten.md" in done.stderr + done.stdout


#: A page, and what is typed into the search to find it.
SEARCHED = {
    "reference/by-name.html": (
        *("outputs_of", "NotebookTask", "clear", "storage_report", "plot_dependency_graph", "suffix", "validate"),
        *("channel", "reserved names", "progress messages", "extras", "value from the shell", "silence", "plugin"),
        *("entry points", "spawn", "fork", "init steps"),
    ),
    "how-to/other-words.html": (
        *("Aqueduct", "experimaestro", "taskproc", "desipipe", "gokart", "law", "b2luigi", "IOTask"),
    ),
    "how-to/from-luigi.html": ("LocalTarget",),
    "how-to/from-gokart.html": ("TaskOnKart",),
}


@pytest.mark.long
def test_the_site_is_built_has_what_is_looked_for_and_is_searched_from_disk(browser: Any, tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = build(ROOT, ROOT / "mkdocs.yml", site)
    assert done.returncode == 0, done.stdout + done.stderr
    tasks, running = ((site / "reference" / f"{name}.html").read_text() for name in ("tasks", "running"))
    for name in ("task", "cached", "grid"):
        assert f'id="superluigi.{name}"' in tasks
    for name in ("compute", "plan"):
        assert f'id="superluigi.{name}"' in running
    assert 'id="superluigi.tasks.AtomicTaskWithMetadata.clear"' in tasks, "public members that are inherited"
    assert "AtomicTaskWithMetadata.commits_outputs" not in tasks and "._superluigi" not in tasks, "and no internals"
    assert not list(site.glob("decisions*")), "decisions are for those who change the code"
    page = browser.new_context().new_page()
    page.goto((site / "index.html").as_uri())
    page.click(".md-search__input")
    for found, typed in SEARCHED.items():
        for words in typed:
            page.fill(".md-search__input", "")
            page.keyboard.press("End")  # the search listens to keys
            page.locator(".md-search-result__link").first.wait_for(state="detached")
            page.keyboard.type(words)
            page.locator(f".md-search-result__link[href*='{found}']").first.wait_for(state="attached")
    page.context.close()
