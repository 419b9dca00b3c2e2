"""JSON and pages for readers that take neither NaN nor halves of characters: browsers, `jq`, servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superluigi import cli
from superluigi.jsonable import document
from superluigi.visuals.figure import Figure
from superluigi.visuals.model import Graph, Node

ODD = [float("nan"), float("inf"), "\ud800", "\udfff<!--<script>", "\u2028\x00\x1b[31m", {"a": [float("-inf")]}, 10**40]

PIPELINE = """
from superluigi.parameters import FloatParameter, Parameter
from superluigi.tasks import AtomicTaskWithMetadata

class Odd(AtomicTaskWithMetadata):
    x = FloatParameter(default=float("nan"))
    word = Parameter(default="half \\ud800")
    suffix = ".json"
    def run(self, metadata):
        metadata["noted \\udfff"] = float("inf")
        return [float("nan")]
"""


def _strict(text: str) -> Any:
    def refuse(word: str) -> NoReturn:
        raise ValueError(word)

    text.encode()
    return json.loads(text, parse_constant=refuse)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=10,
)


@settings(max_examples=200)
@given(_JSON)
def test_a_document_says_the_same_to_strict_readers(value: Any) -> None:
    lenient = json.loads(json.dumps(value), parse_constant=lambda word: str(float(word)))
    assert _strict(document(value)) == lenient


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_pictures_can_be_saved_and_read_whatever_a_record_holds(tmp_path: Path, odd: Any) -> None:
    record = {"task_family": "A", "score": odd, "params": {"x": odd}, "run": {"id": odd}}
    node = Node("a", f"A{odd}", "complete", str(odd), {"x": odd}, [str(odd)], record, {"score": str(odd)})
    figure = Figure(Graph(f"A({odd})", [node], []))
    for suffix in ("html", "svg", "mmd", "md"):
        figure.save(tmp_path / f"picture.{suffix}")
    page = (tmp_path / "picture.html").read_text()
    data = page.split('id="data"', 1)[1].split(">", 1)[1].split("</script", 1)[0]
    (drawn,) = _strict(data)["nodes"]
    assert _strict(drawn["record"])["task_family"] == "A"


def test_commands_answer_scripts_and_draw_what_is_odd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd_documents.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(["run", "odd_documents", "Odd"]) == 0
    (output,) = (path for path in (tmp_path / "superluigi-data" / "Odd").iterdir() if "metadata" not in path.name)
    capsys.readouterr()
    for words in (["show", "odd_documents", "Odd"], ["status", "odd_documents", "Odd"], ["lineage", str(output)]):
        assert cli.main([*words, "--json"]) == 0
        _strict(capsys.readouterr().out)
    assert cli.main(["graph", "odd_documents", "Odd", "--html", "graph.html"]) == 0
    assert cli.main(["lineage", str(output), "--html", "lineage.html"]) == 0


@pytest.mark.parametrize("key", ["run", "code", "environment", "output"])
@pytest.mark.parametrize("odd", [[], "x", {"contents": 5, "path": []}, {"contents": ["x"], "tags": 5}], ids=repr)
def test_a_value_is_shown_whatever_its_record_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str, odd: Any
) -> None:
    (tmp_path / "odd_documents.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(["run", "odd_documents", "Odd"]) == 0
    (record,) = (tmp_path / "superluigi-data" / "Odd").glob("*.metadata.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), key: odd}))
    capsys.readouterr()
    for words in (["show", "odd_documents", "Odd"], ["ls", "--tag", "a"], ["ls", "odd_documents", "Odd", "--tag", "a"]):
        assert cli.main(words) in (0, 1)
        assert "Traceback" not in capsys.readouterr().err
