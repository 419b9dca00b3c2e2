"""`llms.txt`, which is built with the site, says what each page is about and where it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gather() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gather_of_docs", ROOT / "docs" / "gather.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(title: str, url: str) -> Any:
    return SimpleNamespace(is_section=False, is_page=True, title=title, url=url)


def test_pages_stand_below_their_sections_with_their_first_words(gather: ModuleType, tmp_path: Path) -> None:
    one, two = page("Home", "index.html"), page("Queue", "how-to/queue.html")
    gather.on_page_markdown("# Home\n\n![x](y)\n\nIt [works](a.md) well. More.\n", page=one)
    gather.on_page_markdown("# Queue\n", page=two)
    section = SimpleNamespace(is_section=True, is_page=False, title="How to", children=[two])
    gather.on_nav(SimpleNamespace(items=[one, section]))
    gather.on_post_build({"site_name": "S", "site_description": "about it", "site_dir": str(tmp_path)})
    assert (tmp_path / "llms.txt").read_text() == (
        "# S\n\n> about it\n\n## Pages\n\n- [Home](index.html): It works well.\n\n"
        "## How to\n\n- [Queue](how-to/queue.html)\n"
    )


def test_every_page_of_the_docs_has_words_or_needs_none(gather: ModuleType) -> None:
    for file in (ROOT / "docs" / "how-to").glob("*.md"):
        assert gather.first_words(file.read_text(encoding="utf-8")), file


def test_a_block_that_is_a_file_has_its_name_above_it(gather: ModuleType) -> None:
    page = gather.on_page_markdown("Words.\n\n<!-- file: a/b.py -->\n```python\nx = 1\n```\n\n```python\ny = 2\n```\n")
    assert page == 'Words.\n\n```python title="a/b.py"\nx = 1\n```\n\n```python\ny = 2\n```\n'
