"""Each run has its own configuration, in whatever threads and processes it runs, and leaves nothing of it."""

from __future__ import annotations

import dataclasses
import datetime
import json
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import luigi
import pytest
from luigi.configuration import LuigiConfigParser
from luigi.metrics import NoMetricsCollector

from superluigi import config as settings
from superluigi import run_task
from superluigi.errors import ConfigError
from superluigi.parameters import IntParameter, Param, Parameter
from superluigi.tasks import AtomicTaskWithMetadata

SECTION = "RegressionTuning"
#: Luigi warns of values for all sections that a section has no use for.
FOR_ALL = pytest.mark.filterwarnings("ignore:The configuration contains the parameter")


class RegressionTuning(luigi.Config):
    depth = luigi.Parameter(default="0")
    other = luigi.Parameter(default="none")


class Tells(AtomicTaskWithMetadata):
    """Says what it is told, before and after others have begun."""

    who: int = IntParameter()
    begun: str = Parameter(default="")

    def run(self) -> list:
        first = RegressionTuning().depth
        return [first, RegressionTuning().depth, RegressionTuning().other]


class Nests(Tells):
    """Starts runs with the same and with another configuration, also from a thread of its own."""

    def run(self, task_dir: Path) -> list:
        store = task_dir / "inner"
        same = said(run_task(Tells(who=1), store=store, executor="threads"))
        other = said(run_task(Tells(who=2), store=store, config={SECTION: {"depth": "inner"}}))
        found: list[Any] = []
        config = {SECTION: {"depth": "outer"}}
        thread = threading.Thread(target=lambda: found.append(said(run_task(Tells(who=3), store=store, config=config))))
        thread.start()
        thread.join(60)
        return [same[0], other[0], found[0][0], RegressionTuning().depth]


def said(path: Any) -> list[str]:
    return list(json.loads(Path(path).read_text()))


def there() -> tuple[str, str]:
    return RegressionTuning().depth, RegressionTuning().other


@pytest.mark.parametrize("executor", [None, "threads"])
def test_runs_in_threads_have_each_their_own_configuration_and_nothing_stays(
    tmp_path: Path, executor: str | None
) -> None:
    made: dict[int, list[str]] = {}

    def one(who: int) -> None:
        section = {"depth": str(who)} if who else {}
        if who == 2:
            section["other"] = "only of two"
        made[who] = said(run_task(Tells(who=who), config={SECTION: section}, store=tmp_path, executor=executor))

    threads = [threading.Thread(target=one, args=(who % 3,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert made == {0: ["0", "0", "none"], 1: ["1", "1", "none"], 2: ["2", "2", "only of two"]}
    assert there() == ("0", "none")
    assert SECTION not in settings.raw_sections()


@pytest.mark.parametrize("executor", [None, "threads", "pool"])
def test_a_run_inside_of_a_run_does_not_wait_for_it(tmp_path: Path, executor: str | None) -> None:
    with ThreadPoolExecutor(2) as pool:
        how = pool if executor == "pool" else executor
        path = run_task(Nests(who=0), config={SECTION: {"depth": "outer"}}, store=tmp_path, executor=how)
    assert said(path) == ["outer", "inner", "outer", "outer"]
    assert there() == ("0", "none")


def test_a_process_that_runs_tasks_of_several_runs_mixes_none(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        for number, config in enumerate([{"depth": "first", "other": "first"}, {"depth": "second"}, {}]):
            path = run_task(Tells(who=number), config={SECTION: config}, executor=pool, store=tmp_path)
            assert said(path) == [*[config.get("depth", "0")] * 2, config.get("other", "none")]


def test_a_child_that_is_forked_beside_a_run_does_not_wait_for_it(tmp_path: Path) -> None:
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with settings.applied({SECTION: {"depth": "held"}}):
            begun.set()
            end.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(60)
    try:
        pid = os.fork()
        if pid == 0:
            with settings.applied({SECTION: {"other": "of the child"}}):
                os._exit(0 if there() == ("0", "of the child") else 3)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        end.set()
        thread.join()


def test_values_that_are_no_text_stay_no_longer_either(tmp_path: Path) -> None:
    config = {SECTION: {"depth": [1, "50%"], "other": 5}}
    assert said(run_task(Tells(who=5), config=config, store=tmp_path))[0] == '[1, "50%"]'
    assert there() == ("0", "none")


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> LuigiConfigParser:
    """Luigi's configuration has values for all sections; ours has some of its own."""
    parser = LuigiConfigParser()
    parser.read_string(
        "[DEFAULT]\nbase = from all\ndepth = of all\n[superluigi]\nkeep_days = 3\n"
        f"[{SECTION}]\nother = %(base)s\n[Unnamed]\n"
    )
    monkeypatch.setattr(LuigiConfigParser, "_instance", parser)
    return parser


@FOR_ALL
@pytest.mark.parametrize("executor", [None, "pool"])
def test_values_for_all_sections_reach_tasks_and_are_no_unknown_settings(
    tmp_path: Path, defaults: LuigiConfigParser, executor: str | None
) -> None:
    assert settings.get("keep_days") == 3
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        how = pool if executor else None
        config = {SECTION: {"depth": "own"}, "DEFAULT": {"base": "of the run"}}
        given = run_task(Tells(who=1), config=config, store=tmp_path, executor=how)
        unchanged = run_task(Tells(who=2), store=tmp_path, executor=how)
    assert said(given) == ["own", "own", "of the run"]
    assert said(unchanged) == ["of all", "of all", "from all"]
    assert there() == ("of all", "from all")
    defaults.defaults()["depth"] = "changed"
    assert there()[0] == "changed", "what a section has from [DEFAULT] is not made its own"


def test_a_section_that_has_all_from_default_is_there_for_others_too(defaults: LuigiConfigParser) -> None:
    sections = settings.raw_sections()
    assert sections["DEFAULT"] == {"base": "from all", "depth": "of all"} and sections["Unnamed"] == {}
    defaults.read_string("[superluigi]\nkeep_dais = 3\n")
    with pytest.raises(ConfigError, match="keep_dais"):
        settings.check()


@FOR_ALL
def test_a_file_for_a_run_may_have_values_for_all_its_sections(tmp_path: Path) -> None:
    file = tmp_path / "run.cfg"
    file.write_text(
        f"[DEFAULT]\nroot = /data\ndepth = all\n[superluigi]\nkeep_days = 2\n[{SECTION}]\nother=%(root)s/x\n"
    )
    assert said(run_task(Tells(who=1), config_file=file, store=tmp_path)) == ["all", "all", "/data/x"]


@dataclasses.dataclass(frozen=True)
class Layer:
    width: int
    names: tuple[str, ...] = ()


class ReadsItsConfig(AtomicTaskWithMetadata):
    """Takes what the configuration says in the kinds of its parameters."""

    day: Param[datetime.date] = datetime.date(2000, 1, 1)
    layer: Param[Layer] = Layer(1)
    sizes: Param[tuple[int, ...]] = ()
    raw: Param[bytes] = b""
    depth: Param[int | None] = 1
    flags = luigi.BoolParameter(default=False)
    levels = luigi.ListParameter(default=())

    def run(self) -> list:
        return [repr(getattr(self, name)) for name in ("day", "layer", "sizes", "raw", "depth", "flags", "levels")]


class Asks(AtomicTaskWithMetadata):
    def run(self) -> list:
        path = yield ReadsItsConfig()
        return said(path)


@pytest.mark.parametrize("executor", [None, "processes"])
def test_values_of_a_runs_configuration_are_those_that_the_parameters_get(tmp_path: Path, executor: Any) -> None:
    values: dict[str, Any] = {
        "day": datetime.date(2024, 2, 29), "layer": Layer(3, ("a", "50%")), "sizes": (1, 2), "raw": b"\x00%",
        "depth": None, "flags": True, "levels": (1, (2, 3)),
    }  # fmt: skip
    path = run_task(Asks(), config={"ReadsItsConfig": values}, store=tmp_path, executor=executor)
    assert said(path) == [repr(value) for value in values.values()]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no TOML in this Python")
def test_a_file_in_toml_gives_parameters_its_values(tmp_path: Path) -> None:
    file = tmp_path / "tasks.toml"
    file.write_text(
        """
        [ReadsItsConfig]
        day = 2024-02-29
        layer = {width = 3, names = ["a", "50%"]}
        sizes = [1, 2]
        depth = 7
        flags = true
        levels = [1, [2, 3]]
        """
    )
    path = run_task(Asks(), config_file=file, store=tmp_path)
    expected = [datetime.date(2024, 2, 29), Layer(3, ("a", "50%")), (1, 2), b"", 7, True, (1, (2, 3))]
    assert said(path) == [repr(value) for value in expected]


def test_nothing_is_no_value_of_a_parameter_that_must_have_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\['sizes'\] is None"):
        run_task(Asks(), config={"ReadsItsConfig": {"sizes": None}}, store=tmp_path)


UNUSABLE = [("worker", "wait_interval", "0"), ("worker", "wait_interval", "abc"), ("worker", "timeout", -3)]
UNUSABLE += [("scheduler", "retry_count", "x"), ("scheduler", "metrics_collector", "nosuch"), ("resources", "gpu", "x")]


@pytest.mark.parametrize(("section", "option", "value"), UNUSABLE)
def test_what_luigi_cannot_use_of_its_configuration_is_said_before_anything_runs(
    tmp_path: Path, section: str, option: str, value: object
) -> None:
    named = "x" if section == "resources" else option
    with pytest.raises(ConfigError, match=rf"(?s)\[{section}\].*{named}.*Correct it") as caught:
        run_task(Tells(who=1), config={section: {option: value}}, store=tmp_path)
    assert "args=" not in str(caught.value) and not any(tmp_path.iterdir())


@pytest.mark.parametrize(("option", "value", "words"), [("workers", 4, "num_workers=4"), ("assistant", "true", "help")])
def test_what_only_luigis_own_command_reads_is_said_with_what_to_write(
    option: str, value: object, words: str, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match=rf"\[core\] {option} = {value} .*{words}"):
        run_task(Tells(who=1), config={"core": {option: value}}, store=tmp_path)


class NoDaemon(NoMetricsCollector):
    def __init__(self) -> None:
        raise ConnectionError("nobody listens")


@pytest.mark.parametrize(
    ("collector", "lacking", "words"),
    [
        ("prometheus", "prometheus_client", r"prometheus_client.*\. Install what it needs \(prometheus-client, "),
        ("datadog", "datadog", "Install what it needs .*datadog"),
        ("custom", "", "ConnectionError: nobody listens.*or take it out"),
    ],
)
def test_a_collector_of_metrics_that_cannot_be_had_is_said_before_anything_runs(
    collector: str, lacking: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("luigi.contrib.prometheus_metric", "luigi.contrib.datadog_metric"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, lacking, None)
    chosen = {"metrics_collector": collector, "metrics_custom_import": f"{__name__}.NoDaemon"}
    with pytest.raises(ConfigError, match=words):
        run_task(Tells(who=1), config={"scheduler": chosen}, store=tmp_path)
    assert not any(tmp_path.iterdir())
