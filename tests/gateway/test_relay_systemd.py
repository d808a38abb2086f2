"""The relay's unit under a real systemd, with all that it takes away from the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.systemd_host import boot, why_not

pytestmark = [
    pytest.mark.gateway,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

SCENARIO = r"""
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
ssh=/run/test-ssh user=beta9-relay
mkdir -p /run/sshd $ssh
ssh-keygen -q -t ed25519 -N "" -f $ssh/host_key
printf '%s\n' "Include $ssh/sshd_config.d/*.conf" "HostKey $ssh/host_key" "PidFile $ssh/pid" >$ssh/sshd_config
setup() { bash /repository/bootstrap/gateway/setup.sh --sshd-config $ssh/sshd_config --relay "$@"; }
until_true() { for _ in $(seq 300); do "$@" && return; sleep 0.1; done; return 1; }
healthy() { (exec 3<>/dev/tcp/127.0.0.1/9465) 2>/dev/null; }
main_pid() { systemctl show -p MainPID --value $user; }
another() { [[ $(main_pid) != "$1" ]] && healthy; }
verdict() { echo "$1=$(awk -v name="$1" '$2 == name { print $1 }' /run/check)"; }
ruled() { iptables-save | grep -q beta9-relay || nft list table ip beta9_relay >/dev/null 2>&1; }

setup --names beta9.tailnet.example; echo "setup=$?"
until_true healthy; echo "healthy=$?"
pid=$(main_pid)
echo "user=$(stat -c %U /proc/$pid)"
echo "capabilities=$(sed -n 's/^CapEff:\t//p' /proc/$pid/status)"
echo "seccomp=$(sed -n 's/^Seccomp:\t//p' /proc/$pid/status)"
python3 -S -E -B /repository/bootstrap/gateway/check.py --sshd-config $ssh/sshd_config >/run/check
for name in relay relay-rules relay-dial names; do verdict $name; done

for table in raw mangle filter; do iptables -t $table -F; done
nft flush ruleset
until_true ruled; echo "rules_are_back=$?"
nft flush ruleset; systemctl reload $user; ruled; echo "rules_after_reload=$?"

kill -KILL "$pid"
until_true another "$pid"; echo "back_after_kill=$?"
before=$(main_pid)
setup; echo "again=$?"
echo "same_process=$([[ $before == "$(main_pid)" ]] && echo yes)"

setup --remove; echo "removed=$?"
systemctl is-active --quiet $user; echo "active=$?"
ruled; echo "rules_left=$?"
ls -d /usr/local/lib/$user /etc/$user /etc/systemd/system/$user.service 2>/dev/null
getent passwd $user; echo "user_left=$?"
"""


def test_under_systemd_the_relay_runs_confined_comes_back_and_goes(tmp_path: Path) -> None:
    found = boot(tmp_path, SCENARIO)
    assert found == {
        "setup": "0",
        "healthy": "0",
        "user": "beta9-relay",
        "capabilities": "0000000000001000",
        "seccomp": "2",
        "relay": "ok",
        "relay-rules": "ok",
        "relay-dial": "ok",
        "names": "ok",
        "rules_are_back": "0",
        "rules_after_reload": "0",
        "back_after_kill": "0",
        "again": "0",
        "same_process": "yes",
        "removed": "0",
        "active": "3",
        "rules_left": "1",
        "user_left": "2",
    }, (tmp_path / "errors").read_text()
