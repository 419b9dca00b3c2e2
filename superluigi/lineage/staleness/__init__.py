"""Why a task would run: output or record missing, parameters, inputs, code or packages changed, forced.

`reasons` judges facts, `facts` gathers them, `why` is `lineage.why`, `refresh` the rule of a run.
Imports `records` and `code_fingerprint`. On from here: `task_runner` and the command line.
"""
