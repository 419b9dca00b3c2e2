"""Our scheduler answers as Luigi's does, whatever is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from superluigi.engine.worker import Worker
from superluigi.scheduler import node, scheduler, state
from superluigi.scheduler.scheduler import ReadyScheduler
from superluigi.testing.scheduler_suite import STEPS, Claim, Plan, SchedulerSuite, claims, graphs

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))


class ReadySchedulerSuite(SchedulerSuite):
    clock_modules = (node, state, scheduler)

    def make(self, **config: Any) -> Any:
        return ReadyScheduler(**config)


class TestReadySchedulerUnderLuigisWorker(ReadySchedulerSuite):
    @QUICK
    @given(claims(), STEPS)
    def test_the_same_conversation_has_the_same_answers(
        self, tasks: list[Claim], steps: list[tuple[str, str, int, int]]
    ) -> None:
        self.compare_conversation(tasks, steps)

    @pytest.mark.long
    @LONG
    @given(claims(), STEPS)
    def test_many_conversations(self, tasks: list[Claim], steps: list[tuple[str, str, int, int]]) -> None:
        self.compare_conversation(tasks, steps)

    @QUICK
    @given(graphs())
    def test_the_same_graph_runs_to_the_same_end(self, plans: tuple[Plan, ...]) -> None:
        self.compare_run(plans)


class TestReadySchedulerUnderOurWorker(ReadySchedulerSuite):
    worker_class = Worker

    @QUICK
    @given(graphs())
    def test_the_same_graph_runs_to_the_same_end(self, plans: tuple[Plan, ...]) -> None:
        self.compare_run(plans)

    @pytest.mark.long
    @LONG
    @given(graphs())
    def test_many_graphs(self, plans: tuple[Plan, ...]) -> None:
        self.compare_run(plans)
