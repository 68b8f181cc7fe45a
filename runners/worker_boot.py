"""Starts a Python worker of Beam where an engine asks for one: the program ``emobeam-worker``.

What the Go program ``boot`` of Beam's containers does, for machines without containers: ``process`` environments
call it with the addresses of the engine (Beam's "SDK harness container contract"), and with ``--worker_pool`` it is a
pool for ``external`` ones. Options of the pipeline come from the engine's provision service; nothing is staged and
nothing installed: emobeam is there already.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata

from emobeam.runners.children.settings import ALLOCATOR
from emobeam.runners.own_version import own_code, own_version

_PROVISION_SECONDS = 60.0


def versions() -> dict[str, str]:
    """What has to be the same in launcher and workers; of emobeam it is the code, whatever its version is called."""
    return {
        "python": platform.python_version(),
        "apache-beam": metadata.version("apache-beam"),
        "emobeam": own_version(),
        "code": own_code(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``emobeam-worker``."""
    parser = argparse.ArgumentParser(
        prog="emobeam-worker",
        description="Starts a Python worker for Beam. Engines call it; by hand it starts a pool for them.",
        epilog="Example: emobeam-worker --worker_pool --service_port=50000",
    )
    parser.add_argument("--worker_pool", action="store_true", help="serve as a pool that starts workers on demand")
    parser.add_argument("--service_port", type=int, default=50000, help="port of the pool (default: %(default)s)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address the pool listens on (default: %(default)s: this machine or pod only). Whoever reaches another "
        "one, such as 0.0.0.0, can run programs here: open it to the engine's machines alone",
    )
    parser.add_argument("--versions", action="store_true", help="print versions as JSON and end")
    for name in ("id", "logging_endpoint", "artifact_endpoint", "provision_endpoint", "control_endpoint"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    args, _ = parser.parse_known_args(argv)
    if args.versions:
        print(json.dumps(versions()))
    elif args.worker_pool:
        _serve(args.service_port, args.host)
    elif args.id and (args.control_endpoint or args.provision_endpoint):
        _become_worker(args)
    else:
        parser.error("engines call this with --id and --provision_endpoint; to serve a pool, add --worker_pool")


def _serve(port: int, host: str) -> None:
    """Serves as a pool until it is told to end; then its workers end, too."""
    from emobeam.runners.worker_pool import serve

    # The pool calls one executable without arguments of ours.
    program = os.path.abspath(sys.argv[0])
    if not os.access(program, os.X_OK) or program.endswith(".py"):
        program = os.path.join(os.path.dirname(sys.executable), "emobeam-worker")
    serve(port, program, host)


def _become_worker(args: argparse.Namespace) -> None:
    """Replaces this process by Beam's worker, in an environment made for it."""
    options, control, logging, capabilities = _provision(args)
    environment = {
        **ALLOCATOR,
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",
        **os.environ,
        "WORKER_ID": args.id,
        "PIPELINE_OPTIONS": options,
        "CONTROL_API_SERVICE_DESCRIPTOR": f'url: "{control}"',
        "RUNNER_CAPABILITIES": capabilities,
    }
    if logging:
        environment["LOGGING_API_SERVICE_DESCRIPTOR"] = f'url: "{logging}"'
    os.dup2(2, 1)  # a pool never reads what its workers print
    command = [sys.executable, "-P", "-m", "apache_beam.runners.worker.sdk_worker_main"]
    os.execve(sys.executable, command, environment)


def _provision(args: argparse.Namespace) -> tuple[str, str, str, str]:
    """Options of the pipeline as JSON, the addresses to talk to, and what the engine can do."""
    if not args.provision_endpoint:
        return "{}", args.control_endpoint, args.logging_endpoint, ""
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
    from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor
    from google.protobuf import json_format

    with grpc.insecure_channel(args.provision_endpoint) as plain:
        # The engine tells its workers apart by this header.
        channel = grpc.intercept_channel(plain, WorkerIdInterceptor(args.id))
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        info = stub.GetProvisionInfo(request, timeout=_PROVISION_SECONDS, wait_for_ready=True).info
    options = json_format.MessageToJson(info.pipeline_options)
    control = info.control_endpoint.url or args.control_endpoint
    logging = info.logging_endpoint.url or args.logging_endpoint
    return options, control, logging, " ".join(info.runner_capabilities)


if __name__ == "__main__":
    main()
