"""Under stress: each Python process switches threads at an extreme interval, and pauses at random at failpoints.

`rounds.py` puts this folder on PYTHONPATH and says how in SUPERLUIGI_TEST_STRESS: `<seed>:<switch interval>`.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import time
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

FAILPOINTS = "superluigi.storage.failpoints"


class Pauses:
    """Puts a hook into the failpoints as soon as they are imported."""

    def __init__(self, seed: str) -> None:
        self.chance, self.is_looking = random.Random(f"{seed}-{os.getpid()}"), False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != FAILPOINTS or self.is_looking:
            return None
        self.is_looking = True
        spec = importlib.util.find_spec(name)
        loader: Any = spec and spec.loader
        execute = loader.exec_module

        def hooked(module: ModuleType) -> None:
            execute(module)
            module.hook = self.pause  # type: ignore[attr-defined]

        loader.exec_module = hooked
        return spec

    def pause(self, _name: str) -> None:
        if self.chance.random() < 0.1:
            time.sleep(self.chance.expovariate(200))


if told := os.environ.get("SUPERLUIGI_TEST_STRESS"):
    seed, _, interval = told.partition(":")
    sys.setswitchinterval(float(interval))
    sys.meta_path.insert(0, Pauses(seed))  # type: ignore[arg-type]
