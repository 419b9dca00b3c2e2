"""What the durable queue costs a task: `python benchmarks/queue.py` takes the options of `durable_queue.py`.

The measuring itself is there, since this name is also the standard library's: a benchmark beside this file that
says `import queue`, or imports something that does, finds this file first and gets the standard one by it.
"""

import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _standard() -> None:
    """Put the standard library's `queue` in the place of this module."""
    elsewhere = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("queue", elsewhere)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("No module named 'queue' outside of the benchmarks", name="queue")
    sys.modules["queue"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "queue":
    _standard()
elif __name__ == "__main__":
    import runpy

    runpy.run_path(os.path.join(_HERE, "durable_queue.py"), run_name="__main__")
