"""Local copies of remote data: validated by version, bounded in size, shared between processes.

`files` is the layout on disk, `cache` what is asked of it. Imports `storage.local` and below.
On from here: `storage.objects` fills and reads it.
"""
