"""Stages: private folders in which new content is written, what must be true of one, and whose it was.

`staging` names, makes and finds them, `spare_stages` uses an empty one again, `stage_check` looks at a full one.
Imports `storage.local.copy` and below. On from here: `storage.local` publishes what a stage holds.
"""
