"""An external scaler, written from `crates/scalers/proto/externalscaler.proto` by Google's own tools.

What it answers is in the trigger's metadata: `target`, `value` and `active` for both; `fields: old` for the whole-number
fields alone. `StreamIsActive` says what the file named by `signal` holds, each time it is there, and takes it away.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile
import time
from concurrent import futures

import grpc
from grpc_tools import protoc


def generated(proto: pathlib.Path):
    folder = tempfile.mkdtemp()
    arguments = ["protoc", f"-I{proto.parent}", f"--python_out={folder}", f"--grpc_python_out={folder}", str(proto)]
    if protoc.main(arguments) != 0:
        sys.exit("the .proto cannot be compiled")
    sys.path.insert(0, folder)
    return importlib.import_module("externalscaler_pb2"), importlib.import_module("externalscaler_pb2_grpc")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proto", type=pathlib.Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--authority")
    options = parser.parse_args()
    messages, services = generated(options.proto)

    class Plugin(services.ExternalScalerServicer):
        def IsActive(self, request, context):
            self.check(request, context)
            return messages.IsActiveResponse(result=request.scalerMetadata.get("active") == "true")

        def GetMetricSpec(self, request, context):
            self.check(request, context)
            told = request.scalerMetadata
            if "target" not in told:
                return messages.GetMetricSpecResponse()
            spec = messages.MetricSpec(metricName=f"{request.namespace}.{request.name}")
            if told.get("fields") == "old":
                spec.targetSize = int(told["target"])
            else:
                spec.targetSizeFloat = float(told["target"])
            return messages.GetMetricSpecResponse(metricSpecs=[spec])

        def GetMetrics(self, request, context):
            told = request.scaledObjectRef.scalerMetadata
            if told.get("sleep"):
                time.sleep(float(told["sleep"]))
            if request.metricName != f"{request.scaledObjectRef.namespace}.{request.scaledObjectRef.name}":
                context.abort(grpc.StatusCode.NOT_FOUND, f"no metric {request.metricName}")
            value = messages.MetricValue(metricName=request.metricName)
            if told.get("fields") == "old":
                value.metricValue = int(told["value"])
            else:
                value.metricValueFloat = float(told["value"])
            return messages.GetMetricsResponse(metricValues=[value])

        def StreamIsActive(self, request, context):
            signal = pathlib.Path(request.scalerMetadata["signal"])
            while context.is_active():
                if signal.exists():
                    text = signal.read_text()
                    if text:
                        signal.unlink()
                        yield messages.IsActiveResponse(result=text == "active")
                time.sleep(0.02)

        @staticmethod
        def check(request, context):
            if request.scalerMetadata.get("refuse") == "true":
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    services.add_ExternalScalerServicer_to_server(Plugin(), server)
    address = f"127.0.0.1:{options.port}"
    if options.certificate:
        read = lambda path: pathlib.Path(path).read_bytes()  # noqa: E731
        pair = (read(options.key), read(options.certificate))
        credentials = grpc.ssl_server_credentials([pair], read(options.authority), require_client_auth=True)
        server.add_secure_port(address, credentials)
    else:
        server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


main()
