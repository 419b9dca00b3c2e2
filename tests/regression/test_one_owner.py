"""A place has one owner: clashes are refused when a run is planned, and no commit or removal takes another's output."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import luigi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superluigi import compute, config, run_task, task
from superluigi.engine.clashes import Clashes
from superluigi.errors import OutputClashError, TaskFailedError
from superluigi.queue import Queue
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.targets.base import AtomicTarget
from superluigi.tasks import AtomicTaskWithMetadata, ExternalTask, Task, TaskWithMetadata, as_path
from superluigi.testing.s3_server import S3Server

Make = Callable[[], Any]


class Maker(AtomicTaskWithMetadata):
    """Makes whatever target it is given."""

    name = luigi.Parameter()
    outputs: ClassVar[dict[str, Make]] = {}
    required: ClassVar[dict[str, list[str]]] = {}

    def requires(self) -> Any:
        return [Maker(name) for name in self.required.get(self.name, ())]

    def output(self) -> Any:
        return self.outputs[self.name]()

    def run(self, output_path: Path) -> None:
        if output_path.is_dir():
            (output_path / "index.txt").write_text(self.name)
        else:
            output_path.write_text(self.name)


class Both(luigi.WrapperTask):
    """Requires two makers."""

    def requires(self) -> Any:
        return [Maker("first"), Maker("second")]


class Yielding(AtomicTaskWithMetadata):
    """Discovers the first maker, whose place its own output may be."""

    def output(self) -> Any:
        return Maker.outputs["second"]()

    def run(self, output_path: Path) -> Any:
        yield Maker("first")
        (output_path / "x").write_text("x") if output_path.is_dir() else output_path.write_text("x")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    monkeypatch.setattr(Maker, "outputs", {})
    monkeypatch.setattr(Maker, "required", {})


def _local_pairs() -> dict[str, tuple[Make, Make]]:
    return {
        "the same file": (lambda: LocalFileTarget("a.txt"), lambda: LocalFileTarget(os.path.abspath("a.txt"))),
        "dots": (lambda: LocalFileTarget("a.txt"), lambda: LocalFileTarget("sub/../a.txt")),
        "a linked folder": (lambda: LocalFileTarget("real/a"), lambda: LocalFileTarget("link/a")),
        "a file and a folder": (lambda: LocalFileTarget("a"), lambda: LocalFolderTarget("a/")),
        "inside": (lambda: LocalFolderTarget("a"), lambda: LocalFileTarget("a/b/c.txt")),
        "around": (lambda: LocalFileTarget("a/b/c.txt"), lambda: LocalFolderTarget("./a")),
        "a folder in a folder": (lambda: LocalFolderTarget("a"), lambda: LocalFolderTarget("a/b")),
        "one record": (
            lambda: LocalFileTarget("a", metadata_path="r.json"),
            lambda: LocalFileTarget("b", metadata_path="r.json"),
        ),
        "a record as data": (lambda: LocalFileTarget("a", metadata_path="b"), lambda: LocalFileTarget("b")),
        "a record where another's goes": (
            lambda: LocalFileTarget("a", metadata_path="b.metadata.json"),
            lambda: LocalFileTarget("b"),
        ),
        "a record inside": (
            lambda: LocalFolderTarget("a"),
            lambda: LocalFileTarget("b", metadata_path="a/r.json"),
        ),
        "Luigi's target": (lambda: LocalFolderTarget("a"), lambda: [LocalFileTarget("z"), LocalFileTarget("a/x")]),
    }


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("case", _local_pairs())
def test_two_tasks_with_one_place_are_refused_before_anything_runs(tmp_path: Path, case: str, swap: bool) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    first, second = reversed(_local_pairs()[case]) if swap else _local_pairs()[case]
    Maker.outputs.update(first=first, second=second)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputClashError) as raised:
        run_task(Both())
    assert "Maker(name=first)" in str(raised.value) and "Maker(name=second)" in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_only_looks_alike_is_no_clash() -> None:
    Maker.outputs.update(first=lambda: LocalFolderTarget("a"), second=lambda: LocalFileTarget("a.txt"))
    run_task(Both())
    assert Path("a/index.txt").exists() and Path("a.txt").exists()


def test_places_on_s3_are_compared_by_server_bucket_and_key(s3_server: S3Server, s3_bucket: str) -> None:
    options = s3_server.client_options
    pairs = [
        (S3ObjectTarget(s3_bucket, "a", **options), S3ObjectTarget(s3_bucket, "a", **options)),
        (S3PrefixTarget(s3_bucket, "a", **options), S3ObjectTarget(s3_bucket, "a/b/c", **options)),
        (S3PrefixTarget(s3_bucket, "a/b/", **options), S3PrefixTarget(s3_bucket, "a", **options)),
        (
            S3ObjectTarget(s3_bucket, "a", metadata_object_key="r", **options),
            S3ObjectTarget(s3_bucket, "b", metadata_object_key="r", **options),
        ),
    ]
    for first, second in (order for pair in pairs for order in (pair, pair[::-1])):
        Maker.outputs.update(first=lambda first=first: first, second=lambda second=second: second)
        with pytest.raises(OutputClashError):
            run_task(Both())
    elsewhere = {**options, "endpoint_url": options["endpoint_url"].replace("127.0.0.1", "localhost")}
    clashes = Clashes()
    Maker.outputs.update(
        first=lambda: S3ObjectTarget(s3_bucket, "a", **options),
        second=lambda: S3ObjectTarget(s3_bucket, "a", **elsewhere),
        third=lambda: S3ObjectTarget("other-bucket", "a", **options),
        fourth=lambda: S3PrefixTarget(s3_bucket, "ab", **options),
        fifth=lambda: S3ObjectTarget(s3_bucket, "abc/d", **options),
    )
    for name in Maker.outputs:
        clashes.add(Maker(name))


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_every_executor_refuses(executor: str) -> None:
    Maker.outputs.update(first=lambda: LocalFileTarget("a"), second=lambda: LocalFileTarget("a"))
    with pytest.raises(OutputClashError):
        run_task(Both(), num_workers=2, executor=executor)


def test_a_queue_takes_no_clashing_graph() -> None:
    Maker.outputs.update(first=lambda: LocalFileTarget("a"), second=lambda: LocalFileTarget("a"))
    queue = Queue("clashing")
    with pytest.raises(OutputClashError):
        queue.submit(Both())
    assert queue.tasks() == []


def test_what_is_discovered_while_running_is_refused_each_time() -> None:
    Maker.outputs.update(first=lambda: LocalFileTarget("a/b.txt"), second=lambda: LocalFolderTarget("a"))
    for _ in range(2):
        with pytest.raises(TaskFailedError, match="OutputClashError"):
            run_task(Yielding())
        assert not Path("a").exists()


class Reads(ExternalTask):
    path = luigi.Parameter()
    salt = luigi.IntParameter(default=0)

    def output(self) -> Any:
        return LocalFileTarget(self.path)


class Alias(Task):
    """Hands on what it requires, as tasks of Luigi do."""

    def requires(self) -> Any:
        return Maker("first")

    def output(self) -> Any:
        return self.input()


class Acting(Alias):
    """The same with a side effect."""

    def run(self) -> None:
        Path("acted").touch()


class Taking(TaskWithMetadata):
    """Would write its record over that of what it requires."""

    def requires(self) -> Any:
        return Maker("first")

    def output(self) -> Any:
        return self.input()

    def run(self) -> None: ...


class Several(luigi.WrapperTask):
    made: ClassVar[list[Any]] = []

    def requires(self) -> Any:
        return self.made


def test_readers_and_tasks_that_hand_on_are_no_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("raw").write_text("raw")
    Maker.outputs.update(first=lambda: LocalFileTarget("a"))
    tasks = [Reads("raw"), Reads("raw", salt=1), Maker("first"), Alias(), Acting()]
    monkeypatch.setattr(Several, "made", tasks)
    run_task(Several())
    assert Path("acted").exists() and Path("a").read_text() == "first"
    monkeypatch.setattr(Several, "made", [*tasks, Reads("a")])
    run_task(Several(), force_upstream=True)


def test_a_task_whose_record_would_replace_that_of_its_requirement_is_refused() -> None:
    Maker.outputs.update(first=lambda: LocalFileTarget("a"))
    with pytest.raises(OutputClashError, match="Taking"):
        run_task(Taking())


def test_data_of_others_inside_a_folder_that_a_task_makes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a").mkdir()
    Path("a/raw").write_text("raw")
    Maker.outputs.update(first=lambda: LocalFolderTarget("a"))
    monkeypatch.setattr(Several, "made", [Reads("a/raw"), Maker("first")])
    with pytest.raises(OutputClashError, match="raw"):
        run_task(Several(), force_upstream=True)
    assert Path("a/raw").read_text() == "raw"


def test_where_nothing_runs_nobody_is_refused() -> None:
    Maker.outputs.update(first=lambda: LocalFileTarget("a"), second=lambda: LocalFileTarget("a"))
    run_task(Maker("first"))
    run_task(Both())
    with pytest.raises(OutputClashError):
        run_task(Both(), force_upstream=True)


# ---------------------------------------------------------------- the search against all pairs

_PLACES = st.tuples(
    st.lists(st.sampled_from(["a", "b", "a.b", "ab"]), min_size=1, max_size=4).map("/".join), st.booleans()
)


def _naive(places: list[tuple[str, bool]]) -> bool:
    for (one, one_whole), (other, other_whole) in itertools.permutations(places, 2):
        if one == other or (one_whole and other.startswith(f"{one}/")):
            return True
        del other_whole
    return False


@given(st.lists(_PLACES, max_size=6))
def test_a_clash_is_found_exactly_when_comparing_all_pairs_finds_one(places: list[tuple[str, bool]]) -> None:
    clashes = Clashes()
    found = False
    for number, (path, whole) in enumerate(places):
        kind = LocalFolderTarget if whole else LocalFileTarget
        Maker.outputs[f"{number}"] = lambda kind=kind, path=path: kind(f"/nowhere/{path}")
        try:
            clashes.add(Maker(f"{number}"))
        except OutputClashError:
            found = True
            break
    assert found == _naive(places)


# ---------------------------------------------------------------- commits and removals, each in a run of its own


def _rig(kind: str, server: S3Server, bucket: str) -> tuple[Callable[[str], AtomicTarget], Callable[[str], Any]]:
    """Makers of folders and of what is inside them."""
    if kind == "local":
        return LocalFolderTarget, LocalFileTarget
    options = server.client_options
    return (
        lambda path: S3PrefixTarget(bucket, path, **options),
        lambda path: S3ObjectTarget(bucket, path, **options),
    )


@pytest.mark.parametrize("first", ["the inner one", "the outer one"])
@pytest.mark.parametrize("kind", ["local", "s3"])
def test_no_commit_or_removal_takes_what_another_task_has_inside(
    kind: str, first: str, s3_server: S3Server, s3_bucket: str
) -> None:
    folder, file = _rig(kind, s3_server, s3_bucket)
    Maker.outputs.update(
        inner=lambda: file("report/parts/p.txt"),
        nested=lambda: folder("report/whole"),
        outer=lambda: folder("report"),
    )
    if first == "the outer one":
        run_task(Maker("outer"))
    for name in ("inner", "nested"):
        run_task(Maker(name))
    for attempt in (
        lambda: run_task(Maker("outer"), force=True),
        Maker.outputs["outer"]().remove,
        lambda: _rewritten(Maker.outputs["outer"]()),
    ):
        with pytest.raises((OutputClashError, TaskFailedError), match=r"inside it.*(p\.txt|whole)") as raised:
            attempt()
        assert "Maker_inner" in str(raised.value) and "Maker_nested" in str(raised.value)
        for name in ("inner", "nested"):
            assert Maker(name).complete() and Maker(name).output().read_metadata()["task_family"] == "Maker"
    for name in ("inner", "nested"):
        Maker(name).output().remove()
    run_task(Maker("outer"), force=True)
    assert Maker("outer").output().read_metadata() is not None


@pytest.mark.parametrize("first", ["the record", "the folder", "the record, the folder by hand"])
@pytest.mark.parametrize("kind", ["local", "s3"])
def test_no_commit_or_removal_takes_a_record_that_is_kept_inside(
    kind: str, first: str, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    folder, _ = _rig(kind, s3_server, s3_bucket)
    kept, options = "report/kept/of data.json", s3_server.client_options
    Maker.outputs.update(
        inner=lambda: (
            LocalFileTarget("data.txt", metadata_path=kept)
            if kind == "local"
            else S3ObjectTarget(s3_bucket, "data.txt", metadata_object_key=kept, **options)
        ),
        outer=lambda: folder("report"),
    )
    run_task(Maker("inner" if first == "the record" else "outer"))
    run_task(Maker("inner"))
    if first == "the record, the folder by hand":
        Path("report.metadata.json").unlink(missing_ok=True)
    for attempt in (
        lambda: run_task(Maker("outer"), force=True),
        Maker.outputs["outer"]().remove,
        lambda: _rewritten(Maker.outputs["outer"]()),
    ):
        with pytest.raises((OutputClashError, TaskFailedError), match=r"inside it.*of data\.json") as raised:
            attempt()
        assert "data.txt" in str(raised.value) and "Maker_inner" in str(raised.value)
        assert Maker("inner").output().read_metadata()["task_family"] == "Maker"
    Maker("inner").output().remove()
    run_task(Maker("outer"), force=True)
    assert Maker("outer").output().read_metadata() is not None


@pytest.mark.parametrize(
    "what", ["a copy", "of what is gone", "its own of before", "no record", "content, and a file by hand"]
)
def test_what_only_looks_like_a_record_kept_inside_is_replaced(what: str, tmp_path: Path) -> None:
    Maker.outputs.update(inner=lambda: LocalFileTarget("data.txt"), outer=lambda: LocalFolderTarget("report"))
    run_task(Maker("outer"))
    run_task(Maker("inner"))
    record = Path("data.txt.metadata.json").read_bytes()
    if what == "its own of before":
        record = Path("report.metadata.json").read_bytes()
    elif what == "of what is gone":
        Maker("inner").output().remove()
    elif what == "no record":
        record = record.replace(b'"output"', b'"input"')
    if what == "content, and a file by hand":
        with LocalFolderTarget("report").tmp_write_path() as path:
            (path / "x.json").write_bytes(record)
        Path("report/by hand.txt").write_text("x")
    else:
        Path("report/x.json").write_bytes(record)
    run_task(Maker("outer"), force=True)
    assert [path.name for path in Path("report").iterdir()] == ["index.txt"]


def _rewritten(target: AtomicTarget) -> None:
    with target.tmp_write_path() as path:
        (path / "x").write_text("x")


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_records_that_a_task_itself_put_into_its_folder_are_its_content(
    kind: str, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    folder, _ = _rig(kind, s3_server, s3_bucket)
    LocalFileTarget(tmp_path / "copied.txt").dump("value")
    LocalFileTarget(tmp_path / "copied.txt").write_metadata({"task_id": "other"})
    for text in ("one", "two"):
        with folder("out").tmp_write_path() as path:
            (path / "x").write_text(text)
            LocalFileTarget(path / "y.txt").dump("value")
            LocalFileTarget(path / "y.txt").write_metadata({"task_id": "own"})
            for name in ("copied.txt", "copied.txt.metadata.json"):
                (path / name).write_bytes((tmp_path / name).read_bytes())
    folder("out").remove()
    assert not folder("out").exists()


# ---------------------------------------------------------------- runs of Luigi's own, which do not ask us beforehand


class Recorded(TaskWithMetadata):
    """Writes its output itself, at a place that does not know all parameters."""

    name = luigi.Parameter()

    def output(self) -> Any:
        return LocalFileTarget("shared.txt")

    def run(self) -> None:
        self.output().dump(self.name)


class Shares(Recorded, AtomicTaskWithMetadata):
    """The same by a commit."""

    def run(self, output_path: Path) -> None:  # type: ignore[override]
        output_path.write_text(str(self.name))


class SharesFolder(AtomicTaskWithMetadata):
    """The same, a folder."""

    name = luigi.Parameter()

    def output(self) -> Any:
        return LocalFolderTarget("shared")

    def run(self, output_path: Path) -> None:
        (output_path / "x").write_text(str(self.name))


class Asks(Task):
    """Yields two that share their place, both at once."""

    def complete(self) -> bool:
        return False

    def run(self) -> Any:
        yield [Shares("one"), Shares("two")]


@pytest.mark.parametrize("forks", [False, True])
@pytest.mark.parametrize("maker", [Recorded, Shares, SharesFolder])
def test_luigis_own_worker_runs_only_the_first_of_two_tasks_with_one_place(maker: Any, forks: bool) -> None:
    tasks = [maker("one"), maker("two")]
    with config.applied({"worker": {"force_multiprocessing": str(forks).lower()}}):
        assert not luigi.build(tasks, local_scheduler=True, log_level="ERROR")
    made = tasks[0].output().read_metadata()
    content = tasks[0].output().path
    told = (content / "x" if content.is_dir() else content).read_text()
    assert made["params"] == {"name": told.strip('"')}, "of one task, whole"
    assert tasks[0].complete() and tasks[1].complete(), "as in Luigi: what is there is there"


def test_luigis_own_worker_runs_only_the_first_of_two_that_were_yielded() -> None:
    assert not luigi.build([Asks()], local_scheduler=True, log_level="ERROR")
    assert Shares("one").output().read_metadata()["params"] == {"name": "one"}


def test_what_another_task_made_in_another_run_of_luigis_is_replaced_as_ever() -> None:
    assert luigi.build([Shares("one")], local_scheduler=True, log_level="ERROR")
    Shares("one").output().remove()
    assert luigi.build([Shares("two")], local_scheduler=True, log_level="ERROR")
    assert luigi.build([Shares("two"), Shares("one")], local_scheduler=True, log_level="ERROR"), "complete, as in Luigi"
    Shares("one").output().path.unlink()
    assert luigi.build([Shares("one")], local_scheduler=True, log_level="ERROR")
    assert Shares("one").output().read_metadata()["params"] == {"name": "one"}


@task
def pair(n: int) -> tuple[int, int]:
    """A value of two parts in one file."""
    return n, n + 1


@task
def told(*, first: Any, second: Any) -> str:
    """What came of two arguments."""
    return " ".join(
        str(each.read_bytes()[:2] and "path" if isinstance(each, Path) else each) for each in (first, second)
    )


class Parts(AtomicTaskWithMetadata):
    """A folder of two files."""

    def output(self) -> Any:
        return LocalFolderTarget("parts")

    def run(self, output_path: Path) -> None:
        (output_path / "a.json").write_text("1")
        (output_path / "b.json").write_text("2")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (lambda: pair(1)[0], lambda: pair(1)[1], "1 2"),
        (lambda: pair(1)[0], lambda: pair(1)[-2], "1 1"),
        (lambda: pair(1), lambda: pair(1)[1], "(1, 2) 2"),
        (lambda: as_path(pair(1)), lambda: pair(1)[1], "path 2"),
        (lambda: as_path(pair(1)), lambda: pair(1), "path (1, 2)"),
        (lambda: Parts()["a.json"], lambda: Parts()["b.json"], "1 2"),
        (lambda: as_path(Parts()["a.json"]), lambda: Parts()["a.json"], "path 1"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"executor": "processes", "num_workers": 2}], ids=["here", "processes"])
def test_parts_of_one_output_are_no_owners_of_it(
    first: Make, second: Make, expected: str, options: dict[str, Any], tmp_path: Path
) -> None:
    assert compute(told(first=first(), second=second()), store=str(tmp_path), **options) == expected


class Latest(AtomicTaskWithMetadata):
    """Of several days only the last one is written, as one batch."""

    day = luigi.IntParameter(batch_method=max)
    name = luigi.Parameter(default="a")

    def output(self) -> Any:
        return LocalFileTarget("latest.txt")

    def run(self, output_path: Path) -> None:
        output_path.write_text(f"{self.name}{self.day}")


class Days(luigi.WrapperTask):
    """Some of them, of some names."""

    names = luigi.Parameter(default="a")

    def requires(self) -> Any:
        return [Latest(day=day, name=name) for day in (2, 3, 1) for name in self.names]


def test_tasks_of_one_batch_have_one_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_task(Days())
    assert Path("latest.txt").read_text() == "a3"
    assert Latest(day=1).output().read_metadata()["params"] == {"day": 3, "name": "a"}


def test_two_batches_have_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputClashError, match="name=b"):
        run_task(Days(names="ab"))
    assert not Path("latest.txt").exists()
