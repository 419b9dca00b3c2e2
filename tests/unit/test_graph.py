"""Pure functions over structures and graphs, against simple models of themselves."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict, namedtuple
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superluigi import graph

Pair = namedtuple("Pair", ["left", "right"])

structures = st.recursive(
    st.integers() | st.none() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=20,
)


@given(structures)
def test_mapping_the_identity_changes_nothing(structure: Any) -> None:
    mapped = graph.map_structure(lambda item: item, structure)
    assert mapped == structure and type(mapped) is type(structure)


@given(structures)
def test_flatten_gives_what_mapping_visits_and_no_none(structure: Any) -> None:
    seen: list[Any] = []
    graph.map_structure(seen.append, structure)
    assert graph.flatten(structure) == seen
    assert None not in seen
    assert graph.flatten(graph.map_structure(lambda item: [item, item], structure)) == [x for x in seen for _ in "ab"]


def test_classes_of_containers_are_kept_where_they_can_be() -> None:
    double = (lambda item: item * 2,)
    assert graph.map_structure(*double, Pair(1, [2])) == Pair(2, [4])
    ordered = graph.map_structure(*double, OrderedDict(b=1, a=2))
    assert type(ordered) is OrderedDict and list(ordered.items()) == [("b", 2), ("a", 4)]
    assert graph.map_structure(*double, defaultdict(list, a=1)) == {"a": 2}
    assert graph.map_structure(*double, (n for n in (1, 2))) == [2, 4]
    assert sorted(graph.map_structure(*double, {1, 2})) == [2, 4]
    assert graph.map_structure(*double, {"a": 1}.values()) == [2]
    assert graph.map_structure(*double, "ab") == "abab" and graph.map_structure(*double, b"x") == b"xx"


edges = st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=4), max_size=13)


@given(edges)
def test_a_walk_gives_each_node_once_after_its_children_or_names_a_cycle(below: dict[int, list[int]]) -> None:
    try:
        order = [node for node, _ in graph.walk(list(below), lambda node: below.get(node, ()))]
    except graph.CycleError as error:
        path = [int(word) for word in str(error).removeprefix("cycle: ").split(" -> ")]
        assert path[0] == path[-1]
        assert all(after in below[before] for before, after in pairwise(path))
        return
    assert len(order) == len(set(order))
    place = {node: index for index, node in enumerate(order)}
    assert all(place[child] < place[node] for node in below for child in below[node])


@given(edges, st.sets(st.integers(0, 12), min_size=1))
def test_ancestors_are_the_nodes_from_which_a_path_leads_there(below: dict[int, list[int]], ends: set[int]) -> None:
    def leads(node: int, seen: frozenset[int]) -> bool:
        return node in ends or any(
            leads(child, seen | {node}) for child in below.get(node, ()) if child not in seen | {node}
        )

    assert graph.ancestors_of(below, ends) == ends | {node for node in below if leads(node, frozenset())}


def test_a_chain_of_many_thousands_has_no_recursion_limit() -> None:
    order = [node for node, _ in graph.walk([50_000], lambda node: [node - 1] if node else [])]
    assert order == list(range(50_001))


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert graph.digest({"a": 1, "b": ["ü", None]}) == graph.digest(json.loads('{"b": ["ü", null], "a": 1}'))
    assert graph.digest([1, 2]) != graph.digest([2, 1])
    assert len(graph.digest(None)) == 64


def test_the_message_of_a_cycle_names_it() -> None:
    with pytest.raises(graph.CycleError, match="cycle: a -> b -> a"):
        list(graph.walk(["root"], lambda node: {"root": ["a"], "a": ["b"], "b": ["a"]}[node]))
