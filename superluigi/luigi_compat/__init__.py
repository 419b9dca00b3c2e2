"""Every private name of Luigi that we use, each with the reason; nothing else.

What can be called, read or written is here under a public name: functions, and the classes that our worker, scheduler,
state and parameters derive from. Elsewhere only the methods of Luigi's that ours replace have private names. All stand
in the table of `names`; a test compares that with the source of the installed Luigi and with ours, so that a release
that takes a name away, and a use outside of this package, are both reported by name.
"""
