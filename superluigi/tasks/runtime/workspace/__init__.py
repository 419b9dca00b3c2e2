"""What lies in the workspace: a folder for each task, its log files and `rerun.py`, requests to what runs.

Files only: nothing here knows the attempt that uses them. Imports `tasks.runtime.seeds` and packages below `tasks`.
On from here: `tasks.runtime` puts it around one attempt.
"""
