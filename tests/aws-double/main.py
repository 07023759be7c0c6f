"""The AWS double's server: moto behind a thin layer that counts, holds, fails and answers control calls.

Everything a test sets goes through `/tandem/...` (README.md); everything else is AWS's own protocol.
"""

import argparse
import collections
import hashlib
import io
import json
import os
import re
import threading
import time
import urllib.parse

os.environ.setdefault("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "1")
os.environ.setdefault("MOTO_ENABLE_AMI_VALIDATION", "1")

from moto.ec2.models import ec2_backends  # noqa: E402
from moto.ec2.models.instance_types import INSTANCE_TYPES  # noqa: E402
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app  # noqa: E402
from werkzeug.serving import run_simple  # noqa: E402

import fleet  # noqa: E402
import seed as account  # noqa: E402

HOLD_LIMIT_SECONDS = 600  # an answer nobody releases goes out then
PRICE_LIST_PAGE = 100  # entries per GetProducts page, as AWS serves them


class Double:
    """The WSGI application."""

    def __init__(self, region: str, port: int):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.region, self.endpoint = region, f"http://127.0.0.1:{port}"
        self.lock = threading.Lock()
        self.counts: collections.Counter = collections.Counter()
        self.fleets: list[dict] = []
        self.failures: list[dict] = []
        self.holds: collections.Counter = collections.Counter()
        self.held, self.gate = 0, threading.Event()
        self.tokens: dict[str, tuple[threading.Lock, dict]] = {}

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        path = environ.get("PATH_INFO", "")
        if path.startswith("/tandem/"):
            return self.control(path.removeprefix("/tandem/"), json.loads(body or b"{}"), start_response)
        action, parameters = _action(environ, body)
        with self.lock:
            self.counts[action] += 1
            failure = next((f for f in self.failures if f["action"] == action and f["times"] > 0), None)
            if failure:
                failure["times"] -= 1
        if failure:
            return _error(start_response, failure["status"], failure["code"], f"{failure['code']} as the test asked")
        if action == "GetProducts":
            return self.price_list(json.loads(body), start_response)
        if action == "CreateFleet":
            status, headers, answer = self.create_fleet(environ, parameters)
        else:
            status, headers, answer = self.call_moto(environ)
        self.hold(action)
        start_response(status, headers)
        return [answer]

    def call_moto(self, environ) -> tuple[str, list, bytes]:
        seen: dict = {}

        def start(status, headers, _exc=None):
            seen["status"], seen["headers"] = status, headers

        answer = b"".join(self.moto(environ, start))
        return seen["status"], seen["headers"], answer

    def create_fleet(self, environ, parameters: dict) -> tuple[str, list, bytes]:
        """Once per client token, as AWS does; the same token with other parameters is a mismatch."""
        token = parameters.get("ClientToken", [""])[0]
        digest = hashlib.sha256(json.dumps(sorted(parameters.items())).encode()).hexdigest()
        with self.lock:
            turn, done = self.tokens.setdefault(token or f"none-{len(self.tokens)}", (threading.Lock(), {}))
        with turn:
            if done and done["digest"] != digest:
                text = "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."
                return "400 BAD REQUEST", [("Content-Type", "text/xml")], _xml("IdempotentParameterMismatch", text)
            if not done:
                answer = self.call_moto(environ)
                made = re.search(rb"<fleetId>([^<]+)</fleetId>", answer[2])
                if made:
                    done |= {"digest": digest, "answer": answer}
                    backend = ec2_backends[account.ACCOUNT][self.region]
                    self.note_fleet(backend.get_fleet(made[1].decode()), token)
                return answer
            return done["answer"]

    def note_fleet(self, made, token: str) -> None:
        errors = [
            {"code": error["ErrorCode"], "override": error["LaunchTemplateAndOverrides"]["Overrides"]}
            for error in getattr(made, "launch_errors", [])
        ]
        ids = [instance.id for instance, _ in fleet.launched(made)]
        with self.lock:
            self.fleets.append({"fleet": made.id, "token": token, "instances": ids, "errors": errors, "at": time.time()})

    def hold(self, action: str) -> None:
        with self.lock:
            if self.holds[action] <= 0:
                return
            self.holds[action] -= 1
            self.held += 1
            gate = self.gate
        gate.wait(HOLD_LIMIT_SECONDS)
        with self.lock:
            self.held -= 1

    def price_list(self, request: dict, start_response):
        wanted = {f["Value"] for f in request.get("Filters", []) if f.get("Field") == "instanceType"}
        names = sorted(name for name in fleet.PRICES if not wanted or name in wanted)
        first = int(request.get("NextToken") or 0)
        entries = [
            json.dumps({
                "product": {"productFamily": "Compute Instance", "attributes": {"instanceType": name, "operatingSystem": "Linux"}},
                "terms": {"OnDemand": {"t": {"priceDimensions": {"d": {"unit": "Hrs", "pricePerUnit": {"USD": str(fleet.PRICES[name])}}}}}},
            })
            for name in names[first : first + PRICE_LIST_PAGE]
        ]
        answer = {"FormatVersion": "aws_v1", "PriceList": entries}
        if first + PRICE_LIST_PAGE < len(names):
            answer["NextToken"] = str(first + PRICE_LIST_PAGE)
        return _json(start_response, answer, "application/x-amz-json-1.1")

    def control(self, name: str, body: dict, start_response):
        handler = getattr(self, f"do_{name}", None)
        if handler is None:
            return _error(start_response, 404, "NoSuchControl", name)
        return _json(start_response, handler(body))

    def do_health(self, _body):
        return {"ok": True}

    def do_seed(self, body):
        return account.seed(self.endpoint, self.region, body["cluster"], body.get("profile", f"{body['cluster']}-node"))

    def do_capacity(self, body):
        with fleet.Behaviour.lock:
            fleet.Behaviour.exhausted = [tuple(pool) for pool in body["exhausted"]]
        return {"exhausted": body["exhausted"]}

    def do_timing(self, body):
        fleet.Behaviour.pending_seconds = float(body.get("pending_seconds", fleet.Behaviour.pending_seconds))
        fleet.Behaviour.shutting_down_seconds = float(body.get("shutting_down_seconds", fleet.Behaviour.shutting_down_seconds))
        return {}

    def do_hold(self, body):
        with self.lock:
            self.holds[body["action"]] = int(body.get("count", 1))
            if self.gate.is_set():
                self.gate = threading.Event()
        return {}

    def do_held(self, _body):
        with self.lock:
            return {"held": self.held}

    def do_release(self, _body):
        with self.lock:
            self.holds.clear()
            self.gate.set()
        return {}

    def do_fail(self, body):
        with self.lock:
            self.failures.append({"status": 400, "times": 1} | body)
        return {}

    def do_log(self, _body):
        with self.lock:
            return {"counts": dict(self.counts), "fleets": self.fleets}

    def do_kill(self, body):
        ec2_backends[account.ACCOUNT][self.region].terminate_instances([body["id"]])
        return {}

    def do_instances(self, _body):
        backend = ec2_backends[account.ACCOUNT][self.region]
        return {"instances": [_self_knowledge(instance) for instance in backend.all_instances()]}


def _self_knowledge(instance) -> dict:
    """What an instance learns from its metadata service and from its own hardware, and nothing else."""
    kind = INSTANCE_TYPES[instance.instance_type]
    network = kind["NetworkInfo"]
    card = network["NetworkCards"][network.get("DefaultNetworkCardIndex", 0)]
    data = instance.user_data
    return {
        "id": instance.id,
        "state": instance.state,
        "instance_type": instance.instance_type,
        "zone": instance.availability_zone,
        "subnet": instance.subnet_id,
        "security_groups": [group.id for group in instance.security_groups],
        "region": instance.region_name,
        "private_dns": instance.private_dns_name,
        "architecture": kind["ProcessorInfo"]["SupportedArchitectures"][0],
        "lifecycle": instance.lifecycle or "on-demand",
        "launched_at": instance.launch_time.timestamp(),
        "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
        "user_data": data.decode() if isinstance(data, bytes) else str(data or ""),
        "hardware": {
            "vcpus": kind["VCpuInfo"]["DefaultVCpus"],
            "memory_mib": kind["MemoryInfo"]["SizeInMiB"],
            "interfaces": card["MaximumNetworkInterfaces"],
            "ipv4_per_interface": network["Ipv4AddressesPerInterface"],
            "nvidia_gpus": sum(g["Count"] for g in kind.get("GpuInfo", {}).get("Gpus", []) if g["Manufacturer"] == "NVIDIA"),
        },
    }


def _action(environ, body: bytes) -> tuple[str, dict]:
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return target.rsplit(".", 1)[-1], {}
    parameters = urllib.parse.parse_qs(body.decode(errors="replace"))
    return parameters.get("Action", ["?"])[0], parameters


def _json(start_response, value, kind: str = "application/json"):
    start_response("200 OK", [("Content-Type", kind)])
    return [json.dumps(value, default=str).encode()]


def _xml(code: str, message: str) -> bytes:
    text = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>0</RequestID></Response>"
    return text.encode()


def _error(start_response, status: int, code: str, message: str):
    start_response(f"{status} ERROR", [("Content-Type", "text/xml")])
    return [_xml(code, message)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--region", default="us-east-1")
    options = parser.parse_args()
    application = Double(options.region, options.port)
    run_simple("127.0.0.1", options.port, application, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
