"""Pictures as text: Mermaid for README files and merge requests, SVG for everything else."""

from __future__ import annotations

import html
from collections.abc import Mapping
from itertools import pairwise

from superluigi.terminal import cells, visible
from superluigi.visuals.layout import Layout, lay_out
from superluigi.visuals.model import STATES, Graph, Node

#: State -> (stroke, fill, text) on light paper, and the same on dark.
COLOURS: Mapping[str, tuple[tuple[str, str, str], tuple[str, str, str]]] = {
    "failed": (("#c62828", "#fdecea", "#7f1d1d"), ("#f0716b", "#3a1a1b", "#ffd9d6")),
    "running": (("#1565c0", "#e6f1fc", "#0d3c75"), ("#5aa9f2", "#14273d", "#d3e8ff")),
    "blocked": (("#8d6e63", "#f3eeec", "#4e3b34"), ("#b39a90", "#2b2422", "#e6dbd6")),
    "missing": (("#8a94a3", "#ffffff", "#4b5563"), ("#7d8794", "#171c24", "#c3cad4")),
    "stale": (("#b7791f", "#fdf5e0", "#6b4509"), ("#e0a93b", "#33280f", "#ffe9b8")),
    "changed": (("#b7791f", "#fdf5e0", "#6b4509"), ("#e0a93b", "#33280f", "#ffe9b8")),
    "ran": (("#00665b", "#0b8577", "#ffffff"), ("#3dc4b1", "#0d5c53", "#e8fffb")),
    "complete": (("#2e7d32", "#e8f5e9", "#1b4d1e"), ("#66bb6a", "#16291a", "#d3f0d5")),
    "external": (("#6a4fb3", "#f1edfb", "#3f2b7a"), ("#a08bea", "#231c3a", "#e4dcff")),
}
#: A sign for each state, for those who do not see its colour.
SIGNS: Mapping[str, str] = {
    "failed": "✕",
    "running": "▶",
    "blocked": "⊘",
    "missing": "○",
    "stale": "↻",
    "changed": "↻",
    "ran": "●",
    "complete": "✓",
    "external": "◇",
}


def mermaid(graph: Graph) -> str:
    """A Mermaid flowchart; states are classes, names and parameters are text only."""
    names = {node.id: f"n{index}" for index, node in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    for node in graph.nodes:
        label = _mermaid_text(node.name)
        if node.summary:
            label += f"<br/>{_mermaid_text(_cut(node.summary, 60))}"
        lines.append(f'    {names[node.id]}["{label}"]:::{node.state}')
    lines += [f"    {names[one]} --> {names[other]}" for one, other in graph.edges if one in names and other in names]
    for state in graph.counts():
        (stroke, fill, text), _ = COLOURS.get(state, COLOURS["missing"])
        lines.append(f"    classDef {state} fill:{fill},stroke:{stroke},color:{text}")
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    """Text that stays text inside a quoted Mermaid label (entity codes, mermaid.js.org/syntax/flowchart.html)."""
    return "".join(one if one.isalnum() or one in " _-=,./:()" else f"#{ord(one)};" for one in text)


def svg(graph: Graph) -> str:
    """A stand-alone SVG picture that follows the reader's light or dark scheme."""
    layout = lay_out(graph)
    pad = 16
    width, height = layout.width + 2 * pad, layout.height + 2 * pad
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-pad} {-pad} {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{_text(graph.title)}">',
        f"<title>{_text(graph.title)}</title><style>{_svg_style(graph)}</style>",
        f'<rect class="paper" x="{-pad}" y="{-pad}" width="{width:g}" height="{height:g}"/>',
        '<g class="edges">',
        *(f'<path d="{curve(layout, one, other)}"/>' for one, other in graph.edges if _both(layout, one, other)),
        "</g>",
        *(_svg_node(node, layout) for node in graph.nodes),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _both(layout: Layout, one: str, other: str) -> bool:
    return one in layout.positions and other in layout.positions


def curve(layout: Layout, source: str, target: str) -> str:
    """The path of an edge, from the lower side of its source to the upper side of its target."""
    sizes = layout.sizes
    (x1, y1), (x2, y2) = layout.positions[source], layout.positions[target]
    ends = (x1 + sizes.width / 2, y1 + sizes.height), (x2 + sizes.width / 2, y2)
    points = [ends[0], *layout.route(source, target), ends[1]]
    path = f"M{points[0][0]:g} {points[0][1]:g}"
    for (x1, y1), (x2, y2) in pairwise(points):
        if x1 == x2:
            path += f"V{y2:g}"
        else:  # its handles stay between the rows, and so does the curve
            bend = min(90.0, (y2 - y1) / 2)
            path += f"C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}"
    return path


def _svg_node(node: Node, layout: Layout) -> str:
    sizes = layout.sizes
    x, y = layout.positions[node.id]
    dense = sizes.height < 40
    fits = int((sizes.width - 44) / (6.2 if dense else 7))
    line = ", ".join(map(str, node.params.values())) if dense else node.summary
    tip = _text("\n".join(filter(None, (node.name, node.summary, node.state, node.reason))))
    name_y = y + (sizes.height / 2 + 4.5 if not line else 14.5 if dense else 19)
    lines = [
        f'<g class="node {_text(node.state)}{" dense" if dense else ""}"><title>{tip}</title>',
        f'<rect x="{x:g}" y="{y:g}" width="{sizes.width}" height="{sizes.height}" rx="7"/>',
        f'<text class="sign" x="{x + 12:g}" y="{name_y:g}">{SIGNS.get(node.state, "")}</text>',
        f'<text class="name" x="{x + 30:g}" y="{name_y:g}">{_text(_cut(node.name, fits))}</text>',
    ]
    if line:
        below = y + (27 if dense else 35)
        lines.append(f'<text class="params" x="{x + 30:g}" y="{below:g}">{_text(_cut(line, int(fits * 1.15)))}</text>')
    return "".join([*lines, "</g>"])


def _svg_style(graph: Graph) -> str:
    def rules(dark: bool) -> str:
        found = []
        for state in graph.counts():
            stroke, fill, text = COLOURS.get(state, COLOURS["missing"])[dark]
            found.append(f".{state} rect{{stroke:{stroke};fill:{fill}}}.{state} text{{fill:{text}}}")
        return "".join(found)

    fonts = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"
    return (
        f"text{{{fonts};font-size:13px}}.name{{font-weight:600}}.params{{font-size:11px;opacity:.75}}"
        ".dense text{font-size:11.5px}.dense .params{font-size:10px}"
        ".paper{fill:#fff}.edges path{fill:none;stroke:#9aa4b2;stroke-width:1.3}.node rect{stroke-width:1.3}"
        f".missing rect{{stroke-dasharray:5 4}}{rules(False)}"
        "@media(prefers-color-scheme:dark){.paper{fill:#0f141b}.edges path{stroke:#566070}" + rules(True) + "}"
    )


def _cut(text: str, limit: int) -> str:
    """The beginning of a text that takes no more room than so many letters of usual width."""
    room = float(limit)
    for number, one in enumerate(text):
        room -= 1.8 if cells(one) == 2 else 1.45 if one in _BROAD else 1
        if room < 0:
            return text[: max(1, number - 1)] + "…"
    return text


#: Letters that are clearly wider than others in the usual fonts.
_BROAD = frozenset("WM@%—")


def _text(text: str) -> str:
    # characters that XML does not allow at all would make the whole picture unreadable
    return html.escape(visible(text))


def legend() -> dict[str, dict[str, object]]:
    """What the page needs to know about states: words, signs, colours."""
    return {
        state: {"label": label, "sign": SIGNS[state], "light": COLOURS[state][0], "dark": COLOURS[state][1]}
        for state, label in STATES.items()
    }
