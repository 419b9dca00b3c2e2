"""Show what a task has made: its value or the first rows, its parameters, its record, and what it noted.

Reads the output and its record; nothing is run. Exit code 1 when the output is not there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from superluigi.cli._output import json_option, line, print_json, shortened, table
from superluigi.cli._parser import Parser, whole
from superluigi.cli._tasks import task_arguments, task_of
from superluigi.terminal import cut_middle, say

if TYPE_CHECKING:
    import luigi

EXAMPLE = """
superluigi show pipeline PredictionsTask --date 2013-12-15
superluigi show pipeline FeaturesTask --date 2013-12-15 --rows 3
"""
_WIDTH = 2000


def configure(parser: Parser) -> None:
    """The task, and how much of its value."""
    task_arguments(parser)
    parser.add_argument(
        "--rows", type=whole(), default=10, metavar="N", help="of a table, a list or a folder (default: 10)"
    )
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Print it; an error when the task has not been made."""
    task = task_of(args)
    told = _told(task, args.rows)
    if args.json:
        print_json(told)
        return 0
    line((str(task), "bold"))
    _section("parameters", told["params"])
    header, shown = shortened([str(one["path"]) for one in told["outputs"]])
    sizes = ["?" if one["size"] is None else f"{one['size']:,}" for one in told["outputs"]]
    if shown:
        say()
        table([header, "bytes"], [[path, size] for path, size in zip(shown, sizes, strict=True)], right=[1])
    _section("record", dict(_facts(told["record"] or {})))
    _section("noted", told["metadata"])
    value = told["value"]
    if value["shown"]:
        word = ("file" if value["type"] == "folder" else "row") + ("" if value["rows"] == 1 else "s")
        rows = "" if value["rows"] is None else f", {value['rows']:,} {word} in all"
        say()
        line((f"value ({value['type']}{rows})", "bold"))
        say(value["shown"])
    return 0


def _section(title: str, values: Mapping[str, object]) -> None:
    if values:
        say()
        table([title, ""], [[name, cut_middle(str(value), _WIDTH)] for name, value in values.items()])


def _told(task: luigi.Task, rows: int) -> dict[str, Any]:
    """All that there is to say.

    Raises:
        TargetMissingError: an output is not there.
    """
    from superluigi import graph
    from superluigi.errors import TargetMissingError
    from superluigi.lineage.records.builder import OURS
    from superluigi.lineage.records.record_io import validate
    from superluigi.lineage.staleness.facts import public_params
    from superluigi.tasks.preview import size_of

    targets = graph.flatten(task.output())
    absent = [str(getattr(target, "path", target)) for target in targets if not target.exists()]
    if absent or not targets:
        what = f"{', '.join(absent)} is not there" if absent else "it has no output"
        raise TargetMissingError(f"{task} has nothing to show: {what}. `superluigi run` makes it; `why` says more.")
    read = getattr(targets[0], "read_metadata", None)
    record = read() if read is not None else None
    return {
        "task_id": task.task_id,
        "task_family": task.get_task_family(),
        "params": public_params(task),
        "outputs": [
            {"path": str(getattr(target, "path", target)), "size": size_of(target) or None} for target in targets
        ],
        "record": record,
        "metadata": {key: value for key, value in (record or {}).items() if key not in OURS},
        "value": _value(task, targets[0], validate(record or {}), rows),
    }


def _facts(record: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """The parts of a record that are looked for most."""
    from superluigi.lineage.records.record_io import validate

    record = validate(record)
    run, code, made = record.get("run") or {}, record.get("code") or {}, record.get("environment") or {}
    for name, value in (
        ("made", record.get("end_time")),
        ("seconds", record.get("duration")),
        ("run", run.get("id")),
        ("reason", run.get("reason")),
        ("code", " ".join(str(code[key])[:12] for key in ("commit", "branch") if code.get(key))),
        ("dirty", "yes" if code.get("dirty") else None),
        ("host", made.get("host")),
        ("python", made.get("python")),
    ):
        if value not in (None, ""):
            yield name, value


def _value(task: luigi.Task, target: object, record: dict[str, Any], rows: int) -> dict[str, object]:
    """The type of the value, how many rows it has, and the first as text; of what has no format, its files or lines."""
    from pathlib import Path

    from superluigi.errors import FormatError
    from superluigi.tasks import values

    try:
        value = values.result(task)
        kind = type(value).__name__
    except FormatError:
        described, value = record.get("output") or {}, getattr(target, "path", None)
        contents = described.get("contents")
        kind = "folder" if contents is not None or (isinstance(value, Path) and value.is_dir()) else "file"
        if not isinstance(value, Path):  # elsewhere: what the record names of it
            named = contents if isinstance(contents, list) else ()
            names = [str(one.get("path") or one.get("key")) for one in named if isinstance(one, dict)]
            shown = "\n".join(names[:rows]) or f"{value}: no value that its format can read"
            return {"type": kind, "rows": described.get("count"), "shown": shown}
    text, count = _text(value, rows)
    return {"type": kind, "rows": count, "shown": text}


def _text(value: object, rows: int) -> tuple[str, int | None]:
    from pathlib import Path
    from pprint import pformat

    if hasattr(value, "head") and hasattr(value, "shape"):  # a table of pandas or polars
        first = value.head(rows)
        return (first.to_string() if hasattr(first, "to_string") else str(first)), int(value.shape[0])
    if isinstance(value, Path):
        if value.is_dir():
            files = sorted(str(file.relative_to(value)) for file in value.rglob("*") if file.is_file())
            return "\n".join(files[:rows]), len(files)
        return _first_lines(value, rows), None
    if isinstance(value, (list, tuple, set, frozenset)):
        return pformat(list(value)[:rows], width=80), len(value)
    if isinstance(value, dict):
        return pformat(dict(list(value.items())[:rows]), width=80, sort_dicts=False), len(value)
    if isinstance(value, str):
        return "\n".join(value.splitlines()[:rows]), len(value.splitlines())
    return cut_middle(pformat(value, width=80), _WIDTH), None


def _first_lines(file: Any, rows: int) -> str:
    """The first lines of a text file; what it is otherwise."""
    with open(file, "rb") as stream:
        data = stream.read(4000)
    try:
        return "\n".join(data.decode().splitlines()[:rows])
    except UnicodeDecodeError:
        return f"{file} (no text)"
