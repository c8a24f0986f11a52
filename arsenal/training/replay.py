"""A step that went wrong, again one operation after another: which one gave NaN, and where in the code it stands."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun, jaxprs_in_params

from arsenal.records import Learner, Source
from arsenal.training.driver import TrainState, step_of

LIBRARIES = re.compile(r"[\\/](jax|jaxlib|flax|optax|chex)[\\/]|[\\/]arsenal[\\/]nn[\\/]linen\.py$")
"""Whose lines are not what anybody looks for; what stands around every Flax module is one of them."""


def replay(learner: Learner, source: Source, train: TrainState, block: Any) -> str:
    """The operation that gives NaN first in the step that `train` stands before, and its place; empty if none does.

    >>> from arsenal.data import nothing
    >>> from arsenal.training.driver import start
    >>> def step(key, state, rows, hp):
    ...     return jax.numpy.log(state - 1), {}
    >>> wrong = Learner(lambda key, rows, hp: jax.numpy.zeros(()), step, lambda state: state, {})
    >>> replay(wrong, nothing(), start(wrong, nothing(), 0), nothing().block(0, 1)).partition(" at ")[0]
    '`log` gives NaN'
    """
    step = jax.make_jaxpr(lambda train, block: step_of(learner, source, train, block))(train, block)
    return walk(step.jaxpr, step.consts, jax.tree.leaves((train, block)), "")[1]


def walk(program: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], place: str) -> tuple[list, str]:
    """What the program gives, and the first operation in it that gives NaN, if any, where the outputs end.

    `place` is where the program is called: an inner program that JAX keeps knows lines of libraries only.
    """
    known = dict(zip([*program.constvars, *program.invars], [*constants, *arguments], strict=True))

    def value(variable):
        return variable.val if isinstance(variable, Literal) else known[variable]

    for equation in program.eqns:
        given = [value(variable) for variable in equation.invars]
        # One equation as a program of its own: how it is called is JAX's affair.
        names = list({variable: None for variable in equation.invars if not isinstance(variable, Literal)})
        alone = program.replace(constvars=[], invars=names, outvars=list(equation.outvars), eqns=[equation])
        made = jaxpr_as_fun(ClosedJaxpr(alone, ()))(*map(value, names))
        if any(is_nan(one) for one in made):
            here = place_of(equation) or place
            return [], find_nan_inside(equation, given, here) or f"`{equation.primitive.name}` gives NaN{here}"
        known |= dict(zip(equation.outvars, made, strict=True))
    return [value(variable) for variable in program.outvars], ""


def find_nan_inside(equation: JaxprEqn, given: list, place: str) -> str:
    """The operation within a call, a branch or a loop that gives NaN first; empty where the equation is none of them."""
    parameters = equation.params
    if equation.primitive.name == "cond":
        branch = parameters["branches"][int(given[0])]
        return walk(branch.jaxpr, branch.consts, given[1:], place)[1]
    if equation.primitive.name == "scan":
        consts, carried = parameters["num_consts"], parameters["num_consts"] + parameters["num_carry"]
        body, carry = parameters["jaxpr"], given[consts:carried]
        turns = range(parameters["length"])
        for turn in reversed(turns) if parameters["reverse"] else turns:
            made, found = walk(body.jaxpr, body.consts, [*given[:consts], *carry, *(x[turn] for x in given[carried:])], place)
            if found:
                return found
            carry = made[: len(carry)]
        return ""
    if equation.primitive.name == "while":
        of_test, of_body = parameters["cond_nconsts"], parameters["body_nconsts"]
        test, body, carry = parameters["cond_jaxpr"], parameters["body_jaxpr"], given[of_test + of_body :]
        while walk(test.jaxpr, test.consts, [*given[:of_test], *carry], place)[0][0]:
            carry, found = walk(body.jaxpr, body.consts, [*given[of_test : of_test + of_body], *carry], place)
            if found:
                return found
        return ""
    called = [one if isinstance(one, ClosedJaxpr) else ClosedJaxpr(one, ()) for one in jaxprs_in_params(parameters)]
    called += [one for one in parameters.values() if isinstance(one, ClosedJaxpr)]
    fitting = [one for one in called if len(one.jaxpr.invars) == len(given) and len(one.consts) == len(one.jaxpr.constvars)]
    return walk(fitting[0].jaxpr, fitting[0].consts, given, place)[1] if fitting else ""


def is_nan(value: Any) -> bool:
    """Whether an array holds NaN."""
    return jnp.issubdtype(getattr(value, "dtype", bool), jnp.inexact) and bool(np.isnan(np.asarray(value, dtype=float)).any())


def place_of(equation: JaxprEqn) -> str:
    """The innermost line of an equation that is no library's, as ` at FILE:LINE, in FUNCTION`; empty where all are."""
    traceback = equation.source_info.traceback
    frames = traceback.frames if traceback is not None else []
    ours = [frame for frame in frames if not LIBRARIES.search(frame.file_name)]
    return f" at {ours[0].file_name}:{ours[0].line_num}, in {ours[0].function_name.rpartition('.')[2]}" if ours else ""
