"""Batches of LAPACK's calls that do not depend on each other end, on as many threads as there are."""

import os
import subprocess
import sys

TWO = """
import arsenal.records, jax, jax.numpy as jnp
x = jax.random.normal(jax.random.key(1), (294, 64))

def one(i):
    weight = jnp.zeros(294).at[jax.random.bits(jax.random.fold_in(jax.random.key(0), i), (294,), jnp.uint32) % 294].add(1.0)
    first, second = (((x + k).T * weight) @ (x + k) + jnp.eye(64) for k in (0, 1))
    return jnp.linalg.solve(first, first[0]).sum() + jnp.linalg.solve(second, second[0]).sum()

print(jax.jit(lambda i: jax.lax.map(one, i, batch_size=445))(jnp.arange(890, dtype=jnp.uint32)).shape)
"""


def test_two_batches_of_a_loop_end():
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", TWO], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "(890,)\n", done.stderr


def test_what_the_user_says_stands():
    program = "import os, arsenal.records; print(os.environ['XLA_FLAGS'])"
    given = "--xla_cpu_enable_concurrency_optimized_scheduler=true"
    for flags, wanted in ((given, given), ("--xla_cpu_max_isa=AVX2", f"--xla_cpu_max_isa=AVX2 {given[:-4]}false")):
        done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True)
        assert done.stdout.strip() == wanted, done.stderr
