"""One attempt of a task: inputs are opened, outputs staged, `run` called, its value saved, all committed.

`task_attempt` tells the story; the others are its steps. Imports `tasks.base` and below.
On from here: `storage` publishes.
"""
