"""Start-up: `import superluigi` against `import luigi`, commands and a worker process, each in fresh processes.

Run: python benchmarks/startup.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAMS = {
    "python alone": "pass",
    "import luigi": "import luigi",
    "import superluigi": "import superluigi",
    "import superluigi, then a task class and a target": (
        "from superluigi.tasks import AtomicTaskWithMetadata; from superluigi.targets import LocalFileTarget"
    ),
    "import superluigi, then run_task": "from superluigi.task_runner import run_task",
    "superluigi --help": "import sys; sys.argv[1:] = ['--help']; from superluigi.cli import program; program()",
    "superluigi ls": "import sys; sys.argv[1:] = ['ls']; from superluigi.cli import program; program()",
    "a worker process, to its first call's result": (
        "from superluigi.worker_process.pool import ProcessExecutor\n"
        "with ProcessExecutor(1) as executor:\n"
        "    executor.submit(__import__('importlib').import_module, 'superluigi.task_runner').exception()"
    ),
}


def seconds(program: str, bytecode: str) -> float:
    """Wall time of one fresh Python that runs `program`, with bytecode kept as on a user's machine."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    rounds = 3 if parser.parse_args().quick else 15
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as bytecode:
        for program in PROGRAMS.values():
            seconds(program, bytecode)  # compile and warm the disk cache
        for _ in range(rounds):  # in turns, so that a busy moment hits all alike
            for name, program in PROGRAMS.items():
                times[name].append(seconds(program, bytecode))
    medians = {name: statistics.median(found) for name, found in times.items()}
    base = medians["import luigi"]
    print(f"| program | median of {rounds}, s | × import luigi |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.3f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
