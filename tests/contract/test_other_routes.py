"""The gateway's contract: the list, the configuration, the CLI's output, and the life of an entry."""

from __future__ import annotations

from dataclasses import replace

from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.listing import COLUMNS, created_text, list_text
from tests.contract.caller import CONFIG, LIST, METRICS, Caller

OF_THE_POOL = f"{LIST}?pool_name=gpu&provider_name=generic"


def test_the_list_holds_only_ready_machines(caller: Caller) -> None:
    caller.register()
    assert caller.get(OF_THE_POOL).json == []
    caller.keepalive()
    assert [entry["state"]["machine_id"] for entry in caller.get(OF_THE_POOL).json] == ["1165a9b6"]


def test_the_list_shows_every_machines_k3s_token_to_any_machine_token(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    caller.register(token="k3s-secret")
    caller.keepalive()
    neighbour = replace(caller, token=gateway.new_token())
    entry = neighbour.get(OF_THE_POOL).json[0]
    assert entry["state"]["token"] == "k3s-secret"
    assert entry["metrics"] == METRICS
    assert (entry["state"]["cpu"], entry["state"]["memory"], entry["state"]["gpu_count"]) == (8000, 16384, 1)


def test_the_list_is_of_one_provider_and_pool(caller: Caller) -> None:
    caller.register()
    caller.keepalive()
    for query in ("", "?pool_name=gpu", "?pool_name=other&provider_name=generic"):
        assert caller.get(LIST + query).json == []


def test_the_configuration_is_served_with_direct_redis_host_only(
    gateway: EmbeddedGateway, tailnet_gateway: EmbeddedGateway, caller: Caller
) -> None:
    assert gateway.state.config is not None
    assert caller.get(CONFIG).json == {"config": gateway.state.config.value}
    answer = Caller(tailnet_gateway.port, tailnet_gateway.new_token()).get(CONFIG)
    assert (answer.status, answer.message) == (500, "Unable to create remote config")


def test_machine_create_prints_a_command_with_the_guides_flags(gateway: EmbeddedGateway) -> None:
    machine = gateway.create_machine("gpu", "35dbe736")
    text = created_text(machine)
    assert "Created machine with ID: '35dbe736'" in text
    words = text.replace("\\\n", " ").split("sudo ./agent", 1)[1].split()
    assert words == [
        *("--token", f'"{machine.registration_token}"', "--machine-id", '"35dbe736"'),
        *("--tailscale-url", '""', "--tailscale-auth", '""'),
        *("--pool-name", '"gpu"', "--provider-name", '"generic"'),
    ]


def test_machine_list_has_the_clis_columns_and_shows_pending_machines(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    gateway.create_machine("gpu", "35dbe736")
    caller.register()
    caller.keepalive()
    text = list_text(gateway.machines(), float(gateway.machines()[0].created))
    header = next(line for line in text.splitlines() if "Last Keepalive" in line)
    assert [header.index(column) for column in COLUMNS] == sorted(header.index(c) for c in COLUMNS)
    pending = next(line.split() for line in text.splitlines() if "35dbe736" in line)
    assert pending == ["35dbe736", "-", "-", "A10G", "pending", "gpu", "just", "now", "Never", "-", "0"]
    ready = next(line.split() for line in text.splitlines() if "1165a9b6" in line)
    assert ready[:7] == ["1165a9b6", "8,000m", "16.00", "GiB", "A10G", "ready", "gpu"]
    assert ready[-2:] == ["v0.1.0", "1"]


def test_a_pending_machine_lives_an_hour(gateway: EmbeddedGateway) -> None:
    gateway.create_machine()
    gateway.advance(3599)
    assert [machine.status for machine in gateway.machines()] == ["pending"]
    gateway.advance(2)
    assert gateway.machines() == ()


def test_a_registered_machine_lives_300_seconds(gateway: EmbeddedGateway, caller: Caller) -> None:
    caller.register()
    gateway.advance(299)
    assert [machine.status for machine in gateway.machines()] == ["registered"]
    gateway.advance(2)
    assert gateway.machines() == ()


def test_a_ready_machine_lives_300_seconds_after_its_last_keepalive(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    caller.register()
    gateway.advance(100)
    caller.keepalive()
    gateway.advance(299)
    assert [machine.status for machine in gateway.machines()] == ["ready"]
    gateway.advance(2)
    assert gateway.machines() == ()


def test_registering_a_pending_machine_gives_it_300_seconds(gateway: EmbeddedGateway, caller: Caller) -> None:
    gateway.create_machine("gpu", caller.machine_id)
    caller.register()
    gateway.advance(301)
    assert gateway.machines() == ()
