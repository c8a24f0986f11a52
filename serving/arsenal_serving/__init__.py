"""Pure JAX functions as saved artifact folders, and a server for them.

`arsenal_serving.export` writes an artifact, `arsenal_serving.model` runs one, `arsenal_serving.protocols.routes` puts a
protocol over it. Nothing is imported here, so that `arsenal-serve --help` does not wait for jax.
"""

__version__ = "0.2.0"
