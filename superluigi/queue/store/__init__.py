"""What is done to the tables, verb by verb: `plan` (submit, retry, kill), `claims` (claim, renew, finish,
sweep), `people` (workers, spawners, pools), `views` (frozen rows). Functions over a connection; whoever
calls them owns the transaction."""
