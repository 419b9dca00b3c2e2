"""When checks are called: `of_outputs` before a commit and over what is published, `admission` of external data.

Imports `tasks.values` and below. On from here: `superluigi.checks` calls them and keeps what was rejected.
"""
