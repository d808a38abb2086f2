"""Entry point of `python -m agent.demo.gateway`: a gateway in a process of its own."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from agent.demo.gateway.admin import admin_server
from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.options import GatewaySettings, parse_pool
from agent.demo.process import wait_for_signal, write_ready_file


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m agent.demo.gateway", description="Run an embedded gateway."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1994, help="port of the machine API; 0: any free port")
    parser.add_argument(
        "--admin-port", type=int, default=0, help="port of the admin interface; 0: any free port"
    )
    parser.add_argument(
        "--pool", action="append", help="NAME[:GPU_TYPE[:PROVIDER[:RUNTIME]]]; may be repeated"
    )
    parser.add_argument("--ttl", type=float, default=300, metavar="SECONDS")
    parser.add_argument("--pending-ttl", type=float, default=3600, metavar="SECONDS")
    parser.add_argument(
        "--direct-redis-host", default="127.0.0.1", help="if empty, register replies have no config"
    )
    parser.add_argument("--register-pause", type=float, default=0, metavar="SECONDS")
    parser.add_argument(
        "--no-keepalive-route", action="store_true", help="behave like an unmodified upstream gateway"
    )
    parser.add_argument("--k3s-port", type=int, default=6443)
    parser.add_argument(
        "--redis-port", type=int, help="run functions, endpoints and pods on workers, which ask this port"
    )
    parser.add_argument("--demand", type=int, default=0, help="number of workers that each pool wants")
    parser.add_argument("--placement-interval", type=float, default=1, metavar="SECONDS")
    parser.add_argument("--cleanup-interval", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--health-interval", type=float, default=10, metavar="SECONDS")
    parser.add_argument(
        "--ready-file", type=Path, help="written with url and admin_url once the gateway listens"
    )
    return parser.parse_args(argv)


def _settings(args: argparse.Namespace) -> GatewaySettings:
    return GatewaySettings(
        pools=tuple(parse_pool(text) for text in args.pool or ["gpu"]),
        host=args.host,
        port=args.port,
        ttl_s=args.ttl,
        pending_ttl_s=args.pending_ttl,
        direct_redis_host=args.direct_redis_host,
        register_pause_s=args.register_pause,
        keepalive_route=not args.no_keepalive_route,
        k3s_port=args.k3s_port,
        redis_port=args.redis_port,
        demand=args.demand,
        placement_interval_s=args.placement_interval,
        cleanup_interval_s=args.cleanup_interval,
        health_interval_s=args.health_interval,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run a gateway until SIGTERM or SIGINT."""
    args = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with EmbeddedGateway(_settings(args)) as gateway:
        admin = admin_server(gateway, args.admin_port)
        admin.start()
        write_ready_file(args.ready_file, {"url": gateway.url, "admin_url": admin.url, "port": gateway.port})
        wait_for_signal()
        admin.stop()


main()
