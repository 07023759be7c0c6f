#!/usr/bin/env python3
"""Writes the table of EC2 instance types that `tandem simulate` takes when it is given no other.

    ec2_types.py CATALOGUE.json > ec2-us-east-1.txt

The catalogue is one JSON object `{"meta": {"region": ..., "sources": {...}}, "types": {NAME: {...}}}`. Output: one line per
instance type, sorted by name; lines with `#` are comments. Left out are types without a price or a zone, bare metal, and
Macs. Columns, apart by blanks:

    name architecture vcpu memory_mib max_pods micro_dollars_per_hour zones [key=value...]

A zone is one digit. The keys are labels without their prefix; `gpu` and `neuron` are counts.
"""

import decimal
import json
import sys


def kebab(text: str) -> str:
    return text.strip().lower().replace(" ", "-")


def extras(spec: dict) -> list[str]:
    pairs = {"hypervisor": spec.get("hypervisor"), "maker": kebab(spec.get("cpuMaker", ""))}
    pairs["nvme"] = spec.get("nvmeGB")
    pairs["net"] = spec.get("netMbps")
    pairs["ebs"] = (spec.get("ebsMbps") or [None, None])[1]
    pairs["crypt"] = "true" if spec.get("encryptTransit") else None
    if gpu := spec.get("gpu"):
        # A fraction of a GPU is announced as none whole and some logical ones.
        pairs["gpu"] = gpu.get("count") or gpu.get("logical") or 1
        pairs["gpu-maker"], pairs["gpu-name"] = kebab(gpu["maker"]), kebab(gpu["name"])
        pairs["gpu-memory"] = gpu.get("memMiB")
    if neuron := spec.get("neuron"):
        pairs["neuron"], pairs["neuron-name"] = neuron["count"], kebab(neuron["name"])
        pairs["neuron-cores"] = neuron.get("coresPerDevice")
    return [f"{key}={value}" for key, value in pairs.items() if value not in (None, "")]


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        catalogue = json.load(file, parse_float=decimal.Decimal)
    meta = catalogue["meta"]
    print(f"# EC2 instance types of {meta['region']}, on demand, Linux, shared tenancy. Written by ec2_types.py.")
    for what in ("specs", "onDemandUSD"):
        print(f"# Source of {what}: {meta['sources'][what]}")
    for name, spec in sorted(catalogue["types"].items()):
        price = spec.get("onDemandUSD")
        if price is None or not spec.get("zones") or spec.get("bareMetal") or spec["arch"] not in ("amd64", "arm64"):
            continue
        micros = (decimal.Decimal(price) * 1_000_000).to_integral_value(rounding=decimal.ROUND_CEILING)
        columns = [name, spec["arch"], spec["vcpu"], spec["memMiB"], spec["maxPodsEni"], micros, spec["zones"]]
        print(*columns, *extras(spec))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
