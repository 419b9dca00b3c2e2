"""Many objects that are one output: everything under an S3 prefix, complete exactly when its record is there.

`prefix_commit` replaces it, `prefix_recovery` holds the claim and finishes what died, `prefix_steps` has each step
with its fence. Imports the rest of `storage.objects`. On from here: `targets.s3`.
"""
