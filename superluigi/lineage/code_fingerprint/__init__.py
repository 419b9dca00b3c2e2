"""Which code a task reaches, as digests: its class, what that calls, modules, repository, packages.

Reads source, never runs it. Imports `lineage.records` and below.
On from here: `staleness` compares two fingerprints.
"""
