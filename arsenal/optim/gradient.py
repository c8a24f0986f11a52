"""First-order optimizers: Optax's own, called inside the step with traced values, so one program serves all values."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Gt, Interval

from arsenal.numerics.wide import as_types, widen
from arsenal.records import Optimizer


def from_optax(factory: Callable[..., optax.GradientTransformation], static: Any = (), **hp: float) -> Optimizer:
    """Any Optax factory: the floats in `hp` are traced, `static` (pairs of name and value) is not.

    Moments are kept in float32 or more, also of parameters in half precision; these are rounded once, when the step is
    added. The factory must not branch on its floats in Python; where it does, JAX says so when the step is traced. One that
    takes the extra argument `value` gets the loss.
    """
    static = dict(static)

    def init(params, hp):
        with jax.numpy_dtype_promotion("standard"):
            return factory(**hp, **static).init(widen(params))

    def update(state, params, gradient, hp, value):
        # Optax raises traced decays to whole powers, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            transformation = optax.with_extra_args_support(factory(**hp, **static))
            updates, after = transformation.update(widen(gradient), state, widen(params), value=value)
            return as_types(after, state), optax.apply_updates(params, updates)

    return Optimizer(init, update, hp)


def as_optimizer(optimizer: Any) -> Optimizer:
    """An `Optimizer` as it is; a `GradientTransformation` of Optax's, `optax.chain` too, as one whose floats are fixed.

    A sweep over its floats compiles a program for each value; `from_optax` traces them. Raises ValueError for one that
    asks for more than the gradient, the parameters and the loss, such as a line search.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, optax.GradientTransformation):
        got = getattr(optimizer, "__name__", type(optimizer).__name__)
        raise TypeError(f"`optimizer` must be an Optimizer or an Optax GradientTransformation; got {got}.")
    made = from_optax(lambda: optimizer)

    def init(params, hp):
        state = made.init(params, hp)
        try:
            jax.eval_shape(made.update, state, params, params, hp, jnp.zeros(()))
        except TypeError as error:
            said = f"`optimizer` gets the gradient, the parameters and the loss; Optax's wants more: {error}."
            raise ValueError(said) from error
        return state

    return made._replace(init=init)


def adam(
    learning_rate: Annotated[float, Ge(0)] = 1e-3,
    b1: Annotated[float, Interval(ge=0, lt=1)] = 0.9,
    b2: Annotated[float, Interval(ge=0, lt=1)] = 0.999,
    eps: Annotated[float, Gt(0)] = 1e-8,
) -> Optimizer:
    """Adam. Kingma & Ba, ICLR 2015 (1412.6980). Every argument is traced."""
    return from_optax(optax.adam, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps)


def adamw(
    learning_rate: Annotated[float, Ge(0)] = 1e-3,
    b1: Annotated[float, Interval(ge=0, lt=1)] = 0.9,
    b2: Annotated[float, Interval(ge=0, lt=1)] = 0.999,
    eps: Annotated[float, Gt(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 1e-4,
) -> Optimizer:
    """Adam with decoupled weight decay. Loshchilov & Hutter, ICLR 2019 (1711.05101). Every argument is traced."""
    return from_optax(optax.adamw, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)


def sgd(
    learning_rate: Annotated[float, Ge(0)] = 1e-2,
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
) -> Optimizer:
    """Stochastic gradient descent with heavy-ball momentum. Every argument is traced."""
    return from_optax(optax.sgd, learning_rate=learning_rate, momentum=momentum)


def rmsprop(
    learning_rate: Annotated[float, Ge(0)] = 1e-3,
    decay: Annotated[float, Interval(ge=0, lt=1)] = 0.9,
    eps: Annotated[float, Gt(0)] = 1e-8,
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
) -> Optimizer:
    """RMSProp, with `eps` under the root, and heavy-ball momentum. Hinton, lecture 6e, 2012. Every argument is traced.

    >>> optimizer, x = rmsprop(0.1, decay=0.0), jax.numpy.array(1.0)
    >>> _, x = optimizer.update(optimizer.init(x, optimizer.hp), x, jax.numpy.array(2.0), optimizer.hp, None)
    >>> round(float(x), 4)
    0.9
    """
    return from_optax(optax.rmsprop, learning_rate=learning_rate, decay=decay, eps=eps, momentum=momentum)


def lion(
    learning_rate: Annotated[float, Ge(0)] = 1e-4,
    b1: Annotated[float, Interval(ge=0, lt=1)] = 0.9,
    b2: Annotated[float, Interval(ge=0, lt=1)] = 0.99,
    weight_decay: Annotated[float, Ge(0)] = 1e-3,
) -> Optimizer:
    """Lion: the sign of an average, and decoupled weight decay. Chen et al., NeurIPS 2023 (2302.06675).

    Every argument is traced. Its learning rate is 3 to 10 times smaller than Adam's, its decay as much larger.

    >>> optimizer, x = lion(0.1, weight_decay=0.0), jax.numpy.array(1.0)
    >>> _, x = optimizer.update(optimizer.init(x, optimizer.hp), x, jax.numpy.array(2.0), optimizer.hp, None)
    >>> round(float(x), 4)
    0.9
    """
    return from_optax(optax.lion, learning_rate=learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)


def lamb(
    learning_rate: Annotated[float, Ge(0)] = 1e-3,
    b1: Annotated[float, Interval(ge=0, lt=1)] = 0.9,
    b2: Annotated[float, Interval(ge=0, lt=1)] = 0.999,
    eps: Annotated[float, Gt(0)] = 1e-6,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> Optimizer:
    """LAMB: Adam's step as long as the parameter it moves, for large batches. You et al., ICLR 2020 (1904.00962).

    Every argument is traced. Lengths are of one array of the parameters at a time.

    >>> optimizer, x = lamb(0.1), jax.numpy.array([3.0, 4.0])
    >>> _, x = optimizer.update(optimizer.init(x, optimizer.hp), x, jax.numpy.array([2.0, 0.0]), optimizer.hp, None)
    >>> [round(value, 4) for value in x.tolist()]
    [2.5, 4.0]
    """
    return from_optax(optax.lamb, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
