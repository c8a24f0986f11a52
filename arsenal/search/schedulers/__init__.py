"""Schedulers: who goes on and who ends, or takes over from another, by what was reported so far."""
