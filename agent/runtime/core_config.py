"""Derives the core's configuration and ssh's forwards from the settings."""

from __future__ import annotations

from pathlib import Path

from agent import __version__
from agent.core.config import Config, Connection
from agent.core.hairpin.layout import Layout
from agent.core.tunnel import addresses, ssh_argv
from agent.settings import Settings


def make_config(settings: Settings, machine_id: str) -> Config:
    """Return the settings that the core's decisions depend on."""
    is_ssh = settings.connection is Connection.SSH
    reverse: tuple[str, ...] = (settings.reverse_bind,)
    if settings.reverse_bind == "auto":
        reverse = addresses.candidates(machine_id)
    return Config(
        machine_id=machine_id,
        pool_name=settings.pool_name,
        provider_name=settings.provider_name,
        connection=settings.connection,
        k3s=settings.k3s,
        hostname=settings.hostname,
        addresses=reverse,
        uses_gpus=settings.expected_gpus != 0,
        reverse=settings.reverse,
        reserve_cpu_millicores=settings.reserve_cpu_millicores,
        reserve_memory_mib=settings.reserve_memory_mib,
        joins_tailnet=settings.tailscale_auth is not None,
        data=is_ssh and bool(settings.ssh_forwards),
        once=settings.once,
        heeds_rebalance=settings.rebalance == "drain",
        version=__version__,
    )


def local_bind(settings: Settings) -> str:
    """Return the address on which the local end of the tunnel listens."""
    return "127.0.0.1" if settings.gateway_host == "localhost" else settings.gateway_host


def make_forwards(settings: Settings, config: Config, sockets: tuple[Path, ...]) -> ssh_argv.Forwards:
    """Return what the ssh children forward."""
    return ssh_argv.Forwards(
        gateway=f"{local_bind(settings)}:{settings.gateway_port}:{settings.ssh_target}",
        data=tuple(str(forward) for forward in settings.ssh_forwards),
        probe_sockets=tuple(str(path) for path in sockets),
        addresses=config.addresses,
        kubernetes=str(settings.k3s_api),
        hairpin=make_layout(settings).inner,
    )


def make_layout(settings: Settings) -> Layout:
    """Return the hairpin of this machine."""
    return Layout(settings.hairpin, settings.k3s_api.port)
