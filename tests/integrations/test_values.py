"""Values of other frameworks: parameters without a plain form, and values that look like tensors."""

from __future__ import annotations

import functools
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notata import EncodeError, Logbook
from notata.integrations.rows import Rows
from notata.integrations.values import plain_values, store_params
from tests.integrations.rows import params_of, rows_of


class Loss:
    pass


def test_parameters_without_a_plain_form_become_names() -> None:
    values = {
        "rate": np.float32(0.5),
        "loss": Loss(),
        "kind": Loss,
        "call": max,
        "part": functools.partial(max, 1),
        "inner": {"sizes": (1, 2), "loss": Loss()},
        3: None,
    }
    name = f"{__name__}.Loss"
    assert plain_values(values) == {
        "rate": 0.5,
        "loss": name,
        "kind": name,
        "call": "builtins.max",
        "part": "functools.partial",
        "inner": {"sizes": [1, 2], "loss": name},
        "3": None,
    }


def test_parameters_are_merged_whatever_their_names(tmp_path: Path) -> None:
    with Logbook("a", tmp_path, params={"rate": 1}) as log:
        store_params(log, {"ext": "json", "self": 1, "values": [2]})
        store_params(log, {})
        store_params(log.worker(1), {"rate": 2})  # which has none
        store_params(None, {"rate": 3})
    assert params_of(tmp_path / "log_a") == {"rate": 1, "ext_": "json", "self": 1, "values": [2]}


class Tensor:
    """A tensor with one element, as far as notata looks at it."""

    shape = (1, 1)

    def __init__(self, element: Any) -> None:
        self._element = element

    def item(self) -> Any:
        if isinstance(self._element, Exception):
            raise self._element
        return self._element


class EagerTensor:
    """A tensor of TensorFlow, which has no `item`."""

    shape = ()

    def __float__(self) -> float:
        return 0.25


def test_tensors_with_one_element_become_numbers(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        log.scalars(step=Tensor(2.0), whole=Tensor(3), flag=Tensor(True), eager=EagerTensor())  # type: ignore[arg-type]
        log.scalars(long=np.longdouble(0.5), decimal=Decimal("0.1"))
    assert rows_of(tmp_path / "log_a") == [
        {"step": 2, "whole": 3, "flag": True, "eager": 0.25},
        {"step": 3, "long": 0.5, "decimal": 0.1},
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Tensor(1 + 2j), "'loss' is a complex number, and a series stores numbers"),
        (np.complex64(1j), "'loss' is a complex number, and"),
        (np.clongdouble(1j), "'loss' cannot be converted to a number: "),
        (np.ones(3), r"'loss' is an array of shape \(3,\), and"),
        (Loss(), "'loss' is a Loss, and"),
        (Tensor(RuntimeError("no data on this device")), "converted to a number: RuntimeError: no data on this device"),
    ],
    ids=["complex tensor", "complex", "long complex", "array", "object", "no data"],
)
def test_a_value_that_is_no_number_is_refused_and_nothing_stored(value: Any, message: str, tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        with pytest.raises(EncodeError, match=message):
            log.scalars(fine=1.0, loss=value)
        log.scalars(fine=2.0)
    assert rows_of(tmp_path / "log_a") == [{"step": 0, "fine": 2.0}]


def test_a_list_of_parameters_without_a_plain_form_keeps_the_others() -> None:
    assert plain_values({"layers": [Loss(), 3, (Loss, {"deep": max})]}) == {
        "layers": [f"{__name__}.Loss", 3, [f"{__name__}.Loss", {"deep": "builtins.max"}]]
    }


def test_parameters_that_are_too_large_are_left_out_with_a_warning(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log, pytest.warns(UserWarning, match=r"parameters .* not recorded in .*log_a"):
        store_params(log, {"vocabulary": "x" * 9_000_000})
    assert "WARNING The parameters of the framework were not recorded" in (tmp_path / "log_a/log.txt").read_text()
    assert params_of(tmp_path / "log_a") == {}


def test_a_value_that_no_row_can_store_is_left_out_with_one_warning(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        rows = Rows(log)
        with pytest.warns(UserWarning, match=r"'map' was not added to the series 'scalars' of .*log_a") as caught:
            rows.add({"loss": 0.5, "map": np.ones(3)}, 0)
        rows.add({"loss": 0.5, "map": np.ones(3)}, 1)
        with pytest.warns(UserWarning, match="'xxx.* was not added"):
            rows.add({"x" * 501: 1.0, 7: 2.0, "rank": 3}, 3.0)
        with pytest.warns(UserWarning, match="'loss' was not added .* text here, but it was a number before"):
            rows.add({"loss": "high"}, 4)
        with pytest.warns(UserWarning, match=r"A row was not added .*: invalid step 4.5"):
            rows.add({"loss": 0.5}, 4.5)
        rows.add({}, 5)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert rows_of(tmp_path / "log_a") == [
        *({"step": n, "loss": 0.5} for n in range(2)),
        {"step": 3, "7": 2.0, "rank_": 3},
    ]
    assert (tmp_path / "log_a/log.txt").read_text().count("was not added to the series scalars") == 4


def test_without_a_run_nothing_is_recorded() -> None:
    Rows(None).add({"loss": object()}, 0)
