"""A whole run: the walk over the graph, Luigi's worker over an executor, progress, summary.

Imports `execution` and below; knows nothing of targets or records.
On from here: `task_runner` builds a run and calls `engine.engine`.
"""
