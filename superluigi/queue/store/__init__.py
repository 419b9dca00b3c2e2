"""The tables and what is done to them: `submit` (also retry, kill), `claims` (claim, renew, finish, sweep), `registry`
(workers, spawners, pools), `views` (frozen rows): functions over a connection that `database` gives; their caller owns
the transaction. Imports `queue.models` and below. On from here: `queue.workers` and `queue.api`.
"""
