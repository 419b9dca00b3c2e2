"""Kinds of tasks beside the base classes: functions, shell commands, notebooks, map and reduce, views, combinations.

Each is a short way to write an `AtomicTaskWithMetadata`. Imports the rest of `tasks`.
On from here: the user's module.
"""
