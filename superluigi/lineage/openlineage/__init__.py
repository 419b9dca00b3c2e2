"""Records and runs as OpenLineage events: `events` makes them, `emitter` sends them while a run goes on.

Follows the specification's JSON schemas. Imports `records`.
On from here: whatever collects the events.
"""
