"""The graph page: one HTML file with everything in it, which loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib.resources import files
from typing import Any

from superluigi.visuals.layout import Layout, place
from superluigi.visuals.model import Graph, families
from superluigi.visuals.render import curve, legend

#: From so many tasks on the page opens with one node for each family.
GROUPED_FROM = 80


def page(graph: Graph, view: str | None = None) -> str:
    """The page as text; `view` is what it opens with: `tasks`, `families` or `timeline`.

    The content security policy allows the page's own script by its hash and no request whatever. All content
    travels as JSON and is shown as text, so that markup in a parameter stays text.
    """
    grouped = families(graph)
    many = len(graph.nodes) >= GROUPED_FROM and 1 < len(grouped.nodes) < len(graph.nodes)
    content = {
        "title": graph.title,
        "subtitle": graph.subtitle,
        "view": view or ("families" if many else "tasks"),
        "states": legend(),
        "counts": graph.counts(),
        **_drawn(graph),
        "families": _drawn(grouped),
    }
    script = _asset("page.js")
    parts = {
        "SCRIPT_HASH": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "TITLE": html.escape(graph.title),
        "STYLE": _asset("page.css"),
        "DATA": _embedded(content),
        "SCRIPT": script,
    }
    return re.sub("@([A-Z_]+)@", lambda found: parts[found[1]], _asset("page.html"))  # one pass: data is not searched


def _drawn(graph: Graph) -> dict[str, Any]:
    layout = place(graph)
    drawn = [edge for edge in graph.edges if edge[0] in layout.places and edge[1] in layout.places]
    return {
        "nodes": [node.as_json() for node in graph.nodes],
        "edges": [list(edge) for edge in drawn],
        "paths": [curve(layout, *edge) for edge in drawn],
        "layout": _layout(layout),
    }


def _layout(layout: Layout) -> dict[str, Any]:
    sizes = {"width": layout.sizes.width, "height": layout.sizes.height}
    return {"places": layout.places, "sizes": sizes, "width": layout.width, "height": layout.height}


def _embedded(content: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _asset(name: str) -> str:
    return files("superluigi.visuals").joinpath("assets", name).read_text(encoding="utf-8")
