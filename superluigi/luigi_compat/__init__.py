"""Every private name of Luigi that we use, each with the reason; nothing else.

What can be called or imported is here under a public name. What our worker, scheduler and state inherit and use by
its own name, and what is read from Luigi's objects where importing Luigi would cost too much, is declared in `names`.
A test compares that table with the source of the installed Luigi and with ours, so that a release that takes a name
away, and a use that nobody has declared, are both reported by name.
"""
