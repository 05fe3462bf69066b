from math import inf, nan
from types import SimpleNamespace

import pytest

from vidreason.ranges import ABOVE_0, BELOW_1, check_ranges

FIELDS = {
    "a": (2, inf),
    "b": (ABOVE_0, inf),
    "c": (0, BELOW_1),
    "d": (ABOVE_0, 1),
    "e": (1, 65536),
}


def test_numbers_in_their_ranges_pass():
    for values in ((2, 1e-9, 0.0, 1.0, 65536), (9, inf, 0.999999, 1e-9, 1), (None,) * 5):
        check_ranges("x", SimpleNamespace(**dict(zip(FIELDS, values, strict=True))), **FIELDS)


def test_all_numbers_out_of_their_ranges_are_named():
    config = SimpleNamespace(a=1, b=0.0, c=1.0, d=nan, e=65537)
    with pytest.raises(ValueError, match=r"x\.a is 1; ") as caught:
        check_ranges("x", config, **FIELDS)
    assert str(caught.value).split("; ") == [
        *("x.a is 1", "it must be at least 2", "x.b is 0.0", "it must be above 0"),
        *("x.c is 1.0", "it must be at least 0 and below 1"),
        *("x.d is nan", "it must be above 0 and at most 1"),
        *("x.e is 65537", "it must be from 1 to 65,536"),
    ]
