"""Objects and prefixes on a store such as S3: commits, records, recovery, over the small contract in `store`.

`object` and `prefix/` are the two kinds of location, `s3/` the one implementation of the contract; commits use what
`capabilities` says of a server. Imports `storage.cache` and below. On from here: `targets.s3`.
"""
