"""What the tests of the queue share: databases of both kinds, and projects of a user's own."""

from __future__ import annotations

from pathlib import Path

#: The example of the issue: draws, their average, and its echo.
PI = """
    class Draw(luigi.Task):
        seed = luigi.IntParameter()
        pool = "draws"

        def output(self):
            return luigi.LocalTarget(f"out/draw-{self.seed}.json")

        def run(self):
            import random
            print("drawing with seed", self.seed, flush=True)
            with open("ran.log", "a") as log:
                log.write(f"draw {self.seed}\\n")
            rng = random.Random(self.seed)
            inside = sum(rng.random() ** 2 + rng.random() ** 2 < 1 for _ in range(2000))
            with self.output().open("w") as file:
                json.dump(4 * inside / 2000, file)


    class Average(luigi.Task):
        seeds = luigi.IntParameter(default=20)

        def requires(self):
            return [Draw(seed=seed) for seed in range(self.seeds)]

        def output(self):
            return luigi.LocalTarget(f"out/average-{self.seeds}.json")

        def run(self):
            with open("ran.log", "a") as log:
                log.write("average\\n")
            values = [json.load(target.open()) for target in self.input()]
            with self.output().open("w") as file:
                json.dump(sum(values) / len(values), file)


    class Echo(luigi.Task):
        seeds = luigi.IntParameter(default=20)

        def requires(self):
            return Average(seeds=self.seeds)

        def output(self):
            return luigi.LocalTarget(f"out/echo-{self.seeds}.txt")

        def run(self):
            with open("ran.log", "a") as log:
                log.write("echo\\n")
            value = json.load(self.input().open())
            print("pi is about", value)
            with self.output().open("w") as file:
                file.write(str(value))
"""


def ran() -> list[str]:
    """What tasks of `PI` have written of themselves."""
    file = Path("ran.log")
    return file.read_text().splitlines() if file.exists() else []
