"""How machines are paid, what may be spent, and what the energy of a run is reckoned with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sim.config import units
from sim.config.units import shown
from sim.config.values import FRACTION_SCHEMA, Part, Reader, Seconds, choice, fault, real, whole

__all__ = ["Billing", "Budget", "Energy"]

_Price = Annotated[float, real(0.0, 1e6)]
_Most = Annotated[float, real(0.0, 1e9, above=True)]


def _series(value: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{shown(value)} is not a list of [time, dollars an hour], like [[0, 1.2], [6h, 2.5]]")
    found: list[tuple[float, float]] = []
    for item in value:
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise ValueError(f"{shown(item)} is not a pair of a time and dollars an hour, like [6h, 2.5]")
        moment, price = units.duration(item[0]), units.number(item[1])
        if price is None or not 0.0 <= price <= 1e6:
            raise ValueError(f"{shown(item[1])} is not a price in dollars an hour; allowed: at least 0, at most 1e+06")
        if found and moment <= found[-1][0]:
            raise ValueError(f"{shown(item[0])} comes after {found[-1][0]:g} s: times must rise")
        found.append((moment, price))
    return tuple(found)


_SERIES = Reader(
    _series,
    {
        "type": "array",
        "minItems": 1,
        "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": ["number", "string"]}},
    },
)


class Billing(Part):
    """How the machines of a pool are billed. Left out: on demand, by the second, 60 s at least."""

    kind: Annotated[Literal["on-demand", "reserved", "spot"], choice("on-demand", "reserved", "spot")] = Field(
        default="on-demand",
        description="on-demand; reserved: some machines are paid all the time, whether used or not, and those beyond them on demand;"
        " spot: capacity that the cloud may take back, at its own price.",
    )
    price: _Price | None = Field(
        default=None,
        description="Dollars an hour for a machine that runs; with kind spot, its spot price. Default: the pool's price or the catalog's.",
    )
    minimum: Seconds = Field(
        default=60.0,
        description="A machine that ended is billed for this long at least. Default: 60 s, as EC2 and GCE do.",
    )
    granularity: Seconds = Field(
        default=1.0,
        description="Billed time is rounded up to a multiple of this; 0: not rounded, 1h: by the hour begun.",
    )
    reserved: Annotated[int, whole(1, 100_000)] | None = Field(default=None, description="Machines that are reserved.")
    reserved_price: _Price | None = Field(
        default=None, description="Dollars an hour for each of them; or give discount."
    )
    discount: Annotated[float, real(0.0, 1.0, read=units.fraction, schema=FRACTION_SCHEMA)] | None = Field(
        default=None,
        description="What a reserved machine costs less than one on demand, as a share; or give reserved_price.",
    )
    series: Annotated[tuple[tuple[float, float], ...], _SERIES] | None = Field(
        default=None,
        description="Spot prices over the run: [time, dollars an hour], each from its time until the next. In place of price.",
    )
    free_within: Seconds | None = Field(
        default=None,
        description="A machine that the cloud takes back within this time costs nothing. Default: 1h for spot machines of EC2, else 0.",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Billing:
        if self.kind == "reserved":
            if self.reserved is None:
                raise fault("is needed with kind reserved: how many machines are", "reserved")
            if (self.reserved_price is None) == (self.discount is None):
                both = "both are given" if self.discount is not None else "neither is given"
                raise fault(f"kind reserved needs reserved_price or discount; {both}")
        else:
            for name in ("reserved", "reserved_price", "discount"):
                if getattr(self, name) is not None:
                    raise fault(f"has no meaning with kind {self.kind}", name)
        if self.kind != "spot":
            for name in ("series", "free_within"):
                if getattr(self, name) is not None:
                    raise fault(f"has no meaning with kind {self.kind}", name)
        elif self.series is not None and self.price is not None:
            raise fault("has no meaning beside price", "series")
        return self

    def terms(self, usd_per_hour: float, spot_usd_per_hour: float | None = None, cloud: str = "") -> dict[str, Any]:
        """The keywords of :class:`sim.observe.bill.Terms` for machines of ``cloud`` with these list prices, dollars an hour.

        ValueError when spot capacity has no price.
        """
        running = usd_per_hour if self.price is None else self.price
        terms: dict[str, Any] = {"kind": self.kind, "minimum": self.minimum, "granularity": self.granularity}
        if self.kind == "reserved":
            each = running * (1.0 - (self.discount or 0.0)) if self.reserved_price is None else self.reserved_price
            terms |= {"reserved": self.reserved, "reserved_usd_per_hour": each}
        if self.kind == "spot":
            if self.series is None and self.price is None:
                if spot_usd_per_hour is None:
                    raise ValueError("kind spot needs price or series: the catalog has no spot price of this machine")
                running = spot_usd_per_hour
            free = 3600.0 if cloud == "aws" else 0.0
            terms |= {
                "series": self.series or (),
                "free_within": free if self.free_within is None else self.free_within,
            }
        return terms | {"usd_per_hour": running}


class Budget(Part):
    """What may be spent: objectives on the whole run, beside those of the workloads."""

    usd_per_hour: _Most | None = Field(default=None, description="Dollars an hour, mean over the run.")
    usd_per_month: _Most | None = Field(default=None, description="Dollars for 730 hours like the run's.")
    usd_per_1m_tokens: _Most | None = Field(
        default=None, description="Dollars a million tokens served, prompt and output."
    )
    usd_per_1m_output_tokens: _Most | None = Field(default=None, description="Dollars a million output tokens served.")
    usd_per_met_request: _Most | None = Field(
        default=None, description="Dollars a request that was served within every objective of its workload."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Budget:
        if not self.objectives:
            raise fault(f"needs one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def objectives(self) -> dict[str, float]:
        """Figure to most dollars."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


def _region(value: Any) -> str | float:
    from sim import catalog
    from sim.errors import CatalogError

    number = units.number(value)
    if number is not None:
        if not 0.0 <= number <= 2000.0:
            raise ValueError(f"{shown(value)} is out of range; allowed: grams of CO2 a kWh, from 0 to 2000")
        return number
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a region like aws/us-east-1, nor grams of CO2 a kWh")
    try:
        catalog.region(value)
    except CatalogError as error:
        raise ValueError(str(error)) from None
    return value


_REGION = Reader(_region, {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "x-names": "carbon"})


class Energy(Part):
    """With it the energy of the run is reckoned, and its carbon where the region is known."""

    region: Annotated[str | float, _REGION] | None = Field(
        default=None,
        description="Where the machines stand: a region of the catalog (twinfer catalog carbon) like aws/us-east-1, or grams of CO2 a kWh."
        " Default: the region of a pool's instance.",
    )
    pue: Annotated[float, real(1.0, 5.0)] | None = Field(
        default=None,
        description="What the data centre draws over what its machines draw. Default: the region's, else 1.59.",
    )
    host_watts: Annotated[float, real(0.0, 1e5)] | None = Field(
        default=None,
        description="Watts of the rest of a machine for each of its GPUs. Default: half of the GPU's power limit.",
    )

    def site(self, region: str | None = None) -> dict[str, float | None]:
        """``host_watts``, ``pue`` and ``g_per_kwh`` for :func:`sim.observe.energy.site`; None: its default. ``region`` is that of the
        machines, like aws/us-east-1, if it is known and the scenario names none."""
        from sim import catalog

        where = self.region if self.region is not None else region
        if isinstance(where, str) and where in catalog.names("carbon"):
            found = catalog.region(where)
            return {
                "host_watts": self.host_watts,
                "pue": found.pue if self.pue is None else self.pue,
                "g_per_kwh": found.g_per_kwh,
            }
        grams = where if isinstance(where, float) else None
        return {"host_watts": self.host_watts, "pue": self.pue, "g_per_kwh": grams}
