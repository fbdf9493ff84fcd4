"""Scalars of JAX as steps and values of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from notata import EncodeError, Logbook
from tests.integrations.rows import rows_of


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (jnp.array(0.25), 0.25),
        (jnp.array([[0.25]]), 0.25),
        (jnp.array(1 / 3, dtype=jnp.bfloat16), 171 / 512),
        (jnp.array(0.5, dtype=jnp.float16), 0.5),
        (jnp.float8_e4m3fn(0.5), 0.5),
        (jnp.array(7), 7),
        (jnp.array(7, dtype=jnp.uint8), 7),
        (jnp.array(True), True),
        (jax.jit(lambda x: x.sum())(jnp.ones(3)), 3.0),
    ],
    ids=["no dimension", "one element", "bfloat16", "float16", "float8", "integer", "byte", "boolean", "of jit"],
)
def test_an_array_with_one_element_is_a_number(value: Any, stored: Any, tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        log.scalars(step=jnp.array(3), loss=value)
    (row,) = rows_of(tmp_path / "log_a")
    assert row == {"step": 3, "loss": stored}
    assert type(row["loss"]) is type(stored)


def test_a_traced_value_is_refused_and_a_callback_records_it(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:

        @jax.jit
        def wrong(x: Any) -> Any:
            log.scalars(loss=x)
            return x

        @jax.jit
        def right(x: Any) -> Any:
            jax.debug.callback(lambda value: log.scalars(loss=value), x)
            return x

        with pytest.raises(EncodeError, match="'loss' cannot be converted to a number: ConcretizationTypeError"):
            wrong(jnp.array(1.0))
        with pytest.raises(EncodeError, match="'loss' cannot be converted to a number: "):
            jax.grad(lambda x: wrong(x) ** 2)(1.0)
        right(jnp.array(2.0))
        jax.effects_barrier()
    assert rows_of(tmp_path / "log_a") == [{"step": 0, "loss": 2.0}]
