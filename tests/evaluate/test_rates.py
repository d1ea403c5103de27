import pytest

from moe_safety.evaluate.statistics import mcnemar, wilson


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_newcombe_1998_table_1(count, n, low, high):
    rate = wilson(count, n)
    assert (rate.value, rate.n) == (count / n, n)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_uses_the_exact_quantile():
    # With z = 1.96 the fifth digit differs; the ends of a rate of 0 are 0 and z² / (n + z²).
    assert wilson(0, 10).low == 0
    assert wilson(0, 10).high == pytest.approx(1.959963984540054**2 / (10 + 1.959963984540054**2), rel=1e-12)
    assert wilson(10, 10).high == 1


def test_a_rate_of_nothing_is_none():
    assert wilson(0, 0).to_dict() == {"value": None, "n": 0, "low": None, "high": None, "unparsed": 0}


@pytest.mark.parametrize(("b", "c", "p"), [(1, 7, 0.0703), (6, 16, 0.0525)])
def test_mcnemar_against_fagerland_lydersen_laake_2013(b, c, p):
    assert mcnemar(b, c) == pytest.approx(p, abs=5e-5)
    assert mcnemar(c, b) == mcnemar(b, c)


def test_mcnemar_at_its_ends():
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1
    assert mcnemar(0, 10) == pytest.approx(2**-9)
