"""Where bytes live: the only package that renames, flushes or talks to S3.

`base` is the contract of every location, `owner_token` names for what is being written, `failpoints` the steps of
a commit.
Imports `formats` and below. On from here: `local`, `cache`, `objects`, and `targets` above them.
"""
