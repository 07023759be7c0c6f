#!/usr/bin/env python3
"""Writes the fall-back table of on-demand prices from a catalogue file.

    on_demand_prices.py CATALOGUE.json > on-demand-us-east-1.txt

The catalogue is one JSON object `{"meta": {"region": ..., "sources": {...}}, "types": {NAME: {"onDemandUSD": ...}}}`.
Output: one line per instance type, `NAME MICRODOLLARS_PER_HOUR`, sorted by name; lines with `#` are comments.
"""

import decimal
import json
import sys


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        catalogue = json.load(file, parse_float=decimal.Decimal)
    meta = catalogue["meta"]
    print(f"# On demand, Linux, shared tenancy, {meta['region']}, micro-dollars per hour. Written by on_demand_prices.py.")
    print(f"# Source: {meta['sources']['onDemandUSD']}")
    for name, spec in sorted(catalogue["types"].items()):
        price = spec.get("onDemandUSD")
        if price is None:
            continue
        micros = (decimal.Decimal(price) * 1_000_000).to_integral_value(rounding=decimal.ROUND_CEILING)
        print(name, micros)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
