"""A pytest plugin: puts classes of ours in the place of Luigi's before Luigi's own tests import them."""

import os
import sys
import unittest.mock

import hypothesis
import luigi
import luigi.scheduler
import luigi.task
import luigi.worker

sys.modules.setdefault("mock", unittest.mock)  # which Luigi's tests take from PyPI
hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("patient")
OURS = os.environ["SUPERLUIGI_IN_PLACE"].split(",")

if "tasks" in OURS:
    from superluigi.tasks import ExternalTask, Task

    luigi.Task = luigi.task.Task = Task
    luigi.ExternalTask = luigi.task.ExternalTask = ExternalTask
if "scheduler" in OURS:
    from superluigi.scheduler.scheduler import ReadyScheduler

    luigi.scheduler.Scheduler = ReadyScheduler
if "worker" in OURS:
    from superluigi.engine.worker import Worker

    luigi.worker.Worker = Worker
