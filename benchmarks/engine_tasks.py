"""Tasks that other processes can import, as a user's module has them: for `engine.py` with several workers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import luigi

from superluigi.targets import LocalFileTarget
from superluigi.tasks import AtomicTaskWithMetadata

CONTENT = "x" * 1024


class Leaf(AtomicTaskWithMetadata):
    """Sleeps, and writes a file."""

    folder = luigi.Parameter()
    i = luigi.IntParameter()
    seconds = luigi.FloatParameter()

    def output(self) -> Any:
        return LocalFileTarget(f"{self.folder}/{self.i}.txt")

    def run(self, output_path: Path) -> None:
        time.sleep(self.seconds)
        output_path.write_text(CONTENT)


class Wide(Leaf):
    """Requires `i` leaves."""

    def requires(self) -> list[luigi.Task]:
        return [Leaf(folder=self.folder, i=i, seconds=self.seconds) for i in range(self.i)]


class Link(Leaf):
    """One of a chain; its output says when it began and ended."""

    def requires(self) -> list[luigi.Task]:
        return [Link(folder=self.folder, i=self.i - 1, seconds=self.seconds)] if self.i else []

    def run(self, output_path: Path) -> None:
        began = time.time()
        time.sleep(self.seconds)
        output_path.write_text(f"{began} {time.time()}")


class LuigiLeaf(luigi.Task):
    """The same without us."""

    folder = luigi.Parameter()
    i = luigi.IntParameter()
    seconds = luigi.FloatParameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"{self.folder}/{self.i}.txt")

    def run(self) -> None:
        time.sleep(self.seconds)
        with self.output().open("w") as stream:
            stream.write(CONTENT)


class LuigiWide(LuigiLeaf):
    """Requires `i` leaves."""

    def requires(self) -> list[luigi.Task]:
        return [LuigiLeaf(folder=self.folder, i=i, seconds=self.seconds) for i in range(self.i)]
