"""What a scenario may say of money and energy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sim.config.billing import Billing, Budget, Energy
from sim.observe.bill import Terms
from sim.observe.energy import site


def test_left_out_a_machine_is_billed_on_demand_by_the_second_with_a_minute_at_least() -> None:
    assert Terms(**Billing().terms(3.6)) == Terms(3.6, "on-demand", minimum=60.0, granularity=1.0)


def test_its_own_price_goes_before_the_pools() -> None:
    assert Billing(price=2.5).terms(3.6)["usd_per_hour"] == 2.5


def test_reserved_machines_have_a_price_or_a_discount() -> None:
    dear = Billing.model_validate({"kind": "reserved", "reserved": 4, "reserved_price": 2.0})
    cheap = Billing.model_validate({"kind": "reserved", "reserved": 4, "discount": "25%"})
    assert Terms(**dear.terms(3.6)).reserved_usd_per_hour == 2.0
    assert Terms(**cheap.terms(3.6)).reserved_usd_per_hour == pytest.approx(2.7)
    assert Terms(**cheap.terms(3.6)).reserved == 4
    assert Terms(**cheap.terms(3.6)).usd_per_hour == 3.6


def test_spot_machines_cost_what_the_catalog_the_scenario_or_a_series_says() -> None:
    assert Terms(**Billing(kind="spot").terms(3.6, 1.2)).usd_per_hour == 1.2
    assert Terms(**Billing(kind="spot", price=1.5).terms(3.6, 1.2)).usd_per_hour == 1.5
    series = Billing.model_validate({"kind": "spot", "series": [[0, 1.2], ["6h", 2.5]]})
    assert Terms(**series.terms(3.6)).series == ((0.0, 1.2), (21600.0, 2.5))
    with pytest.raises(ValueError, match="kind spot needs price or series"):
        Billing(kind="spot").terms(3.6)


def test_only_ec2_gives_the_first_hour_of_a_machine_it_takes_back() -> None:
    spot = Billing(kind="spot", price=1.0)
    assert spot.terms(3.6, cloud="aws")["free_within"] == 3600.0
    assert spot.terms(3.6, cloud="gcp")["free_within"] == 0.0
    given = Billing.model_validate({"kind": "spot", "price": 1.0, "free_within": "10m"})
    assert given.terms(3.6, cloud="aws")["free_within"] == 600.0


@pytest.mark.parametrize(
    ("part", "given", "said"),
    [
        (Billing, {"kind": "rented"}, "'rented' is not one of on-demand, reserved, spot"),
        (Billing, {"kind": "reserved"}, "is needed with kind reserved"),
        (Billing, {"kind": "reserved", "reserved": 1}, "needs reserved_price or discount; neither is given"),
        (
            Billing,
            {"kind": "reserved", "reserved": 1, "reserved_price": 1, "discount": 0.1},
            "needs reserved_price or discount; both are given",
        ),
        (Billing, {"reserved": 1}, "has no meaning with kind on-demand"),
        (Billing, {"series": [[0, 1]]}, "has no meaning with kind on-demand"),
        (Billing, {"kind": "spot", "price": 1, "series": [[0, 1]]}, "has no meaning beside price"),
        (Billing, {"kind": "spot", "series": []}, "is not a list of [time, dollars an hour]"),
        (Billing, {"kind": "spot", "series": [[0, 1], [0, 2]]}, "times must rise"),
        (Billing, {"kind": "spot", "series": [["soon", 1]]}, "'soon' is not a duration"),
        (Billing, {"kind": "spot", "series": [[0, "much"]]}, "'much' is not a price in dollars an hour"),
        (Billing, {"kind": "spot", "series": [5]}, "'5' is not a pair"),
        (Billing, {"minimum": -1}, "'-1' is not a duration"),
        (Budget, {}, "needs one of usd_per_hour, usd_per_month"),
        (Budget, {"usd_per_hour": 0}, "'0' is out of range; allowed: more than 0"),
        (
            Energy,
            {"region": "aws/us-esat-1"},
            "'aws/us-esat-1' is not in the catalog of carbon (did you mean 'aws/us-",
        ),
        (Energy, {"region": -5}, "'-5' is out of range; allowed: grams of CO2 a kWh"),
        (Energy, {"region": True}, "'true' is not a region like aws/us-east-1"),
        (Energy, {"pue": 0.9}, "'0.9' is out of range; allowed: at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(part: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        part.model_validate(given)
    assert said in str(caught.value)


def test_a_budget_is_figures_and_the_most_they_may_be() -> None:
    budget = Budget.model_validate({"usd_per_hour": 40, "usd_per_1m_tokens": 0.5})
    assert budget.objectives == {"usd_per_hour": 40.0, "usd_per_1m_tokens": 0.5}


def test_the_region_gives_carbon_and_pue_unless_the_scenario_does() -> None:
    assert Energy().site("aws/us-east-1") == {"host_watts": None, "pue": 1.135, "g_per_kwh": 379.069}
    assert Energy(region="aws/eu-north-1").site("aws/us-east-1")["g_per_kwh"] == 8.0
    assert Energy.model_validate({"region": 120, "pue": 1.3, "host_watts": 90}).site("aws/us-east-1") == {
        "host_watts": 90.0,
        "pue": 1.3,
        "g_per_kwh": 120.0,
    }
    assert Energy().site("lambda/us-east-1") == {"host_watts": None, "pue": None, "g_per_kwh": None}


def test_what_the_scenario_says_is_a_site() -> None:
    there = site(400.0, **Energy(region="aws/eu-west-3").site())
    assert (there.host_watts, there.pue, there.g_per_kwh) == (200.0, 1.135, 52.0)
