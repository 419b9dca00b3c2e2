"""What carries out a queue: the spawner starts workers, a worker claims tasks, its child makes the attempts.

Imports `queue.store` and below; `child`, which runs in the other process, needs no SQL. On from here: `queue.api`.
"""
