"""Outputs on local disks: the only flush, rename, exchange and lock of the package.

`atomic` and `copy` are the system calls, `stages/` where new content is written, `file` and `folder` the two kinds
of location. Imports `storage.base`, `owner_token`, `failpoints`. On from here: `targets.local`.
"""
