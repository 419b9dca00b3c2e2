"""The promises of a commit, on local disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from superluigi.storage.local import atomic
from superluigi.testing.target_suite import LocalFileRig, LocalFolderRig, TargetRig, TargetSuite


class TestLocalFileTarget(TargetSuite):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> TargetRig:
        return LocalFileRig(tmp_path)


class TestLocalFolderTarget(TargetSuite):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> TargetRig:
        return LocalFolderRig(tmp_path)


class TestLocalFolderTargetWithItsRecordInside(TargetSuite):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> TargetRig:
        return LocalFolderRig(tmp_path, metadata_inside_folder=True)


class FolderRigWithoutExchange(LocalFolderRig):
    """Where the kernel cannot exchange two names, also in the processes that are killed."""

    def target(self, name: str = "output", **options: object) -> object:  # type: ignore[override]
        atomic._exchange_function = lambda: None  # type: ignore[assignment]
        return super().target(name, **options)


class TestLocalFolderTargetWhereNamesCannotBeExchanged(TargetSuite):
    @pytest.fixture
    def rig(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TargetRig:
        monkeypatch.setattr(atomic, "_exchange_function", lambda: None)
        return FolderRigWithoutExchange(tmp_path)
