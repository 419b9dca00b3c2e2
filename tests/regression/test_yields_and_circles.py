"""What `run` may yield, how it is answered, and tasks that wait for each other."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import luigi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from luigi.task import DynamicRequirements

from superluigi import compute, graph, run_task
from superluigi.errors import DefinitionError, OptionError, RunSignatureError, TaskFailedError
from superluigi.parameters import Param
from superluigi.tasks import AtomicTaskWithMetadata, Task, TaskWithMetadata

WAYS = [{}, {"num_workers": 2, "executor": "threads"}, {"num_workers": 2, "executor": "processes"}]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLUIGI_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Leaf(AtomicTaskWithMetadata):
    n: Param[int]

    def run(self) -> int:
        return self.n


class PlainLeaf(luigi.Task):
    n = luigi.IntParameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"leaf-{self.n}.txt")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write(str(self.n))


class Pair(NamedTuple):
    left: Any
    right: Any


def _iterate(make: Any) -> Iterator[Any]:
    yield make(1)
    yield [make(2), (make(3) for _ in "x")]


class OddMapping(collections.OrderedDict[Any, Any]):
    pass


def read(paths: Any) -> Any:
    """The numbers in a shape of paths or targets."""
    if paths is None:
        return None
    if isinstance(paths, Pair):
        return Pair(read(paths.left), read(paths.right))
    if isinstance(paths, dict):
        return {key: read(value) for key, value in paths.items()}
    if isinstance(paths, (list, tuple)):
        return [read(one) for one in paths]
    return int(Path(getattr(paths, "path", paths)).read_text())


class Counted(DynamicRequirements):
    """One that says nothing of its answer."""


class SaysItself(DynamicRequirements):
    @property
    def paths(self) -> Any:
        return "what it says"


#: What is yielded, and what the numbers in the answer must be.
SHAPES: dict[str, tuple[Any, Any]] = {
    "one": (lambda make: make(1), 1),
    "list": (lambda make: [make(1), make(2)], [1, 2]),
    "generator": (lambda make: (make(n) for n in (1, 2)), [1, 2]),
    "map": (lambda make: map(make, (1, 2)), [1, 2]),
    "filter": (lambda make: filter(None, [make(1), None, make(2)]), [1, 2]),
    "zip": (lambda make: zip([make(1)], [make(2)], strict=True), [[1, 2]]),
    "iterator": (lambda make: iter([make(1), make(2)]), [1, 2]),
    "reversed": (lambda make: reversed([make(1), make(2)]), [2, 1]),
    "values": (lambda make: {"a": make(1), "b": make(2)}.values(), [1, 2]),
    "keys": (lambda make: {make(1): "a", make(2): "b"}.keys(), [1, 2]),
    "deque": (lambda make: collections.deque([make(1), make(2)]), [1, 2]),
    "set of one": (lambda make: {make(1)}, [1]),
    "frozenset": (lambda make: frozenset([make(2)]), [2]),
    "nested": (lambda make: {"a": [make(1), {"b": (make(2),)}], "c": make(3)}, {"a": [1, {"b": [2]}], "c": 3}),
    "nested generators": (_iterate, [1, [2, [3]]]),
    "named tuple": (lambda make: Pair(make(1), [make(2)]), Pair(1, [2])),
    "default dict": (lambda make: collections.defaultdict(list, {"a": [make(1)]}), {"a": [1]}),
    "ordered dict": (lambda make: OddMapping(a=make(1)), {"a": 1}),
    "nothing": (lambda make: [], []),
    "None": (lambda make: None, None),
    "None inside": (lambda make: {"a": None, "b": make(1)}, {"a": None, "b": 1}),
    "dynamic": (lambda make: DynamicRequirements([make(1), make(2)]), [1, 2]),
    "dynamic dict": (lambda make: DynamicRequirements({"a": make(1), "b": [make(2)]}), {"a": 1, "b": [2]}),
    "dynamic with an end of its own": (lambda make: DynamicRequirements([make(1)], lambda asked: asked(make(1))), [1]),
    "dynamic, a class of its own": (lambda make: Counted([make(1)]), [1]),
    "dynamic generator": (lambda make: DynamicRequirements(make(n) for n in (1, 2)), [1, 2]),
}


class Yields(AtomicTaskWithMetadata):
    shape: Param[str]
    ours: Param[bool] = True
    returns = Any

    def run(self, task_dir: Path) -> Any:
        make = (lambda n: Leaf(n=n)) if self.ours else (lambda n: PlainLeaf(n))
        asked, expected = SHAPES[self.shape]
        answer = yield asked(make)
        first = read(answer)
        second = read((yield asked(make)))
        assert first == second == expected, (first, second)
        assert all(isinstance(one, (Path, type(None))) for one in graph.flatten(answer)), answer
        assert (yield SaysItself([make(1)])) == "what it says"
        return "right"


class PlainYields(luigi.Task):
    shape = luigi.Parameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"{self.shape}.txt")

    def run(self) -> Any:
        asked, expected = SHAPES[self.shape]
        assert read((yield asked(PlainLeaf))) == expected
        assert read((yield asked(lambda n: Leaf(n=n)))) == expected
        with self.output().open("w") as file:
            file.write("x")


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_every_answer_comes_back_in_the_shape_that_was_asked_for(shape: str) -> None:
    run_task(PlainYields(shape))
    if shape != "None":  # of a task of ours that is a mistake
        assert compute(Yields(shape=shape)) == "right"
        assert compute(Yields(shape=shape, ours=False)) == "right"


@pytest.mark.parametrize("options", WAYS[1:])
def test_so_it_does_with_other_executors(options: dict[str, Any]) -> None:
    class All(luigi.WrapperTask):
        def requires(self) -> Any:
            return [kind(shape=shape) for shape in SHAPES for kind in (Yields, PlainYields) if shape != "None"]

    run_task(All(), **options)


trees = st.recursive(
    st.integers(0, 3),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), below, max_size=3)
        | st.tuples(below, below)
        | st.builds(Pair, below, below)
    ),
    max_leaves=6,
)


def _planted(tree: Any, lazily: bool) -> Any:
    if isinstance(tree, Pair):
        return Pair(*(_planted(one, lazily) for one in tree))
    if isinstance(tree, dict):
        return {key: _planted(one, lazily) for key, one in tree.items()}
    if isinstance(tree, (list, tuple)):
        planted = [_planted(one, lazily) for one in tree]
        return iter(planted) if lazily else type(tree)(planted)
    return PlainLeaf(tree)


def _listed(tree: Any) -> Any:
    if isinstance(tree, Pair):
        return Pair(*map(_listed, tree))
    if isinstance(tree, dict):
        return {key: _listed(one) for key, one in tree.items()}
    return [_listed(one) for one in tree] if isinstance(tree, (list, tuple)) else tree


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees, lazily=st.booleans())
def test_any_tree_is_answered_in_its_shape(tree: Any, lazily: bool) -> None:
    answers: list[Any] = []

    class Asks(luigi.Task):
        def complete(self) -> bool:
            return bool(answers)

        def run(self) -> Any:
            answers.append(read((yield _planted(tree, lazily))))

    run_task(Asks())
    assert answers == [_listed(tree)]


@pytest.mark.parametrize("what", ["Leaf", 7, Leaf, luigi.LocalTarget("x"), [object()], {"a": "b"}, None])
def test_a_yield_of_what_is_no_task_is_explained(what: Any) -> None:
    class Asks(AtomicTaskWithMetadata):
        def run(self) -> Any:
            yield what
            return 1

    with pytest.raises(TaskFailedError, match=r"must give Task objects|gave None"):
        run_task(Asks())


NO_TASKS = ["Leaf", 7, Leaf, luigi.LocalTarget("x"), [object()], {"a": "b"}, [Leaf(n=1), Leaf]]


@pytest.mark.parametrize("what", NO_TASKS)
@pytest.mark.parametrize("base", [luigi.Task, Task, AtomicTaskWithMetadata])
def test_a_requirement_that_is_no_task_is_explained_whatever_asks_first(base: Any, what: Any) -> None:
    class Asks(base):
        def requires(self) -> Any:
            return what

        if base is not AtomicTaskWithMetadata:  # which asks for its hash first

            def output(self) -> Any:
                return luigi.LocalTarget("x.txt")

        def run(self) -> int:
            return 1

    with pytest.raises(TaskFailedError, match=r"requires\(\) of Asks\(\) must give Task objects"):
        run_task(Asks())
    if base is not luigi.Task:
        with pytest.raises(DefinitionError, match="must give Task objects"):
            _ = Asks().task_hash


# ---- asynchronous methods


@pytest.mark.parametrize("base", [Task, TaskWithMetadata, AtomicTaskWithMetadata])
def test_asynchronous_methods_are_refused_when_the_class_is_written(base: Any) -> None:
    async def coroutine(self: Any, *_: Any) -> Any:
        return 1

    async def generator(self: Any, *_: Any) -> AsyncIterator[Any]:
        yield 1

    class Mixin:
        run = coroutine

    for name in ("run", "requires", "output", "complete", "on_success", "on_failure", "save_output", "load_output"):
        for method in (coroutine, generator):
            with pytest.raises(RunSignatureError, match=rf"Late\.{name} is `async def`.*asyncio\.run"):
                type("Late", (base,), {name: method, "__module__": __name__})
    with pytest.raises(RunSignatureError, match="async def"):
        type("Late", (Mixin, base), {"__module__": __name__})
    kind = type("Early", (base,), {"__module__": __name__})
    if base is not Task:
        with pytest.raises(RunSignatureError, match="async def"):
            kind.run = coroutine


def test_an_asynchronous_run_that_nobody_could_see_fails_when_it_is_called() -> None:
    async def work() -> int:
        return 1

    class Hidden(AtomicTaskWithMetadata):
        def run(self) -> Any:
            return work()

    class Plain(luigi.Task):
        def output(self) -> Any:
            return luigi.LocalTarget("never.txt")

        async def run(self) -> None:
            raise AssertionError("nobody awaits it")

    for one in (Hidden(), Plain()):
        with pytest.raises(TaskFailedError, match="is asynchronous"):
            run_task(one)
        assert not one.complete()


def test_asyncio_inside_of_run_works() -> None:
    class Awaits(AtomicTaskWithMetadata):
        def run(self) -> int:
            return asyncio.run(asyncio.sleep(0, 5))

    with ThreadPoolExecutor(1) as fresh:  # a browser of another test may have its loop running in this thread
        assert fresh.submit(compute, Awaits()).result() == 5


# ---- circles


class Round(luigi.Task):
    """A circle of `size` tasks; a letter for each says whether it requires (r) or yields (y) the next."""

    n = luigi.IntParameter()
    links = luigi.Parameter()

    def next(self) -> Any:
        return type(self)((self.n + 1) % len(self.links), self.links)

    def requires(self) -> Any:
        return self.next() if self.links[self.n] == "r" else []

    def output(self) -> Any:
        return luigi.LocalTarget(f"never-{self.n}")

    def run(self) -> Any:
        if self.links[self.n] == "y":
            yield self.next()
        raise AssertionError("nothing in a circle can be made")


class OurRound(AtomicTaskWithMetadata):
    n: Param[int]
    links: Param[str]

    def next(self) -> Any:
        return OurRound(n=(self.n + 1) % len(self.links), links=self.links)

    def output(self) -> Any:
        from superluigi.targets import LocalFileTarget

        return LocalFileTarget(f"never-ours-{self.n}")

    def run(self) -> Any:
        yield self.next()
        raise AssertionError("nothing in a circle can be made")


class Beside(luigi.WrapperTask):
    links = luigi.Parameter()

    def requires(self) -> Any:
        return [PlainLeaf(1), Round(0, self.links), PlainLeaf(2)]


@pytest.mark.parametrize("links", ["r", "y", "rr", "yy", "ry", "yr", "rrr", "yry", "ryyr", "yyyyy", "rrrrr", "yrryr"])
def test_a_circle_of_any_kind_is_named_and_the_others_run(links: str) -> None:
    with pytest.raises(OptionError, match="circle") as caught:
        run_task(Beside(links))
    for n in range(len(links)):
        assert f"Round(n={n}, links={links})" in str(caught.value)
    assert PlainLeaf(1).complete()
    assert PlainLeaf(2).complete()


@pytest.mark.parametrize("options", WAYS[1:])
def test_circles_are_named_with_other_executors(options: dict[str, Any]) -> None:
    for root in (Round(0, "yry"), OurRound(n=0, links="yyy")):
        with pytest.raises(OptionError, match=r"circle.*n=1.*n=2"):
            run_task(root, **options)


def test_two_circles_and_a_failure_are_all_named() -> None:
    class Fails(luigi.Task):
        def output(self) -> Any:
            return luigi.LocalTarget("never")

        def run(self) -> None:
            raise ValueError("boom")

    class All(luigi.WrapperTask):
        def requires(self) -> Any:
            return [Fails(), Round(0, "yr"), Round(0, "rry")]

    with pytest.raises(TaskFailedError) as caught:
        run_task(All())
    said = str(caught.value)
    assert said.count("in a circle") == 2
    assert "boom" in said
    assert "external" not in said


def test_a_long_circle_is_named_by_its_ends() -> None:
    with pytest.raises(OptionError, match=r"more …") as caught:
        run_task(Round(0, "r" * 300))
    assert len(str(caught.value)) < 40 * 300


class Waits(Task):
    """Yields what says of itself that it is complete only when it is asked often enough."""

    refusals: Param[int]

    def output(self) -> Any:
        return luigi.LocalTarget("waited.txt")

    def run(self) -> Iterator[Any]:
        yield DynamicRequirements([Leaf(1), Leaf(2)], self._is_seen)
        Path(self.output().path).touch()

    def _is_seen(self, complete: Any) -> bool:
        with Path("asked.txt").open("a") as asked:
            asked.write(".")
        return Path("asked.txt").stat().st_size > self.refusals


@pytest.mark.parametrize("options", WAYS)
def test_a_custom_complete_that_is_never_true_fails_its_task_and_one_that_lags_does_not(
    options: dict[str, Any],
) -> None:
    with pytest.raises(TaskFailedError, match="custom_complete has not returned True"):
        run_task(Waits(10**6), **options)
    assert not Path("waited.txt").exists()
    Path("asked.txt").unlink()
    run_task(Waits(5), **options)
    assert Path("waited.txt").exists()


def _asks_while_it_is_left(make: Any) -> Iterator[Any]:
    try:
        yield make(20)
    finally:
        yield make(21)


def _asks_until_it_is_answered(make: Any) -> Iterator[Any]:
    while True:
        try:
            yield make(22)
            break
        except BaseException:  # noqa: BLE001 - as people write it, and GeneratorExit is among them
            continue


def _fails_while_it_is_left(make: Any) -> Iterator[Any]:
    try:
        yield make(23)
    finally:
        raise LookupError("nothing to clean up")


class Left(luigi.Task):
    which = luigi.IntParameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"left-{self.which}.txt")

    def run(self) -> Any:
        yield from (_asks_while_it_is_left, _asks_until_it_is_answered, _fails_while_it_is_left)[self.which](PlainLeaf)
        self.output().open("w").close()


class OurLeft(AtomicTaskWithMetadata):
    which: Param[int]

    def run(self) -> Any:
        yield from (_asks_while_it_is_left, _asks_until_it_is_answered, _fails_while_it_is_left)[self.which](Leaf)
        return self.which


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python's own, of the one without end
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_generator_that_asks_for_more_while_it_waits_is_asked_again(options: dict[str, Any]) -> None:
    class All(luigi.WrapperTask):
        def requires(self) -> Any:
            return [kind(which=n) for kind in (Left, OurLeft) for n in range(3)]

    with pytest.raises(TaskFailedError) as caught:
        run_task(All(), **options)
    assert {task for task, _ in caught.value.failures} == {"Left(which=2)", "OurLeft(which=2)"}
    assert all("nothing to clean up" in reason for _, reason in caught.value.failures)
    assert all(kind(which=n).complete() for kind in (Left, OurLeft) for n in range(2))
