"""Scalars of torch as steps and values of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from notata import EncodeError, Logbook
from tests.integrations.rows import rows_of


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (torch.tensor(0.25), 0.25),
        (torch.tensor([[0.25]]), 0.25),
        (torch.tensor(0.25, requires_grad=True), 0.25),
        (torch.tensor(0.25, requires_grad=True) * 2, 0.5),
        (torch.nn.Parameter(torch.tensor([0.25])), 0.25),
        (torch.tensor(1 / 3, dtype=torch.bfloat16), 171 / 512),
        (torch.tensor(0.5, dtype=torch.float16), 0.5),
        (torch.tensor(0.1, dtype=torch.float64), 0.1),
        (torch.tensor(2**40), 2**40),
        (torch.tensor(7, dtype=torch.uint8), 7),
        (torch.tensor(True), True),
        (torch.tensor(0.5).to_sparse(), 0.5),
        (torch.tensor(float("inf")), None),
    ],
    ids=[
        *[
            "no dimension",
            "one element",
            "with a gradient",
            "of a graph",
            "parameter",
            "bfloat16",
            "float16",
            "float64",
        ],
        *["integer", "byte", "boolean", "sparse", "infinity"],
    ],
)
def test_a_tensor_with_one_element_is_a_number(value: Any, stored: Any, tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        log.scalars(step=torch.tensor(3), loss=value)
    (row,) = rows_of(tmp_path / "log_a")
    assert row.pop("nonfinite", None) == (None if stored is not None else {"loss": "Infinity"})
    assert row == {"step": 3, "loss": stored}
    assert type(row["loss"]) is type(stored)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.empty((), device="meta"), "'loss' cannot be converted to a number: "),
        (torch.ones(2), r"'loss' is an array of shape \(2,\), and"),
        (torch.ones(0), r"'loss' is an array of shape \(0,\), and"),
        (torch.tensor(1j), "'loss' is a complex number, and"),
    ],
    ids=["without data", "two elements", "no element", "complex"],
)
def test_another_tensor_is_refused_and_nothing_stored(value: Any, message: str, tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        with pytest.raises(EncodeError, match=message):
            log.scalars(fine=1.0, loss=value)
        log.scalars(fine=2.0)
    assert rows_of(tmp_path / "log_a") == [{"step": 0, "fine": 2.0}]


def test_a_value_of_a_graph_keeps_no_graph(tmp_path: Path) -> None:
    weight = torch.ones(3, requires_grad=True)
    with Logbook("a", tmp_path) as log:
        loss = (weight**2).sum()
        log.scalars(loss=loss)
        loss.backward()  # the graph is untouched
    assert weight.grad is not None
    assert weight.grad.tolist() == [2.0] * 3
