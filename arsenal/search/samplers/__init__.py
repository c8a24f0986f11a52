"""Samplers: where to look next. Each is a `Search` over a space."""
