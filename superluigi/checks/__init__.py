"""Checks: what outputs must be like before they can be seen, what was found, and where the rejected ones are kept.

`definition` says what may be a check (`schemas` what pandera and pydantic bring), `subject` what a check may ask for,
`verdicts` what its answer means, `running` calls them, `quarantine` keeps what was rejected. Knows files and values, no
tasks' lives: `tasks.checking` decides when. Imports `parameters` and below. On from here: findings in records are read
by `lineage.records.check_results`.
"""
