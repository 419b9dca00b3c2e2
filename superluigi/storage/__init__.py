"""Where bytes live: the only package that renames, flushes or talks to S3."""
