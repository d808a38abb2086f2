"""Kubernetes quantities: every form in which a node or a pod may write an amount."""

from __future__ import annotations

import pytest

from agent.core.kubernetes.quantities import whole


@pytest.mark.parametrize(
    ("text", "per_unit", "count"),
    [
        ("2", 1000, 2000),
        ("1900m", 1000, 1900),
        ("0.5", 1000, 500),
        (".25", 1000, 250),
        ("2.", 1000, 2000),
        ("+3", 1000, 3000),
        ("100u", 1000, 1),
        ("1500000n", 1000, 2),
        (2, 1000, 2000),
        ("0", 1000, 0),
        ("23Gi", 1, 23 << 30),
        ("24117248Ki", 1, 23 << 30),
        ("1.5Gi", 1, 3 << 29),
        ("1e9", 1, 10**9),
        ("1E9", 1, 10**9),
        ("25E-1", 1, 3),
        ("128974848000m", 1, 128974848),
        ("128974848", 1, 128974848),
        ("129M", 1, 129 * 10**6),
        ("1E", 1, 10**18),
        ("1Ei", 1, 1 << 60),
        ("12k", 1, 12_000),
        ("-1", 1, -1),
    ],
)
def test_a_quantity_is_read_in_each_of_its_forms(text: object, per_unit: int, count: int) -> None:
    assert whole(text, per_unit) == count


@pytest.mark.parametrize(
    "text", ["", "Gi", ".", "1 Gi", "1gi", "1K", "1e", "1e999999999", "0x10", "1,5", "9" * 65, None]
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        whole(text)
