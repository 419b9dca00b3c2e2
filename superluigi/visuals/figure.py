"""A picture in hand: shown in a notebook, saved to a file, opened in a browser."""

from __future__ import annotations

import html
import os
import tempfile
import webbrowser
from pathlib import Path

from superluigi.errors import OptionError
from superluigi.visuals import render
from superluigi.visuals.model import Graph
from superluigi.visuals.page import page


class Figure:
    """A graph that can be looked at; the last value of a notebook cell shows itself."""

    def __init__(self, graph: Graph, view: str | None = None) -> None:
        self.graph = graph
        self.view = view

    @property
    def html(self) -> str:
        """The self-contained page."""
        return page(self.graph, self.view)

    @property
    def svg(self) -> str:
        """A stand-alone SVG."""
        return render.svg(self.graph)

    @property
    def mermaid(self) -> str:
        """A Mermaid flowchart."""
        return render.mermaid(self.graph)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the form that the suffix names: `.html`, `.svg`, `.mmd` or `.md`; the path.

        Raises:
            OptionError: another suffix.
        """
        file = Path(path)
        if file.suffix in (".html", ".htm"):
            text = self.html
        elif file.suffix == ".svg":
            text = self.svg
        elif file.suffix in (".mmd", ".mermaid"):
            text = self.mermaid
        elif file.suffix == ".md":
            text = f"```mermaid\n{self.mermaid}```\n"
        else:
            raise OptionError(f"{file.name}: the suffix says nothing known. Use .html, .svg, .mmd or .md.")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def show(self) -> Path:
        """Open the page in the default browser; returns the temporary file, which stays."""
        descriptor, name = tempfile.mkstemp(prefix="superluigi-", suffix=".html")
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(self.html)
        webbrowser.open(Path(name).as_uri())
        return Path(name)

    def _repr_html_(self) -> str:
        text = html.escape(self.html, quote=True)
        return (
            f'<iframe srcdoc="{text}" sandbox="allow-scripts" title="{html.escape(self.graph.title)}" '
            'style="width:100%;height:560px;border:1px solid #ccc;border-radius:8px"></iframe>'
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.graph.counts().items())
        return f"<Figure of {self.graph.title}: {counts}>"
