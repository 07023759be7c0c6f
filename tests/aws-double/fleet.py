"""What moto's EC2 leaves out and a node provisioner leans on. Importing this module patches moto.

CreateFleet takes the override with the lowest price (or the lowest `Priority` when the strategy says prioritized),
skips capacity pools that are empty and types that the zone does not offer, and reports each of them as AWS does: an
entry under `Errors` beside whatever was launched. Instances carry the launch template's profile and groups and the
`aws:` tags, and they take their time to boot and to die.
"""

import json
import pathlib
import threading
import time

from moto.ec2.models import fleets, instances
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS
from moto.ec2.responses.fleets import Fleets
from moto.ec2.responses.spot_instances import SpotInstances
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.iam.models import iam_backends

PRICES = json.loads((pathlib.Path(__file__).parent / "prices.json").read_text())["on_demand"]
# Spot costs this share of the on-demand price, a little different in each zone so that a choice can be seen.
SPOT_SHARE = {"a": 0.36, "b": 0.33, "c": 0.39}


class Behaviour:
    """What the control endpoints set."""

    lock = threading.Lock()
    exhausted: list[tuple[str, str, str]] = []
    pending_seconds = 0.0
    shutting_down_seconds = 0.0

    @classmethod
    def is_exhausted(cls, *pool: str) -> bool:
        with cls.lock:
            return any(all(want in ("*", have) for want, have in zip(entry, pool)) for entry in cls.exhausted)


def price(capacity_type: str, instance_type: str, zone: str) -> float:
    """USD per hour; a type without a price sorts last."""
    on_demand = PRICES.get(instance_type, float("inf"))
    return on_demand * SPOT_SHARE.get(zone[-1], 0.4) if capacity_type == "spot" else on_demand


def offered(region: str, instance_type: str, zone: str) -> bool:
    return (instance_type, zone) in _offerings(region)


_OFFERINGS: dict[str, set] = {}


def _offerings(region: str) -> set:
    if region not in _OFFERINGS:
        rows = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
        _OFFERINGS[region] = {(row["InstanceType"], row["Location"]) for row in rows}
    return _OFFERINGS[region]


def _profile_of(backend, spec) -> tuple[str | None, bool]:
    """The instance profile a launch names, and whether IAM knows it."""
    wanted = spec._iam_instance_profile_arn
    if not wanted:
        return None, True
    name = wanted.get("Name") or wanted.get("Arn", "") if isinstance(wanted, dict) else wanted
    known = iam_backends[backend.account_id]["aws"].instance_profiles.values()
    return name, any(name in (profile.name, profile.arn) for profile in known)


def _refusal(fleet, spec, capacity_type: str, zone: str) -> tuple[str, str] | None:
    profile, known = _profile_of(fleet.ec2_backend, spec)
    if not known:
        text = f"Value ({profile}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
        return "InvalidParameterValue", text
    if not offered(fleet.ec2_backend.region_name, spec.instance_type, zone):
        text = f"Your requested instance type ({spec.instance_type}) is not supported in your requested Availability Zone ({zone})."
        return "Unsupported", text
    if Behaviour.is_exhausted(capacity_type, spec.instance_type, zone):
        text = (
            f"We currently do not have sufficient {spec.instance_type} capacity in the Availability Zone you "
            f"requested ({zone}). Our system will be working on provisioning additional capacity."
        )
        code = "UnfulfillableCapacity" if capacity_type == "spot" else "InsufficientInstanceCapacity"
        return code, text
    return None


def _usable_specs(fleet, capacity_type: str, strategy: str) -> list:
    usable = []
    for index, spec in enumerate(fleet.launch_specs):
        zone = fleet.ec2_backend.get_subnet(spec.subnet_id).availability_zone
        refusal = _refusal(fleet, spec, capacity_type, zone)
        if refusal is None:
            priority = float((spec.overrides or {}).get("Priority") or "inf")
            cost = price(capacity_type, spec.instance_type, zone)
            usable.append(((priority, cost, index) if "prioritized" in strategy.lower() else (cost, index), spec))
            continue
        error = {
            "LaunchTemplateAndOverrides": {
                "LaunchTemplateSpecification": spec.launch_template_spec,
                "Overrides": (spec.overrides or {}) | {"AvailabilityZone": zone},
            },
            "Lifecycle": capacity_type,
            "ErrorCode": refusal[0],
            "ErrorMessage": refusal[1],
        }
        if error not in fleet.launch_errors:
            fleet.launch_errors.append(error)
    return [spec for _, spec in sorted(usable, key=lambda pair: pair[0])]


def _launching(original, capacity_type: str):
    def create(self, weight_to_add):
        if not hasattr(self, "launch_errors"):
            self.launch_errors = []
        options = (self.spot_options if capacity_type == "spot" else self.on_demand_options) or {}
        specs = _usable_specs(self, capacity_type, options.get("AllocationStrategy") or "lowest-price")
        if not specs:
            return []
        self.get_launch_spec_counts = lambda weight: ({specs[0]: max(1, round(weight))}, weight)
        return original(self, weight_to_add)

    return create


fleets.Fleet.create_on_demand_requests = _launching(fleets.Fleet.create_on_demand_requests, "on-demand")
fleets.Fleet.create_spot_requests = _launching(fleets.Fleet.create_spot_requests, "spot")


def launched(fleet) -> list[tuple]:
    """(instance, launch spec) of everything a fleet started."""
    started = [(item["instance"], item["launch_spec"]) for item in fleet.on_demand_instances]
    return started + [(request.instance, request.launch_spec) for request in fleet.spot_requests]


def _create_fleet(original):
    def create_fleet(self):
        answer = original(self)
        result = answer.result
        fleet = self.ec2_backend.get_fleet(result["FleetId"])
        for instance, spec in launched(fleet):
            template = self.ec2_backend.get_launch_template(spec.launch_template_spec["LaunchTemplateId"])
            data = template.get_version(spec.launch_template_spec.get("Version", template.default_version_number)).data
            instance.iam_instance_profile = data.get("IamInstanceProfile")
            groups = data.get("SecurityGroupIds") or []
            instance.security_groups = [self.ec2_backend.get_security_group_from_id(group) for group in groups]
            instance.metadata_options = instances.MetadataOptions(data.get("MetadataOptions") or {})
            instance.add_tags({
                "aws:ec2:fleet-id": fleet.id,
                "aws:ec2launchtemplate:id": template.id,
                "aws:ec2launchtemplate:version": str(spec.launch_template_spec.get("Version", "1")),
            })
        result["Errors"] = getattr(fleet, "launch_errors", [])
        return answer

    return create_fleet


Fleets.create_fleet = _create_fleet(Fleets.create_fleet)


class ClockedState:
    """An instance state that needs time: pending before running, shutting-down before terminated."""

    def __init__(self):
        self._name, self._code, self._since = "running", 16, time.monotonic()

    def _seen(self) -> tuple[str, int]:
        age = time.monotonic() - self._since
        if self._name == "running" and age < Behaviour.pending_seconds:
            return "pending", 0
        if self._name == "terminated" and age < Behaviour.shutting_down_seconds:
            return "shutting-down", 32
        return self._name, self._code

    @property
    def name(self) -> str:
        return self._seen()[0]

    @name.setter
    def name(self, name: str) -> None:
        if name != self._name:
            self._name, self._since = name, time.monotonic()

    @property
    def code(self) -> int:
        return self._seen()[1]

    @code.setter
    def code(self, code: int) -> None:
        self._code = code


def _instance_init(original):
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self._state = ClockedState()

    return __init__


instances.Instance.__init__ = _instance_init(instances.Instance.__init__)


def _spot_price_history(self):
    rows = self.ec2_backend.describe_spot_price_history(
        self._get_param("InstanceTypes", []), self._filters_from_querystring()
    )
    history = [
        {
            "InstanceType": row["InstanceType"],
            "ProductDescription": "Linux/UNIX",
            "SpotPrice": f"{price('spot', row['InstanceType'], row['Location']):.6f}",
            "AvailabilityZone": row["Location"],
            "Timestamp": utcnow(),
        }
        for row in rows
        if row["InstanceType"] in PRICES
    ]
    return ActionResult({"SpotPriceHistory": history})


SpotInstances.describe_spot_price_history = _spot_price_history
