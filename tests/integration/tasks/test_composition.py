"""Functions, commands, parts, init steps, sweeps, maps and trees: all of them real Luigi tasks."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import luigi
import numpy as np
import pandas as pd
import pytest

import superluigi
from superluigi import apply, as_path, collect, compute, grid, outputs_of, run_task, shell_task, task
from superluigi.errors import (
    CommandFailedError,
    DefinitionError,
    FormatError,
    OptionError,
    OutputNotWrittenError,
    ParameterError,
    TaskFailedError,
)
from superluigi.parameters import Const, IgnoreDefault, Meta, Param, Requires
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.tasks import AtomicTaskWithMetadata, FunctionTask, InitStep, MapReduceTask, Task, cached


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


def note(word: str) -> None:
    """Something that other processes can do too, and that can be counted."""
    with open("notes.txt", "a") as file:
        file.write(f"{word}\n")


def notes() -> list[str]:
    return Path("notes.txt").read_text().split() if Path("notes.txt").exists() else []


# ---- functions


@task
def fraction(seed: int = 42, size: int = 1000) -> float:
    """The part of random points inside the quarter circle."""
    draw = random.Random(seed)
    return sum(draw.random() ** 2 + draw.random() ** 2 < 1 for _ in range(size)) / size


@task(output=lambda task: LocalFileTarget(f"pi/avg-{task.task_hash}.json"), resources={"cpu": 2}, priority=3)
def average(fractions: list[float]) -> float:
    return 4 * sum(fractions) / len(fractions)


@shell_task
def echo(avg: float) -> list[str]:
    return ["echo", "-n", f"pi is ~ {avg:.4f}"]


@task
def length(file: Path) -> int:
    return len(file.read_text())


@task
def describe(
    metadata: dict[str, Any], name: str, device: Meta[str] = "cpu", extra: Param[int, IgnoreDefault] = 0
) -> str:
    metadata["note"] = name
    return f"{name} on {device} by {metadata['task_family']}"


@task
def double(frame: pd.DataFrame, *, times: int = 2) -> pd.DataFrame:
    return frame * times


def test_functions_are_real_luigi_tasks_and_tasks_in_arguments_become_requirements() -> None:
    graph = echo(average([fraction(seed=i) for i in range(20)]))
    assert isinstance(graph, luigi.Task) and isinstance(graph, FunctionTask)
    (mean,) = graph.deps()
    assert mean.task_family == "average" and len(mean.deps()) == 20
    assert mean.resources == {"cpu": 2} and mean.priority == 3
    text = compute(graph, resources={"cpu": 2}, num_workers=2)
    assert text.startswith("pi is ~ 3.1")
    assert Path(f"pi/avg-{mean.task_hash}.json").exists()
    assert fraction.__doc__ == "The part of random points inside the quarter circle."
    assert fraction.function(1, 10) == fraction.function(seed=1, size=10)


def test_luigis_own_build_runs_them() -> None:
    graph = echo(fraction(seed=1))
    assert luigi.build([graph], local_scheduler=True, log_level="WARNING")
    assert graph.result() == f"pi is ~ {fraction(seed=1).result():.4f}"


def test_values_and_tasks_may_be_mixed_and_nested() -> None:
    @task
    def show(tree: dict[str, Any], pair: tuple[int, str], maybe: float | None = None) -> list[Any]:
        return [tree["a"][0], tree["a"][1]["b"], list(pair), maybe]

    assert compute(show({"a": [fraction(size=0 + 1), {"b": 3}]}, (echo(1.0)["x"] and 5, "s")))[1:] == [
        3,
        [5, "s"],
        None,
    ]


def test_an_argument_annotated_path_gets_the_path_and_as_path_gives_it_anywhere() -> None:
    word = echo(3.0)
    assert compute(length(word)) == len("pi is ~ 3.0000")

    @task
    def name(anything: Any) -> str:
        anything.write_text("changed")  # a copy: the source stays as it is
        return anything.suffix

    assert compute(name(as_path(word))) == ".txt"
    assert word.result() == "pi is ~ 3.0000"


def test_the_path_of_a_task_is_that_of_its_output_where_it_outlives_the_run() -> None:
    word = echo(3.0)
    path = compute(as_path(word))
    assert path == word.output().path and path.read_text() == "pi is ~ 3.0000"
    assert compute([as_path(word), word]) == [path, "pi is ~ 3.0000"]
    assert compute(collect({"x": as_path(word)})) == {"x": path}
    assert as_path(word).result() == path


def test_names_that_run_knows_are_given_and_flags_of_parameters_work() -> None:
    graph = describe("x", device="gpu")
    assert compute(graph) == "x on gpu by describe"
    assert graph.output().read_metadata()["note"] == "x"
    assert graph.task_id == describe("x").task_id
    assert "extra" not in describe("x").to_str_params(only_significant=True)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fraction(seed="x"), "fraction: the parameter 'seed' is 'x'"),
        (lambda: fraction(sead=1), "Did you mean 'seed'"),
        (lambda: average(), "'fractions' was not given"),
        (lambda: average([1.0, "x"]), "'fractions'"),
        (lambda: double(pd.DataFrame({"a": [1]})), r"a task whose value is a DataFrame \(or Const"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(call: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        call()


def test_a_table_is_passed_by_a_constant() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    assert compute(double(Const(frame), times=3)).a.tolist() == [3, 6]
    assert double(Const(frame)).task_id == double(Const(frame.copy())).task_id
    assert double(Const(frame)).task_id != double(Const(frame + 1)).task_id
    assert len(Const(pd.DataFrame({"a": range(10_000)})).task_id) < 100


def test_functions_that_cannot_be_tasks_are_refused_at_definition() -> None:
    for wrong in (lambda x: x, 3):
        with pytest.raises(DefinitionError):
            task(wrong)
    with pytest.raises(DefinitionError, match=r"\*args"):

        @task
        def many(*args: int) -> int:
            return 1

    with pytest.raises(DefinitionError, match="is async"):

        @task
        async def waits() -> int:
            return 1

    with pytest.raises(DefinitionError, match="Take the '/' out"):

        @task
        def by_place(n: int, /) -> int:
            return n

    with pytest.raises(DefinitionError, match="'output' has a meaning"):

        @task
        def clash(output: int) -> int:
            return 1

    with pytest.raises(DefinitionError, match="no attribute 'resuorces'"):

        @task(resuorces={"cpu": 1})
        def typo() -> int:
            return 1


@pytest.mark.parametrize("typo", ["s3:/bucket/x", "S3://bucket/x", "gs://bucket/x", "file:/x"])
def test_a_store_that_only_looks_like_an_address_makes_no_folder_of_that_name(typo: str) -> None:
    with pytest.raises(TaskFailedError, match="no folder and no s3://bucket/prefix"):
        compute(fraction(seed=1), store=typo)
    assert not [path for path in Path.cwd().iterdir() if ":" in path.name]


def test_generators_under_task_have_dynamic_requirements() -> None:
    @task
    def later(n: int) -> Any:
        paths = yield [fraction(seed=i) for i in range(n)]
        return len(paths)

    assert compute(later(3)) == 3


# ---- commands


@shell_task
def shell(text: str) -> str:
    return text


@shell_task
def argv(words: list[str]) -> list[str]:
    return words


@shell_task
def anything_as_command(words: Any) -> Any:
    return words


@shell_task(suffix=".bin")
def command_of_bytes() -> list[str]:
    return ["printf", "\\377\\000\\n"]


def test_a_string_goes_to_the_shell_and_a_list_does_not() -> None:
    assert compute(shell("echo one | tr o 0")) == "0ne\n"
    assert compute(argv(["echo", "$HOME | x"])) == "$HOME | x\n"
    assert compute(shell("true")) == ""


def test_a_failing_command_tells_exit_code_and_the_end_of_stderr_and_leaves_nothing(store: Path) -> None:
    noisy = f"{sys.executable} -c \"import sys; sys.stderr.write('x' * 2**20 + 'THE END'); print('part'); sys.exit(3)\""
    with pytest.raises(TaskFailedError) as caught:
        run_task(shell(noisy))
    error = caught.value.__cause__
    assert isinstance(error, CommandFailedError)
    assert "exit code 3" in str(error) and "THE END" in str(error) and len(str(error)) < 8000
    assert not [path for path in store.rglob("*") if path.is_file()]


@pytest.mark.parametrize("words", [["no-such-command-here"], [""]])
def test_a_missing_command_is_a_clean_failure(words: list[str]) -> None:
    with pytest.raises(TaskFailedError, match=r"could not be started.*Install"):
        run_task(argv(words))


@pytest.mark.parametrize("words", [[], 5, None])
def test_what_is_no_command_is_refused(words: Any) -> None:
    with pytest.raises(TaskFailedError, match=r"is no command\. Return a list"):
        run_task(anything_as_command(words))


def test_output_that_is_no_text_has_another_suffix() -> None:
    task_of_bytes = command_of_bytes()
    assert compute(task_of_bytes) == b"\xff\x00\n"
    with pytest.raises(FormatError, match=r"no text in UTF-8.*suffix \.bin"):
        compute(argv(["printf", "\\377"]))


def test_a_command_ended_by_a_signal_is_a_failure_that_names_it() -> None:
    with pytest.raises(TaskFailedError, match="SIGKILL"):
        run_task(shell("kill -9 $$"))


# ---- parts


class Corpus(AtomicTaskWithMetadata):
    def output(self) -> Any:
        return LocalFolderTarget("corpus")

    def run(self, output_path: Path) -> None:
        note("corpus")
        (output_path / "documents.json").write_text('["a", "b", "c"]')
        (output_path / "topics.tsv").write_text("id\ttext\n1\tfirst\n2\tsecond\n3\tthird\n")


class SampleTopics(AtomicTaskWithMetadata):
    topics: Requires[pd.DataFrame]
    n: Param[int]

    def output(self) -> Any:
        return LocalFolderTarget(f"sample-{self.n}")

    def run(self, inputs: Any) -> dict[str, pd.DataFrame]:
        note("sample")
        return {"topics.tsv": inputs["topics"].head(self.n)}


@task
def count(things: Any) -> int:
    return len(things)


def test_sampled_topics_whose_untouched_documents_are_not_a_dependency() -> None:
    corpus = outputs_of(Corpus(), documents="documents.json", topics="topics.tsv")
    sampled = outputs_of(SampleTopics(topics=corpus.topics, n=2), topics="topics.tsv", documents=corpus.documents)
    assert compute(count(sampled.documents)) == 3
    assert notes() == ["corpus"], "documents come from the corpus, so that the sample is not made"
    assert compute(count(sampled.topics)) == 2
    assert notes() == ["corpus", "sample"]
    with pytest.raises(AttributeError, match="There is no part 'tpoics'; there are topics, documents"):
        sampled.tpoics


def test_a_whole_value_object_requires_all_tasks_behind_it() -> None:
    corpus = outputs_of(Corpus(), documents="documents.json")
    mixed = outputs_of(
        SampleTopics(topics=Corpus()["topics.tsv"], n=1), topics="topics.tsv", documents=corpus.documents
    )
    assert compute(count(dict(mixed))) == 2
    assert notes() == ["corpus", "sample"]


class ReadsPart(AtomicTaskWithMetadata):
    topics: Requires[Any]

    def run(self, input_path: Any, metadata: Any) -> list[Any]:
        return [input_path["topics"].name, metadata["input"]["topics"]["metadata_path"]]


def test_a_part_of_a_folder_is_a_path_whose_lineage_is_that_of_the_whole() -> None:
    name, record = compute(ReadsPart(topics=Corpus()["topics.tsv"]))
    assert name == "topics.tsv" and record == str(Path(Corpus().output().metadata_path).absolute())


@task
def make() -> dict[str, Any]:
    return {"b": [10, 20], "a": {"x": 1}}


def test_an_element_of_a_value_is_accepted_wherever_a_task_is() -> None:
    assert compute(make()["b"]) == [10, 20]
    assert compute(make()["b"][1]) == 20
    assert compute(count(make()["b"])) == 2
    assert compute({"first": make()["a"], "second": [make()["b"]]}) == {"first": {"x": 1}, "second": [[10, 20]]}
    assert compute(apply(len, make()["b"])) == 2
    run_task(make()["b"])
    with pytest.raises(DefinitionError, match=r"has no part 'c'. It has 'b', 'a'"):
        compute(make()["c"])


def test_tasks_are_not_iterable_although_they_have_parts() -> None:
    with pytest.raises(TypeError):
        iter(make())  # type: ignore[call-overload]
    assert luigi.task.flatten(make()) == [make()]


# ---- init steps


class Weights(AtomicTaskWithMetadata):
    n: Param[int] = 2

    def run(self) -> int:
        return self.n


class LoadWeights(InitStep):
    weights: Requires[Weights]
    scale: Param[int] = 10

    def run(self, inputs: Any, task: Any) -> str:
        note(f"load-{os.getpid()}")
        task.loaded = inputs["weights"] * self.scale
        return "ready"


class Evaluate(AtomicTaskWithMetadata):
    offset: Param[int] = 1

    def run(self) -> list[Any]:
        note(f"run-{os.getpid()}")
        return [self.loaded + self.offset, self.init[0].value]  # type: ignore[attr-defined]


@pytest.mark.parametrize("executor", [None, "processes"])
def test_a_loader_runs_in_the_consumers_process_just_before_it(executor: Any) -> None:
    graph = Evaluate(init=(LoadWeights(weights=Weights()),))
    assert graph.deps() == [Weights()] and graph.requires() == []
    assert compute(graph, executor=executor) == [21, "ready"]
    (load, run) = notes()
    assert load.split("-")[1] == run.split("-")[1]
    assert (load.split("-")[1] == str(os.getpid())) == (executor is None)
    assert graph.output().read_metadata()["params"]["init"] == f'["{LoadWeights(weights=Weights()).task_id}"]'


def test_init_steps_are_part_of_the_identity_and_of_the_texts() -> None:
    plain, one = Evaluate(), Evaluate(init=(LoadWeights(weights=Weights()),))
    other = Evaluate(init=[LoadWeights(weights=Weights(), scale=5)])
    assert len({plain.task_id, one.task_id, other.task_id}) == 3
    assert len({plain.task_hash, one.task_hash, other.task_hash}) == 3
    assert Evaluate.from_str_params(one.to_str_params()) is one
    assert one.clone(offset=2).init == one.init and one.clone(offset=2).offset == 2
    with pytest.raises(ParameterError, match="init is"):
        Evaluate(init=(Weights(),))


# ---- cached methods


class Index(AtomicTaskWithMetadata):
    n: Param[int] = 4

    @cached("terms.npy")
    def terms(self, path: Path) -> None:
        note("terms")
        np.save(path, np.arange(self.n))

    @cached("names.json")
    def names(self) -> list[str]:
        note("names")
        return ["a"] * self.n

    @cached("bad.npy")
    def bad(self, path: Path) -> None:
        """Writes nothing."""

    def run(self) -> int:
        return int(self.terms().sum()) + len(self.names())


def test_a_cached_method_is_computed_once_and_gives_the_loaded_value(store: Path) -> None:
    assert compute(Index()) == 10
    assert Index().terms().tolist() == [0, 1, 2, 3] and Index().names() == ["a"] * 4
    assert notes() == ["terms", "names"]
    assert Index().terms.path() == store / "Index" / f"{Index().task_hash}.parts" / "terms.npy"
    assert Index(n=2).terms().tolist() == [0, 1], "each task has its own"
    Index().terms.clear()
    assert not Index().terms.exists()
    with pytest.raises(OutputNotWrittenError, match="did not write"):
        Index().bad()
    assert not Index().bad.exists()
    with pytest.raises(DefinitionError, match="Known suffixes"):
        cached("terms.nyp")


def test_several_processes_share_one_computation(tmp_path: Path) -> None:
    script = tmp_path / "shared.py"
    script.write_text(
        textwrap.dedent(
            """
            import time, os, numpy as np
            from superluigi.tasks import AtomicTaskWithMetadata, cached
            class Slow(AtomicTaskWithMetadata):
                @cached("x.npy")
                def x(self, path):
                    with open("notes.txt", "a") as file: file.write("computed\\n")
                    time.sleep(0.5)
                    np.save(path, np.arange(3))
            assert Slow().x().sum() == 3
            """
        )
    )
    running = [subprocess.Popen([sys.executable, str(script)], cwd=tmp_path) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert notes() == ["computed"]


# ---- sweeps, maps, trees


class Learn(AtomicTaskWithMetadata):
    lr: Param[float]
    bs: Param[int]
    seed: Param[int]
    layers: Param[list[int]] = []

    def run(self) -> float:
        return self.lr * self.bs


def test_a_grid_is_the_product_in_key_order_with_the_last_key_fastest() -> None:
    learned = grid(Learn, lr=[0.1, 0.01], bs=[16, 32], seed=0)
    assert [(each.lr, each.bs, each.seed) for each in learned] == [
        (0.1, 16, 0),
        (0.1, 32, 0),
        (0.01, 16, 0),
        (0.01, 32, 0),
    ]
    assert [each.bs for each in grid(Learn, {"lr": 1.0}, bs=range(3), seed=0)] == [0, 1, 2]
    assert [each.layers for each in grid(Learn, lr=1.0, bs=1, seed=0, layers=[[1], [2, 3]])] == [[1], [2, 3]]
    assert [each.bs for each in grid(Learn, lr=np.array([0.5]), bs=(1, 2), seed=0)] == [1, 2]
    assert grid(Learn, lr=[], bs=[1], seed=0) == [] and len(grid(Learn, lr=1.0, bs=1, seed=1)) == 1
    with pytest.raises(OptionError, match="'lr' is given twice"):
        grid(Learn, {"lr": [1.0]}, lr=[2.0], bs=1, seed=0)
    with pytest.raises(OptionError, match="no order"):
        grid(Learn, lr={1.0}, bs=1, seed=0)
    assert compute(grid(Learn, lr=[1.0, 2.0], bs=2, seed=0)) == [2.0, 4.0]


class SumOfSquares(MapReduceTask):
    numbers: Param[list[int]]
    accumulator = 0

    def items(self) -> list[int]:
        return self.numbers

    def map(self, item: int) -> int:
        note(f"map-{item}")
        return item * item

    def reduce(self, accumulator: int, value: int) -> int:
        return accumulator + value


class Ordered(MapReduceTask):
    words: Requires[list[str]]

    def items(self, inputs: Any) -> list[str]:
        return list(inputs["words"])

    def accumulator(self) -> list[Any]:
        return []

    def map(self, item: str, inputs: Any) -> list[Any]:
        return [item, len(inputs["words"])]

    def reduce(self, accumulator: list[Any], value: Any) -> list[Any]:
        accumulator.append(value)
        return accumulator


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_map_and_reduce_give_the_same_result_in_the_same_order_on_every_executor(executor: Any) -> None:
    assert compute(SumOfSquares(numbers=[1, 2, 3]), executor=executor, num_workers=3) == 14
    assert compute(SumOfSquares(numbers=[]), executor=executor) == 0
    words = [chr(code) for code in range(ord("j"), ord("a"), -1)]
    assert compute(Ordered(words=Const(words)), executor=executor, num_workers=3) == [[word, 9] for word in words]


class Drawn(MapReduceTask):
    accumulator = 0
    changes: Param[int]

    def items(self) -> list[int]:
        note("asked")
        return [min(notes().count("asked"), self.changes), -1]

    def map(self, item: int) -> int:
        return item

    def reduce(self, accumulator: int, value: int) -> int:
        return accumulator + value


@pytest.mark.parametrize("where", [{}, {"executor": "threads"}, {"executor": "processes"}, {"queue": "here.sqlite"}])
def test_items_that_are_others_each_time_end_with_an_error_that_names_the_task(where: Any) -> None:
    with pytest.raises(TaskFailedError, match=r"items\(\) of Drawn\(changes=1000\) has given other items 10 times"):
        run_task(Drawn(changes=1000), quiet=True, **where)


def test_items_that_come_in_while_it_runs_are_mapped_too() -> None:
    assert compute(Drawn(changes=8)) == 7
    assert compute(Drawn(changes=8)) == 7


def test_items_may_be_tasks() -> None:
    class OfTasks(SumOfSquares):
        def items(self) -> Any:
            return [Weights(n) for n in self.numbers]

    assert compute(OfTasks(numbers=[1, 2])) == 5


def test_items_that_can_be_asked_for_once_are_refused_and_a_new_iterator_each_time_is_not() -> None:
    once = (number for number in (1, 2))

    class Given(SumOfSquares):
        numbers = (1, 2)
        items = iter((1, 2))

    class Kept(SumOfSquares):
        def items(self) -> Any:
            return once

    class New(SumOfSquares):
        def items(self) -> Any:
            return iter(self.numbers)

    for refused in (Given(), Kept(numbers=[1, 2])):
        with pytest.raises(TaskFailedError, match="is an iterator, which gives what it has once"):
            run_task(refused)
        assert not refused.output().exists()
    assert compute(New(numbers=[1, 2])) == 5


def test_a_map_reduce_task_without_map_says_what_is_missing() -> None:
    class Unfinished(MapReduceTask):
        items = (1,)

    with pytest.raises(TaskFailedError, match="needs a method map"):
        run_task(Unfinished())


def plus_one(value: int) -> int:
    return value + 1


@pytest.mark.parametrize("executor", [None, "processes"])
def test_apply_is_a_new_task_with_its_own_output_and_the_original_stays(executor: Any) -> None:
    step = 5
    one, two = apply(plus_one, Weights(1)), apply(lambda value: value + step, Weights(1))
    assert compute([one, two, Weights(1)], executor=executor) == [2, 6, 1]
    assert len({one.task_id, two.task_id, Weights(1).task_id}) == 3
    assert len({str(each.output()) for each in (one, two, Weights(1))}) == 3
    step = 6
    assert apply(lambda value: value + step, Weights(1)).task_id != two.task_id, "what it closes over counts"
    assert apply(plus_one, Weights(1)) == one
    with pytest.raises(ParameterError, match="a function"):
        apply(3, Weights(1))  # type: ignore[arg-type]


class ModelA(AtomicTaskWithMetadata):
    def run(self) -> list[float]:
        return [1.0, 2.0]


class SquaredError(AtomicTaskWithMetadata):
    model: Requires[list[float]]

    def run(self, inputs: Any) -> float:
        return float(sum(value**2 for value in inputs["model"]))


def test_a_task_that_takes_a_task_is_a_functor() -> None:
    assert compute(SquaredError(ModelA())) == 5.0
    assert compute(apply(SquaredError, ModelA())) == 5.0
    assert apply(SquaredError, ModelA()) is SquaredError(ModelA())


def test_trees_keep_their_shape() -> None:
    tree = {"a": [Weights(1), Weights(2)], "b": (Weights(3),), "c": 4}
    shape = {"a": [1, 2], "b": (3,), "c": 4}
    assert compute(tree) == shape
    assert compute(collect(tree)) == shape
    assert compute([]) == [] and compute(Weights) == 2


def test_compute_of_a_tree_can_be_forced() -> None:
    @task
    def noted(n: int) -> int:
        note(str(n))
        return n

    tree = [noted(1), noted(2)]
    compute(tree)
    compute(tree)
    assert sorted(notes()) == ["1", "2"]
    compute(tree, force=True)
    assert sorted(notes()) == ["1", "1", "2", "2"]


def test_a_task_can_be_a_classic_requirement_of_any_luigi_task() -> None:
    class Classic(luigi.Task):  # type: ignore[misc]
        def requires(self) -> Any:
            return {"part": make()["b"], "const": Const(4)}

        def output(self) -> Any:
            return luigi.LocalTarget("classic.txt")

        def run(self) -> None:
            with self.output().open("w") as file:
                file.write("done")

    assert luigi.build([Classic()], local_scheduler=True, log_level="WARNING")


class Link(AtomicTaskWithMetadata):
    before: Requires[int]

    def run(self, inputs: Any) -> int:
        return int(inputs["before"]) + 1


def test_a_long_chain_is_planned_and_counted_without_recursion() -> None:
    graph: Any = Weights(0)
    for _ in range(5000):
        graph = Link(before=graph)
    assert superluigi.plan(graph).counts == {"Link": 5000, "Weights": 1}
    short: Any = Weights(0)
    for _ in range(150):
        short = Link(before=short)
    assert compute(short) == 150


@pytest.mark.long
def test_a_chain_of_5000_tasks_runs() -> None:
    graph: Any = Weights(0)
    for _ in range(5000):
        graph = Link(before=graph)
    assert compute(graph) == 5000


def test_plan_and_storage_report_count_per_class() -> None:
    graph = SquaredError(Link(before=Weights(1)))
    before = superluigi.plan(graph)
    assert before.counts == {"SquaredError": 1, "Link": 1, "Weights": 1} and not before.complete
    run_task(Weights(1))
    after = superluigi.plan(graph)
    assert after.counts == {"SquaredError": 1, "Link": 1} and after.complete == (Weights(1),)
    report = superluigi.storage_report(graph)
    assert (report["Weights"].present, report["Weights"].bytes) == (1, 1)
    assert (report["Link"].outputs, report["Link"].present, report["Link"].bytes) == (1, 0, 0)
    assert "would run 2 tasks" in str(after)


def test_a_task_shows_itself_in_a_notebook() -> None:
    shown = Weights(7)._repr_html_()
    assert "not made yet" in shown and "<td>7</td>" in shown
    run_task(Weights(7))
    shown = Weights(7)._repr_html_()
    assert "complete" in shown and ".metadata.json'>record</a>" in shown
    assert "<script>" not in shell("<script>")._repr_html_()


def test_clearing_removes_outputs_with_their_records(store: Path) -> None:
    run_task(collect([Weights(1), Weights(2)]))
    assert [str(target) for target in Weights(1).clear()] == [str(Weights(1).output())]
    assert not Weights(1).complete() and Weights(2).complete() and Weights(1).clear() == []
    assert len(Weights.clear_all()) == 1
    assert not list((store / "Weights").rglob("*.json"))
    assert isinstance(Task.clear_all(), list)
