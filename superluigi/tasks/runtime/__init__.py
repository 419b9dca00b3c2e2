"""What happens around `run`: folder, logs, environment, command, hooks, callbacks, tags, resume, cancel.

`living.lived` puts it all around one attempt, wherever the attempt runs. A task that asks for nothing of this
pays for a random seed and a look at its class.
"""
