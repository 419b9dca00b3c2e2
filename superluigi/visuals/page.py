"""The graph page: one HTML file with everything in it, which loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from importlib.resources import files

from superluigi.jsonable import document
from superluigi.lineage.records.builder import iso, utc_now
from superluigi.terminal import visible
from superluigi.visuals.layout import lay_out
from superluigi.visuals.model import Graph, families
from superluigi.visuals.render import curve, legend

#: From so many tasks on the page opens with one node for each family.
GROUPED_FROM = 80
#: Up to so many tasks are elements of the page; more are painted on one canvas.
ELEMENTS = 1_200
#: Up to so many tasks have their whole records in the page.
RECORDS = 4_000
#: One program, in this order.
SCRIPTS = ("core.js", "graph.js", "canvas.js", "panel.js", "search.js", "table.js", "timeline.js", "main.js")


def page(graph: Graph, view: str | None = None) -> str:
    """The page as text; `view` is what it opens with: `tasks`, `families`, `table` or `timeline`.

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
        "light": len(graph.nodes) > RECORDS,
        "counts": graph.counts(),
        "classes": {name: one.__dict__ for name, one in graph.classes.items() if one.doc or one.params or one.module},
        "run": graph.run and graph.run.__dict__,
        "command": graph.command,
        "made": graph.made or iso(utc_now()),
        **_drawn(graph),
        "families": _drawn(grouped),
    }
    script = "".join(map(_asset, SCRIPTS))
    parts = {
        "SCRIPT_HASH": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "TITLE": html.escape(visible(graph.title)),
        "STYLE": _asset("page.css"),
        "DATA": _embedded(content),
        "SCRIPT": script,
    }
    return re.sub("@([A-Z_]+)@", lambda found: parts[found[1]], _asset("page.html"))  # one pass: data is not searched


def _drawn(graph: Graph) -> dict[str, object]:
    """Nodes and their positions in one order, edges by their numbers; paths only where the browser draws elements."""
    layout = lay_out(graph)
    number = {node.id: index for index, node in enumerate(graph.nodes)}
    edges = [edge for edge in graph.edges if edge[0] in number and edge[1] in number]
    small = len(graph.nodes) <= ELEMENTS and len(edges) <= 4 * ELEMENTS
    light = len(graph.nodes) > RECORDS
    return {
        "nodes": [node.as_json(light=light) for node in graph.nodes],
        "edges": [[number[one], number[other]] for one, other in edges],
        "paths": [curve(layout, *edge) for edge in edges] if small else None,
        "layout": {
            "positions": [layout.positions[node.id] for node in graph.nodes],
            "layers": layout.layers,
            "sizes": layout.sizes.__dict__,
            "width": layout.width,
            "height": layout.height,
        },
    }


def _embedded(content: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = document(content, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _asset(name: str) -> str:
    return files("superluigi.visuals").joinpath("assets", name).read_text(encoding="utf-8")
