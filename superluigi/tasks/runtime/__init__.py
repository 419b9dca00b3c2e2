"""What happens around `run`: folder, logs, environment, command, hooks, callbacks, tags, resume, cancel.

`mixin` puts it around one attempt, wherever that runs; `workspace` is what lies on disk. A task that asks for none of
it pays for a random seed and a look at its class. Imports `runs` and below. On from here: `tasks.base`.
"""
