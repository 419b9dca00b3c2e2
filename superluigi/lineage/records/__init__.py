"""Records: how one is built, read, listed and found again from a path.

JSON only; nothing is ever unpickled. Imports `storage` and below.
On from here: `staleness`, `verification`, `openlineage` read what is here.
"""
