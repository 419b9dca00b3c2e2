"""Which task is next: Luigi's scheduler protocol over a heap of ready tasks, at the same cost for any number of tasks.

Knows task ids, states, limits and resources, never how a task runs. Imports `runs` and below.
On from here: `engine` asks it for work.
"""
