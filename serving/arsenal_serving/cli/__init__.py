"""The command: one server process or several, and the verbs beside it."""
