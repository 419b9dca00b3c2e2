"""Run tests again and again under load: `python tests/stress/rounds.py [ROUNDS] [TOGETHER] [pytest's arguments]`.

Rounds that run together are each other's load. What each says is in `stress-ROUND.log` in the temporary folder.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
def load(together: int) -> Iterator[None]:
    """Twice as much to do as there are processors beside one round, and two that keep the disk busy."""
    with tempfile.TemporaryDirectory(prefix="superluigi-load-") as folder:
        burning = max(0, 2 * (os.cpu_count() or 2) + 1 - together)
        works = [(burn, ())] * burning + [(write, (folder,))] * 2
        processes = [multiprocessing.Process(target=work, args=args, daemon=True) for work, args in works]
        for process in processes:
            process.start()
        try:
            yield
        finally:
            for process in processes:
                process.kill()
                process.join()


def one_round(number: int) -> bool:
    stress = f"{number}:{INTERVALS[number % len(INTERVALS)]}"
    log = Path(tempfile.gettempdir(), f"stress-{number + 1}.log")
    print(f"== round {number + 1}, SUPERLUIGI_TEST_STRESS={stress}, {log}", flush=True)
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    with open(log, "wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "stress or not long", "--timeout", "900",
             "-o", "faulthandler_timeout=890", f"--basetemp={log.with_suffix('')}", "--durations=20", *sys.argv[3:]],
            env={**os.environ, "SUPERLUIGI_TEST_STRESS": stress, "PYTHONPATH": path},
            check=False, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    said = log.read_text(errors="replace").splitlines()
    tail = (
        said[-1:]
        if done.returncode == 0
        else [line for line in said if line.startswith(("FAILED", "ERROR"))] + said[-1:]
    )
    print(f"== round {number + 1} ended with {done.returncode}", *tail, sep="\n", flush=True)
    return done.returncode == 0


def main() -> int:
    rounds, together = (int(argument) for argument in (sys.argv[1:3] + ["5", "5"][len(sys.argv[1:3]) :]))
    with load(together), ThreadPoolExecutor(together) as pool:
        return 0 if all(list(pool.map(one_round, range(rounds)))) else 1


if __name__ == "__main__":
    sys.exit(main())
