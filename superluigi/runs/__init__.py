"""What a run is: its id, options and plan; which tasks it forces; what it resumes; what it reports.

Values and pure functions, below everything that runs. Imports storage's settings only through `config`.
On from here: `scheduler` decides which task is next, `execution` carries one attempt out.
"""
