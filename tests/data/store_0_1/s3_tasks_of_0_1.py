"""The tasks whose outputs on S3 version 0.1 made, by `make_s3.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from luigi import Target

from superluigi.parameters import Param
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata

BUCKET = "store-of-0-1"


class Part(AtomicTaskWithMetadata):
    n: Param[int]

    def output(self) -> Target:
        return S3ObjectTarget(BUCKET, f"parts/{self.n}.txt")

    def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
        metadata["rows"] = self.n
        output_path.write_text(f"{self.n}\n" * self.n)


class Whole(AtomicTaskWithMetadata):
    parts: Param[int] = 2

    def requires(self) -> Any:
        return [Part(n=n) for n in range(1, self.parts + 1)]

    def output(self) -> Target:
        return S3PrefixTarget(BUCKET, f"whole-{self.parts}/", metadata_contents_limit=2)

    def run(self, output_path: Path) -> None:
        (output_path / "deep").mkdir()
        for n in range(3):
            (output_path / "deep" / f"täble {n}.txt").write_text(str(n))


class Inside(AtomicTaskWithMetadata):
    """A prefix that holds its own record."""

    def requires(self) -> Any:
        return {"whole": Whole()}

    def output(self) -> Target:
        return S3PrefixTarget(BUCKET, "inside/", metadata_inside_prefix=True)

    def run(self, output_path: Path) -> None:
        (output_path / "a.json").write_text(json.dumps([1]))
