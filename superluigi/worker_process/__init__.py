"""The one program that works for another process, and how that one starts it, talks to it and ends it.

Three use it: the processes executor (`pool`), the workers of a queue, and tasks with a command prefix. What they say
to each other stands in `protocol`; `main` is the program, `handle` the other side. Imports `execution` and below,
which knows nothing of it but `execution.process.parent`. On from here: `engine`, which hands attempts to pools.
"""
