"""Whether outputs still are what their records say: every byte read again.

`local` walks files and folders, `objects` what is on S3. Imports `records`.
On from here: `superluigi verify`.
"""
