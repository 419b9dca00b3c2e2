"""What is done to the tables, verb by verb: `plan` (submit, retry, kill), `claims` (claim, renew, finish,
sweep), `workers` (also spawners, pools), `views` (frozen rows). Functions over a connection; whoever
calls them owns the transaction."""
