"""What every target promises, as tests: derive from `TargetSuite`, give it a rig, and pytest does the rest.

    class TestMyTarget(TargetSuite):
        @pytest.fixture
        def rig(self, tmp_path):
            return LocalFileRig(tmp_path)

A rig knows how to make the target and how to write and read a small text through local paths. It must pickle:
some tests run in processes that are killed.
"""

from __future__ import annotations

import abc
import contextlib
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from superluigi.errors import (
    CommitConflictError,
    OutputNotWrittenError,
    TargetError,
    TargetKindError,
    TargetMissingError,
)
from superluigi.storage.base import SCHEMA
from superluigi.targets.base import AtomicTarget
from superluigi.testing import fault_injection

ODD_NAMES = (
    "with space",
    "quote'\"s",
    "plus+percent%20",
    "ünï-çødé",
    "tab\tnewline\nname",
    "#hash?mark&",
    "-dash",
    "日本",
)


class TargetRig(abc.ABC):
    """One place for outputs of one kind. Versions of the output are told apart by a text."""

    @abc.abstractmethod
    def target(self, name: str = "output", **options: Any) -> AtomicTarget:
        """A new target object for the place `name`, always the same place for the same name."""

    @abc.abstractmethod
    def leftovers(self) -> list[str]:
        """Everything in the place that is neither an output nor its record, except what is named for a live process."""

    @abc.abstractmethod
    def overwrite_as_external_writer(self, name: str = "output") -> None:
        """Replace the data of `name` behind the target's back, with other bytes of the same size."""

    def drop_record(self, name: str = "output") -> None:
        """Remove the record of `name` behind the target's back."""
        Path(self.target(name).metadata_path).unlink()

    def drop_member(self, name: str = "output") -> None:
        """Remove one file of the folder or prefix `name` behind the target's back."""
        (Path(self.target(name).path) / "sub/b.txt").unlink()

    def write(self, path: Path, text: str) -> None:
        """Write the version `text` to a temporary output path."""
        if self.target().is_folder:
            for name in ("a.txt", "sub/b.txt", f"only-{text}.txt"):
                (path / name).parent.mkdir(exist_ok=True)
                (path / name).write_text(text)
        else:
            path.write_text(text)

    def read(self, path: Path) -> str:
        """The version at a local path; fails when it is a part or a mix."""
        if not path.is_dir():
            return path.read_text()
        files = {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}
        texts = set(files.values())
        if len(texts) != 1 or set(files) != {"a.txt", "sub/b.txt", f"only-{min(texts)}.txt"}:
            raise ValueError(f"not one whole version: {files}")
        return texts.pop()


class LocalFileRig(TargetRig):
    """`LocalFileTarget`s in a folder."""

    suffix = ".txt"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def target(self, name: str = "output", **options: Any) -> AtomicTarget:
        from superluigi.targets import LocalFileTarget

        return LocalFileTarget(self.folder / (name + self.suffix), **options)

    def leftovers(self) -> list[str]:
        found = [
            path for path in self.folder.rglob("*") if "/.superluigi" in str(path) or path.name.endswith(".pending")
        ]
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    def overwrite_as_external_writer(self, name: str = "output") -> None:
        path = self.folder / (name + self.suffix)
        path.write_text(path.read_text()[::-1])


class LocalFolderRig(LocalFileRig):
    """`LocalFolderTarget`s in a folder."""

    suffix = ""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder)
        self.options = options

    def target(self, name: str = "output", **options: Any) -> AtomicTarget:
        from superluigi.targets import LocalFolderTarget

        return LocalFolderTarget(self.folder / name, **{**self.options, **options})

    def overwrite_as_external_writer(self, name: str = "output") -> None:
        path = self.folder / name / "a.txt"
        path.write_text(path.read_text()[::-1])


class S3ObjectRig(TargetRig):
    """`S3ObjectTarget`s in a bucket; `options` go to the target and to boto3."""

    suffix = ".txt"

    def __init__(self, bucket: str, options: dict[str, Any]) -> None:
        self.bucket = bucket
        self.options = options
        self._client: tuple[int, object] | None = None

    def target(self, name: str = "output", **options: Any) -> AtomicTarget:
        from superluigi.targets import S3ObjectTarget

        return S3ObjectTarget(self.bucket, f"place/{name}{self.suffix}", **{**self.options, **options})

    def keys(self) -> list[str]:
        """All keys of the bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def client(self) -> Any:
        """A plain boto3 client, for looking from outside; one in each process."""
        if self._client is None or self._client[0] != os.getpid():
            import boto3  # type: ignore[import-untyped]
            from botocore.config import Config  # type: ignore[import-untyped]

            config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
            options = {name: value for name, value in self.options.items() if name != "local_root"}
            self._client = os.getpid(), boto3.client("s3", **{"config": config, **options})
        return self._client[1]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_client": None}

    def leftovers(self) -> list[str]:
        from superluigi.testing.s3_server import open_uploads

        uploads = open_uploads(self.client(), self.bucket)
        hidden = [key for key in self.keys() if ".pending" in key or ".superluigi" in key]
        root = Path(os.environ.get("SUPERLUIGI_LOCAL_DATA_DIR", "/nonexistent")) / ".superluigi"
        staged = [str(path.name) for path in root.glob("*-*-*-*")] if root.is_dir() else []
        return [*hidden, *(upload["Key"] for upload in uploads), *staged]

    def drop_record(self, name: str = "output") -> None:
        bucket, _, key = str(self.target(name).metadata_path).removeprefix("s3://").partition("/")
        self.client().delete_object(Bucket=bucket, Key=key)

    def drop_member(self, name: str = "output") -> None:
        self.client().delete_object(Bucket=self.bucket, Key=f"place/{name}/sub/b.txt")

    def overwrite_as_external_writer(self, name: str = "output") -> None:
        key = f"place/{name}{self.suffix}"
        body = self.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        self.client().put_object(Bucket=self.bucket, Key=key, Body=body[::-1])


class S3PrefixRig(S3ObjectRig):
    """`S3PrefixTarget`s in a bucket."""

    suffix = ""

    def target(self, name: str = "output", **options: Any) -> AtomicTarget:
        from superluigi.targets import S3PrefixTarget

        return S3PrefixTarget(self.bucket, f"place/{name}/", **{**self.options, **options})

    def overwrite_as_external_writer(self, name: str = "output") -> None:
        key = f"place/{name}/a.txt"
        body = self.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        self.client().put_object(Bucket=self.bucket, Key=key, Body=body[::-1])


def publish(rig: TargetRig, text: str, name: str = "output") -> None:
    """Commit the version `text` with a record that carries it."""
    with rig.target(name).stage() as staged:
        rig.write(staged.path, text)
        staged.commit({"schema": SCHEMA, "run": {"id": f"run-{text}"}, "text": text})


def look(rig: TargetRig, name: str = "output") -> tuple[str | None, str | None]:
    """The version that a reader gets, and the version that the record speaks of; None where there is none."""
    target = rig.target(name)
    if not target.exists():
        return None, None
    with target.tmp_read_path() as path:
        text = rig.read(path)
    record = target.read_metadata()
    return text, None if record is None else record["text"]


class TargetSuite(abc.ABC):
    """Promises P1-P7 of one kind of target."""

    @pytest.fixture
    @abc.abstractmethod
    def rig(self) -> TargetRig:
        """The rig under test, on an empty place."""

    def test_nothing_is_there_at_first(self, rig: TargetRig) -> None:
        target = rig.target()
        assert not target.exists()
        assert target.read_metadata() is None
        with pytest.raises(TargetMissingError), target.tmp_read_path():
            pass

    def test_a_commit_shows_data_and_record_and_leaves_nothing_else(self, rig: TargetRig) -> None:
        publish(rig, "one")
        assert look(rig) == ("one", "one")
        assert rig.leftovers() == []

    def test_the_record_describes_the_output(self, rig: TargetRig) -> None:
        publish(rig, "one")
        record = rig.target().read_metadata()
        assert record is not None
        output = record["output"]
        assert output["type"] == type(rig.target()).__name__
        assert output["path"] == rig.target().location.uri
        assert output["size"] == 9 if rig.target().is_folder else 3
        assert set(output["digest"]) == {"sha256"} and len(output["digest"]["sha256"]) == 64
        if rig.target().is_folder:
            assert output["count"] == 3 and len(output["contents"]) == 3

    def test_a_second_commit_replaces_the_first_whole(self, rig: TargetRig) -> None:
        publish(rig, "one")
        publish(rig, "two")
        assert look(rig) == ("two", "two")
        assert rig.leftovers() == []

    @pytest.mark.parametrize("looks", ["exists", "read_metadata"])
    def test_what_was_seen_while_a_commit_was_made_does_not_bother_the_next(self, rig: TargetRig, looks: str) -> None:
        publish(rig, "one")
        with rig.target().stage() as staged:
            getattr(rig.target(), looks)()
            rig.write(staged.path, "two")
            staged.commit({"schema": SCHEMA, "run": {"id": "run-two"}, "text": "two"})
        publish(rig, "six")
        assert look(rig) == ("six", "six")

    def test_an_error_while_writing_leaves_the_old_output_and_nothing_else(self, rig: TargetRig) -> None:
        publish(rig, "one")
        with pytest.raises(ZeroDivisionError), rig.target().tmp_write_path() as path:
            rig.write(path, "two")
            raise ZeroDivisionError
        assert look(rig) == ("one", "one")
        assert rig.leftovers() == []

    def test_an_error_while_writing_for_the_first_time_leaves_nothing(self, rig: TargetRig) -> None:
        with pytest.raises(KeyboardInterrupt), rig.target().tmp_write_path() as path:
            rig.write(path, "two")
            raise KeyboardInterrupt
        assert look(rig) == (None, None)
        assert rig.leftovers() == []

    def test_writing_nothing_is_an_error_and_the_old_output_stands(self, rig: TargetRig) -> None:
        publish(rig, "one")
        with pytest.raises(OutputNotWrittenError), rig.target().tmp_write_path():
            pass
        assert look(rig) == ("one", "one")
        assert rig.leftovers() == []

    def test_writing_the_wrong_kind_is_an_error_that_names_the_right_class(self, rig: TargetRig) -> None:
        publish(rig, "one")
        with pytest.raises(TargetKindError, match=r"Use|use"), rig.target().tmp_write_path() as path:
            if rig.target().is_folder:
                path.rmdir()
                path.write_text("a file")
            else:
                path.mkdir()
                (path / "x").write_text("in a folder")
        assert look(rig) == ("one", "one")
        assert rig.leftovers() == []

    def test_a_commit_without_a_record_takes_the_old_record_with_it(self, rig: TargetRig) -> None:
        publish(rig, "one")
        with rig.target().tmp_write_path() as path:
            rig.write(path, "two")
        with rig.target().tmp_read_path() as path:
            assert rig.read(path) == "two"
        record = rig.target().read_metadata()
        assert record is None or "text" not in record

    def test_data_that_an_external_writer_replaced_has_no_record(self, rig: TargetRig) -> None:
        publish(rig, "one")
        rig.overwrite_as_external_writer()
        assert rig.target().read_metadata() is None

    def test_a_file_exists_by_its_data_and_what_has_members_by_its_record(self, rig: TargetRig) -> None:
        publish(rig, "one")
        rig.drop_record()
        target = rig.target()
        assert target.exists() is not target.is_folder
        assert target.read_metadata() is None
        if target.is_folder:
            with pytest.raises(TargetMissingError, match=r"record.*ExternalTask"), target.tmp_read_path():
                pass
        taken = rig.target(external=True)
        assert taken.exists()
        with taken.tmp_read_path() as path:
            assert rig.read(path) == "one"
        publish(rig, "two")
        assert look(rig) == ("two", "two") and rig.leftovers() == []

    def test_what_lost_a_member_is_not_whole(self, rig: TargetRig) -> None:
        if not rig.target().is_folder:
            return
        for limit in (10, 1):
            with rig.target(metadata_contents_limit=limit).stage() as staged:
                rig.write(staged.path, "one")
                staged.commit({"schema": SCHEMA, "text": "one"})
            rig.drop_member()
            target = rig.target()
            assert target.read_metadata() is None
            with pytest.raises(TargetError), target.location.local_copy(refresh=True):
                pass
            if isinstance(target.path, Path):  # a prefix is asked by one request: its readers notice
                assert not target.exists()

    def test_a_commit_without_a_task_exists(self, rig: TargetRig) -> None:
        with rig.target().tmp_write_path() as path:
            rig.write(path, "one")
        assert rig.target().exists() and rig.leftovers() == []
        with rig.target().tmp_read_path() as path:
            assert rig.read(path) == "one"

    @pytest.mark.parametrize("link", [os.link, os.symlink], ids=["hard", "symbolic"])
    def test_an_output_does_not_change_with_what_it_was_linked_to(
        self, rig: TargetRig, link: Callable[[Path, Path], None], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        source = tmp_path_factory.mktemp("linked") / "one"
        source.write_text("one")
        with rig.target().stage() as staged:
            if rig.target().is_folder:
                (staged.path / "sub").mkdir()
                for name in ("a.txt", "sub/b.txt", "only-one.txt"):
                    link(source, staged.path / name)
            else:
                link(source, staged.path)
            staged.commit({"schema": SCHEMA, "run": {"id": "run-one"}, "text": "one"})
        for change in (lambda: source.write_text("spoilt"), source.unlink):
            change()
            assert look(rig) == ("one", "one")

    def test_what_a_reader_does_to_its_copy_reaches_nobody(self, rig: TargetRig) -> None:
        publish(rig, "one")
        for _ in range(2):
            with rig.target().tmp_read_path() as path:
                assert rig.read(path) == "one"
                if path.is_dir():
                    (path / "a.txt").write_text("spoilt")
                    (path / "sub/b.txt").unlink()
                else:
                    path.write_text("spoilt")
            assert not path.exists()
        assert look(rig) == ("one", "one")

    def test_a_record_can_be_written_for_data_that_is_there(self, rig: TargetRig) -> None:
        with pytest.raises(TargetMissingError):
            rig.target().write_metadata({"rows": 1})
        publish(rig, "one")
        rig.target().write_metadata({"rows": 2, "where": Path("/x")})
        record = rig.target().read_metadata()
        assert record is not None and record["rows"] == 2 and record["where"] == "/x" and "text" not in record

    def test_removing_takes_data_and_record(self, rig: TargetRig) -> None:
        rig.target().remove()
        publish(rig, "one")
        rig.target().remove()
        assert look(rig) == (None, None)
        assert rig.target().read_metadata() is None
        assert rig.leftovers() == []

    def test_two_writers_at_once_do_not_mix(self, rig: TargetRig) -> None:
        for first in ("old", None):
            if first:
                publish(rig, first)
            texts = [f"w{i}" for i in range(6)]
            barrier = threading.Barrier(len(texts))

            def write(text: str, barrier: threading.Barrier = barrier) -> None:
                with rig.target().stage() as staged:
                    rig.write(staged.path, text)
                    barrier.wait()
                    with contextlib.suppress(CommitConflictError):
                        staged.commit({"schema": SCHEMA, "run": {"id": text}, "text": text})

            threads = [threading.Thread(target=write, args=(text,)) for text in texts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seen, recorded = look(rig)
            assert seen in texts
            assert recorded == seen
            assert rig.leftovers() == []
            rig.target().remove()

    def test_a_target_survives_pickling(self, rig: TargetRig) -> None:
        publish(rig, "one")
        again = pickle.loads(pickle.dumps(rig.target()))
        assert again.exists() and again.read_metadata()["text"] == "one"

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_names_are_names(self, rig: TargetRig, name: str) -> None:
        publish(rig, "one", name)
        assert look(rig, name) == ("one", "one")
        publish(rig, "two", name)
        assert look(rig, name) == ("two", "two")
        assert rig.leftovers() == []

    # ---- crashes

    @pytest.mark.parametrize("old", ["one", None], ids=["overwriting", "first"])
    @pytest.mark.parametrize("how", ["error", "interrupt"])
    def test_stopping_at_every_step_by_an_exception_leaves_old_or_new(
        self, rig: TargetRig, how: fault_injection.How, old: str | None
    ) -> None:
        for n in self.every_step(rig, old):
            with contextlib.suppress(OSError, KeyboardInterrupt), fault_injection.stopping_at(n, how) as begun:
                publish(rig, "new")
            seen = look(rig)
            assert seen in ((old, old), ("new", "new")), f"stopped by {how} at step {n} of {begun}: {seen}"
            if not begun[n - 1].startswith(("remove", "drop", "delete", "abort")):  # the clean-up itself
                assert rig.leftovers() == [], f"stopped by {how} at step {n} of {begun}"

    @pytest.mark.parametrize("old", ["one", None], ids=["overwriting", "first"])
    def test_dying_at_every_step_leaves_old_or_new_and_the_next_commit_cleans_up(
        self, rig: TargetRig, old: str | None
    ) -> None:
        for n in self.every_step(rig, old):
            assert fault_injection.stopped_in_child(n, "death", publish, rig, "new") == fault_injection.DEATH
            seen = fault_injection.in_child(look, rig)
            assert seen in ((old, old), ("new", "new")) or self.may_be_absent(rig, seen), f"died at step {n}: {seen}"
            publish(rig, "last")
            assert look(rig) == ("last", "last"), f"died at step {n}"
            assert rig.leftovers() == [], f"died at step {n}"

    def every_step(self, rig: TargetRig, old: str | None) -> Iterator[int]:
        """1 … as many storage operations as a commit takes, each time from the same beginning."""
        for text in ("old", "new"):  # what is found out once (what a server can do, how it lists) is no step
            publish(rig, text)
            look(rig)
        n = total = 0
        while n == 0 or n <= total:
            if old is None:
                rig.target().remove()
            elif look(rig) != (old, old):  # it may have stood all the while
                publish(rig, old)
            if n == 0:
                with fault_injection.stopping_at(0, "error") as seen:
                    publish(rig, "new")
                total = len(seen)
                assert total >= 2, seen
            else:
                yield n
            n += 1

    def may_be_absent(self, rig: TargetRig, seen: tuple[str | None, str | None]) -> bool:
        """Where the store cannot swap, the output may be absent after a death in between (P1)."""
        return seen == (None, None) and type(rig.target()).__name__ == "S3PrefixTarget"
