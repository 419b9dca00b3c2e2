"""What is started once, for all workers of a run of the tests."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("groups")
def test_a_group_of_tests_is_known_to_what_hands_them_to_workers(request: pytest.FixtureRequest) -> None:
    if getattr(request.config.option, "loadgroup", False):  # in a worker of `--dist loadgroup`
        assert request.node.nodeid.endswith("@groups"), "each worker starts every service: other versions are needed"
