"""From prices and power to what an hour of a device costs and draws."""

from __future__ import annotations

from typing import NamedTuple

from benchbox.analyze.plan_rates import Rate
from benchbox.errors import BadInputError
from benchbox.plan.device_names import match_device_name
from benchbox.plan.tomlfile import quoted
from benchbox.schema import DevicePrice, HardwareProfile, Prices

_HOURS_PER_YEAR = 8766.0
# Training draws most of the board's power; how much of it, no source case may have measured.
_USUAL_POWER_SHARE = 0.8
_POWER_LOG_HALF = 0.2


class HourlyCost(NamedTuple):
    """Of one device."""

    per_hour: float | None
    """In the prices' currency; ``None`` without a price, or where its electricity cannot be told."""
    log_half: float
    """Half of its 80 % interval, as a logarithm: what the power leaves open of the bill for electricity."""
    power_w: float | None
    """With its share of the host and of cooling; ``None`` where nothing says."""
    power_log_half: float
    """Half of the power's 80 % interval, as a logarithm."""
    price: DevicePrice | None


def hourly_cost(
    device: str,
    profile: HardwareProfile | None,
    rate: Rate,
    prices: Prices | None,
    profiles: tuple[HardwareProfile, ...],
) -> HourlyCost:
    """What an hour of ``device`` costs at the load that ``rate`` comes from."""
    power, half = _power(profile, rate)
    if prices is None:
        return HourlyCost(None, 0.0, power, half, None)
    price = find_price(device, profile, prices, profiles)
    if power is None and price is not None and price.power_w is not None:
        power, half = price.power_w, _POWER_LOG_HALF
    if power is not None:
        power = (power + prices.host_w_per_device) * prices.power_usage_effectiveness
    if price is None or price.per_hour is not None:
        return HourlyCost(price.per_hour if price else None, 0.0, power, half, price)
    assert price.purchase is not None
    assert price.lifetime_years is not None
    assert price.utilization is not None
    used_hours = price.lifetime_years * _HOURS_PER_YEAR * price.utilization
    per_hour = (price.purchase + price.host_share) / used_hours
    if not prices.electricity_per_kwh:
        return HourlyCost(per_hour, 0.0, power, half, price)
    if power is None:  # without its bill it would look cheaper than it is
        return HourlyCost(None, 0.0, None, half, price)
    electricity = prices.electricity_per_kwh * power / 1e3
    whole = per_hour + electricity
    return HourlyCost(whole, electricity / whole * half, power, half, price)


def find_price(
    device: str, profile: HardwareProfile | None, prices: Prices, profiles: tuple[HardwareProfile, ...]
) -> DevicePrice | None:
    """The price whose name is the device's, or means its profile."""
    for price in prices.device:
        if price.name.strip().casefold() == device.casefold():
            return price
    meant = ((price, match_device_name(price.name, profiles)) for price in prices.device)
    return next((price for price, found in meant if profile is not None and found is profile), None)


def check_prices(prices: Prices, profiles: tuple[HardwareProfile, ...]) -> None:
    """That no device has two prices under names that differ.

    Raises:
        BadInputError: one has.
    """
    names: dict[str, str] = {}
    for price in prices.device:
        meant = match_device_name(price.name, profiles)
        if isinstance(meant, HardwareProfile) and names.setdefault(meant.name, price.name) != price.name:
            raise BadInputError(
                f"--prices: {quoted(names[meant.name])} and {quoted(price.name)} both mean {meant.name}; "
                "keep one of them"
            )


def _power(profile: HardwareProfile | None, rate: Rate) -> tuple[float | None, float]:
    source = rate.source
    if rate.basis != "predicted":
        return source.power_w, 0.0 if rate.basis == "measured" else _POWER_LOG_HALF / 2
    if profile is None or profile.tdp_w is None:
        return None, 0.0
    share = _USUAL_POWER_SHARE
    if source.power_w is not None and source.profile is not None and source.profile.tdp_w is not None:
        share = min(1.0, source.power_w / source.profile.tdp_w)
    return share * profile.tdp_w, _POWER_LOG_HALF
