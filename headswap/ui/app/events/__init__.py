"""From the events of each step's components to its handlers: a module for each step, and the binder that all use."""
