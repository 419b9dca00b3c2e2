"""Task classes of a script travel by value; their names stay theirs, there and here."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPT = """
    import sys
    from concurrent.futures import ProcessPoolExecutor
    import luigi
    from luigi.task_register import Register
    from superluigi.engine.engine import run_graph

    FOLDER, EXECUTOR = sys.argv[1:]

    class Leaf(luigi.Task):
        n = luigi.IntParameter()

        def output(self):
            return luigi.LocalTarget(f"{FOLDER}/{self.task_id}")

        def run(self):
            assert Register.get_task_cls(self.task_family) is type(self)
            self.output().open("w").close()

    class Root(Leaf):
        def run(self):
            yield [Leaf(n=i) for i in range(4)]
            super().run()

    executor = ProcessPoolExecutor(2) if EXECUTOR == "pool" else EXECUTOR
    report = run_graph(Root(n=0), num_workers=2, executor=executor)
    assert report.success, report.describe()
    assert Register.get_task_cls("Leaf") is Leaf and Register.get_task_cls("Root") is Root
"""


@pytest.mark.parametrize("executor", ["processes", "pool"])
def test_a_class_of_a_script_is_found_by_its_name_in_every_process(tmp_path: Path, executor: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(tmp_path), executor]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


LOOKS_UP = """
    import sys
    import luigi
    from superluigi.engine.engine import run_graph

    class Leaf(luigi.Task):
        def output(self):
            return luigi.LocalTarget(self.task_family)

        def run(self):
            self.output().open("w").close()

        def on_failure(self, exception):
            with open(f"{self.task_family}.told", "w") as file:
                file.write(type(exception).__name__)

    class Requires(Leaf):
        def requires(self):
            return globals()["Le" + "af"]()

    class Yields(Leaf):
        def run(self):
            yield getattr(sys.modules["__main__"], "Made" + "Later")()

    class Root(luigi.WrapperTask):
        def requires(self):
            return Requires(), Yields()

    if __name__ == "__main__":
        globals()["MadeLater"] = type("Other", (Leaf,), {})
        report = run_graph(Root(), num_workers=2)
        for failure in report.failures:
            assert "Name the classes ({'A': A, 'B': B}[name])" in str(failure.error), failure.error
        assert len(report.failures) == 2, report.failures
"""


def test_a_name_of_a_script_that_is_looked_up_by_its_text_is_said_and_the_task_itself_fails(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(LOOKS_UP))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = {path.stem: path.read_text() for path in tmp_path.glob("*.told")}
    assert told == {"Requires": "DefinitionError", "Yields": "DefinitionError"}
