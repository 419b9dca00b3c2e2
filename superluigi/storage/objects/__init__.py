"""Objects and prefixes on S3: their commits, records, recovery, and the client behind them.

`object` and `prefix` are the two kinds of location; the commit protocols use what `capabilities` says of a server.
Imports `storage.cache` and below. On from here: `targets.s3`.
"""
