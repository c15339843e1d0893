"""The command line: commands, the inputs that they read, and how the terminal shows their results."""
