"""The process around an attempt: its parent, children, signals, streams and state, and what is put back afterwards.

Imports `config` and `errors`, nothing of tasks. On from here: `execution.attempt` and `worker_process`.
"""
