"""Processes of ours import Luigi without the libraries that it hardly uses; they are there when they are wanted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from superluigi.worker_process.pool import ProcessExecutor

BEGIN = "import sys; from superluigi.luigi_compat import lean_import; lean_import.install(); import luigi"


def imported() -> list[str]:
    """What of these this process has imported."""
    import luigi  # noqa: F401

    return [name for name in ("jsonschema", "luigi", "requests") if name in sys.modules]


def test_a_worker_process_imports_luigi_and_not_what_luigi_hardly_uses() -> None:
    with ProcessExecutor(1) as executor:
        assert executor.submit(imported).result() == ["luigi"]


@pytest.mark.parametrize(
    "use",
    [
        "import requests.adapters; assert luigi.rpc.requests.Session is requests.Session",
        "assert luigi.rpc.RequestsFetcher().session.get",
        "assert luigi.DictParameter(schema={'type': 'object'}).parse('{}') == {}",
        "import jsonschema; assert luigi.parameter.jsonschema.validate is jsonschema.validate",
    ],
)
def test_luigi_and_others_have_the_library_itself_when_they_use_it(use: str) -> None:
    asked = f"{BEGIN}; assert not {{'requests', 'jsonschema'}} & set(sys.modules); {use}"
    subprocess.run([sys.executable, "-c", asked], check=True, timeout=60)


def test_a_library_that_is_not_installed_is_missing_as_without_us() -> None:
    hidden = "import sys; sys.modules.update(requests=None, jsonschema=None)"
    asked = (
        f"{hidden}; {BEGIN}; assert luigi.rpc.HAS_REQUESTS is False and luigi.parameter._JSONSCHEMA_ENABLED is False"
    )
    subprocess.run([sys.executable, "-c", asked], check=True, timeout=60)


def test_an_import_of_luigi_that_fails_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "luigi.py").write_text("import requests, jsonschema; raise ValueError('broken')")
    asked = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {BEGIN.replace('import luigi', '')}\n"
        "try: import luigi\nexcept ValueError: pass\n"
        "assert 'requests' not in sys.modules\nimport requests; assert requests.Session"
    )
    subprocess.run([sys.executable, "-c", asked], check=True, timeout=60)
