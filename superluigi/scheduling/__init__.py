"""Which task is next, and how one attempt of it is run."""
