"""The verbs on a command line: what is typed, what is done, how it is shown."""
