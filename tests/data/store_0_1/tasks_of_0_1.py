"""The tasks whose outputs version 0.1 made, by `make.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luigi import Target

from superluigi.parameters import Param
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata


class Part(AtomicTaskWithMetadata):
    n: Param[int]

    def output(self) -> Target:
        return LocalFileTarget(f"store/parts/{self.n}.txt")

    def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
        metadata["rows"] = self.n
        output_path.write_text(f"{self.n}\n" * self.n)


class Table(AtomicTaskWithMetadata):
    """Its value is stored by a format."""

    def requires(self) -> Any:
        return Part(n=2)

    def output(self) -> Target:
        return LocalFileTarget("store/table.json")

    def run(self) -> dict[str, Any]:
        return {"rows": [1, 2, 3], "name": "täble"}


class Whole(AtomicTaskWithMetadata):
    parts: Param[int] = 3

    def requires(self) -> Any:
        return {"parts": [Part(n=n) for n in range(1, self.parts + 1)], "table": Table()}

    def output(self) -> Target:
        return LocalFolderTarget(f"store/whole-{self.parts}")

    def run(self, output_path: Path) -> None:
        for n in range(1, self.parts + 1):
            (output_path / "deep").mkdir(exist_ok=True)
            (output_path / "deep" / f"{n}.txt").write_text(str(n))


class Long(AtomicTaskWithMetadata):
    """Stopped on its way; its checkpoint says how far it had come."""

    resumable = True

    def output(self) -> Target:
        return LocalFileTarget("store/long.txt")

    def run(self, output_path: Path, checkpoint_path: Path) -> None:
        done = int(checkpoint_path.read_text()) if checkpoint_path.exists() else 0
        if done == 0:
            checkpoint_path.write_text("7")
            raise RuntimeError("stopped")
        output_path.write_text(f"went on from {done}")
