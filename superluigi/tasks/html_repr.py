"""How a task shows itself in a notebook."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import quote

import luigi

from superluigi import graph
from superluigi.errors import SuperLuigiError
from superluigi.lineage.staleness.facts import public_params


def html_of(task: luigi.Task) -> str:
    """A small table: parameters, whether it is complete, its outputs, links to their records."""
    rows = [(name, html.escape(_short(str(value)))) for name, value in public_params(task).items()]
    rows.append(("state", _state(task)))
    try:
        targets = graph.flatten(task.output())
    except SuperLuigiError as error:
        targets = []
        rows.append(("output", html.escape(str(error))))
    for target in targets:
        rows.append(("output", _address(target)))
    body = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{cell}</td></tr>" for name, cell in rows
    )
    title = html.escape(task.get_task_family())
    return f"<div><strong>{title}</strong> <code>{html.escape(task.task_id)}</code><table>{body}</table></div>"


def _state(task: luigi.Task) -> str:
    try:
        return "complete" if task.complete() else "not made yet"
    except SuperLuigiError as error:
        return f"unknown: {html.escape(str(error))}"


def _address(target: Any) -> str:
    cell = _link(str(getattr(target, "path", target)))
    try:
        record = target.read_metadata() if hasattr(target, "read_metadata") and target.exists() else None
    except SuperLuigiError:
        return cell
    if record is None:
        return cell
    return f"{cell} ({html.escape(str(record.get('end_time', '')))}, {_link(str(target.metadata_path), 'record')})"


def _link(path: str, text: str | None = None) -> str:
    shown = html.escape(text or path)
    if "://" in path or path.startswith("const:"):
        return f"{shown}" if text is None else f"{shown}: {html.escape(path)}"
    return f"<a href='file://{quote(path)}'>{shown}</a>"


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."
