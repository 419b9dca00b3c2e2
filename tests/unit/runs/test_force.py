"""The force plan is a pure function of graph and options."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superluigi.errors import OptionError
from superluigi.runs.force import ForcePlan, TaskGraph, plan

#        root
#       /    \
#   model    features_b -> clean_b
#      |         |
#      +-- features_a -> clean_a
EDGES = {
    "Root_1": ["Model_1", "Features_b"],
    "Model_1": ["Features_a"],
    "Features_b": ["Clean_b", "Features_a"],
    "Features_a": ["Clean_a"],
    "Clean_a": [],
    "Clean_b": [],
}
GRAPH = TaskGraph(
    edges=EDGES, families={node: f"flow.{node.split('_')[0]}" for node in EDGES}, tasks={}, roots=["Root_1"]
)


def test_force_is_the_root_and_force_upstream_is_everything() -> None:
    assert plan(GRAPH) == ForcePlan() and not plan(GRAPH)
    assert plan(GRAPH, force=True) == ForcePlan(ids=frozenset({"Root_1"}))
    assert plan(GRAPH, force_upstream=True) == ForcePlan(everything=True)


@pytest.mark.parametrize("name", ["Model", "flow.Model"])
@pytest.mark.parametrize("option", ["force_upstream_to_task_cls", "force_downstream_of"])
def test_a_class_forces_every_path_from_the_root_to_it_and_nothing_else(option: str, name: str) -> None:
    options: dict[str, Any] = {option: name}
    assert plan(GRAPH, **options).ids == {"Root_1", "Model_1"}
    assert plan(GRAPH, **options).families == {"flow.Model"}


def test_all_tasks_of_a_class_and_several_classes_are_meant() -> None:
    assert plan(GRAPH, force_upstream_to_task_cls="Clean").ids == set(EDGES)
    assert plan(GRAPH, force_upstream_to_task_cls=["Model", "Root"]).ids == {"Root_1", "Model_1"}


def test_wrong_options_are_refused_with_what_is_upstream() -> None:
    with pytest.raises(OptionError, match="force and force_upstream cannot be combined"):
        plan(GRAPH, force=True, force_upstream=True)
    with pytest.raises(OptionError, match=r"Did you mean 'flow\.Model'.*flow\.Clean, flow\.Features"):
        plan(GRAPH, force_upstream_to_task_cls="flow.Modle")
    with pytest.raises(OptionError, match="empty"):
        plan(GRAPH, force_downstream_of=[])
    with pytest.raises(OptionError, match="neither"):
        plan(GRAPH, force_upstream_to_task_cls=[5])


def test_recorded_requirements_lead_further_than_the_graph() -> None:
    wider = GRAPH.merge({"Clean_a": ["Raw_1"]}, {"Raw_1": "flow.Raw"}, {})
    assert plan(wider, force_upstream_to_task_cls="Raw").ids == {
        "Raw_1",
        "Clean_a",
        "Features_a",
        "Features_b",
        "Model_1",
        "Root_1",
    }


def test_external_data_is_never_forced() -> None:
    made = SimpleNamespace(task_id="a", task_family="A", run=lambda: None)
    given_ = SimpleNamespace(task_id="b", task_family="B", run=None)
    everything = ForcePlan(everything=True)
    assert everything.forces(made) and not everything.forces(given_)  # type: ignore[arg-type]
    assert not ForcePlan().forces(made)  # type: ignore[arg-type]
    assert ForcePlan(families=frozenset({"A"})).forces(made)  # type: ignore[arg-type]


@given(st.dictionaries(st.integers(0, 9), st.sets(st.integers(0, 9)), min_size=1))
def test_every_forced_task_has_a_forced_requirement_or_is_the_one_that_is_meant(below: dict[int, set[int]]) -> None:
    edges = {f"T{node}_x": [f"T{child}_x" for child in children if child < node] for node, children in below.items()}
    for children in list(edges.values()):
        for child in children:
            edges.setdefault(child, [])
    tasks = TaskGraph(edges, {node: node.split("_")[0] for node in edges}, {}, [max(edges)])
    meant = min(edges)
    forced = plan(tasks, force_upstream_to_task_cls=meant.split("_")[0]).ids
    for node in edges:
        assert (node in forced) == (node == meant or any(child in forced for child in edges[node]))


def test_a_plan_pickles() -> None:
    some = ForcePlan(ids=frozenset({"a"}), families=frozenset({"F"}))
    assert pickle.loads(pickle.dumps(some)) == some
