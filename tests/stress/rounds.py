"""Run tests again and again under load: `python tests/stress/rounds.py [ROUNDS] [pytest's arguments]`."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
#: From "after each instruction" to "hardly ever"; Python's own is 0.005.
INTERVALS = (1e-6, 0.005, 0.5, 1e-5, 0.05)


def burn() -> None:
    while True:
        sum(number * number for number in range(100_000))


def write(folder: str) -> None:
    """Write and flush, with pauses: the disk of others waits, too."""
    for number in range(10**9):
        with open(f"{folder}/{os.getpid()}-{number % 20}", "wb") as file:
            file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())
        time.sleep(0.05)


@contextlib.contextmanager
def load() -> Iterator[None]:
    """Twice as much to do as there are processors, and two that keep the disk busy."""
    with tempfile.TemporaryDirectory(prefix="superluigi-load-") as folder:
        works = [(burn, ())] * (2 * (os.cpu_count() or 2)) + [(write, (folder,))] * 2
        processes = [multiprocessing.Process(target=work, args=args, daemon=True) for work, args in works]
        for process in processes:
            process.start()
        try:
            yield
        finally:
            for process in processes:
                process.kill()
                process.join()


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with load():
        for number in range(rounds):
            stress = f"{number}:{INTERVALS[number % len(INTERVALS)]}"
            print(f"== round {number + 1} of {rounds}, SUPERLUIGI_STRESS={stress}", flush=True)
            path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-m", "stress or not long", "--timeout", "900",
                 "-o", "faulthandler_timeout=890", *sys.argv[2:]],
                env={**os.environ, "SUPERLUIGI_STRESS": stress, "PYTHONPATH": path}, check=False,
            )  # fmt: skip
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
