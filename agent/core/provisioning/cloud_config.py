"""What cloud-init would silently pass over: cloud-config keys that it does not know.

`cloud-init schema` of the versions in Debian 12 and Ubuntu 22.04 calls a misspelt top-level key valid, and the
machine then boots without what stood below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.core.text.describe import nearest, shown

HEADER = "#cloud-config"

# The top-level names of cloud-init's own schema-cloud-config-v1.json, of 22.4 (Debian 12) up to 25.
KNOWN = frozenset(  # one after the other, as a person would compare them
    """
    allow_public_ssh_keys ansible apk_repos apt apt_pipelining apt_reboot_if_required apt_update apt_upgrade
    authkey_hash autoinstall bootcmd byobu_by_default ca-certs ca_certs chef chpasswd cloud_config_modules
    cloud_final_modules cloud_init_modules create_hostname_file device_aliases disable_ec2_metadata disable_root
    disable_root_opts disk_setup drivers fan final_message fqdn fs_setup groups growpart grub-dpkg grub_dpkg hostname
    keyboard landscape launch-index locale locale_configfile lxd manage_etc_hosts manage_resolv_conf mcollective
    merge_how merge_type migrate mount_default_fields mounts no_ssh_fingerprints ntp output
    package_reboot_if_required package_update package_upgrade packages password phone_home power_state
    prefer_fqdn_over_hostname preserve_hostname puppet random_seed reporting resize_rootfs resolv_conf
    rh_subscription rsyslog runcmd salt_minion snap spacewalk ssh ssh_authorized_keys ssh_deletekeys
    ssh_fp_console_blacklist ssh_genkeytypes ssh_import_id ssh_key_console_blacklist ssh_keys ssh_publish_hostkeys
    ssh_pwauth ssh_quiet_keygen swap system_info timezone ubuntu_advantage ubuntu_pro updates user users vendor_data
    version wireguard write_files yum_repo_dir yum_repos zypper
    """.split()  # noqa: SIM905
)
_FILE = frozenset({"path", "content", "owner", "permissions", "encoding", "append", "defer", "source"})


def problems(text: str, config: object) -> list[str]:
    """What is wrong with a cloud-config, given as its text and as YAML has read it: one sentence each."""
    found = []
    if text.split("\n", 1)[0].rstrip() != HEADER:
        found.append(
            f"the first line is not {HEADER}: cloud-init would not take it for its own; put it there"
        )
    if not isinstance(config, Mapping):
        return [*found, "what follows is no list of NAME: VALUE lines in YAML; take the template anew"]
    found += [_unknown(key, KNOWN, "cloud-config") for key in config if key not in KNOWN]
    files = config.get("write_files")
    for entry in files if isinstance(files, list) else ():
        if isinstance(entry, Mapping):
            found += [_unknown(key, _FILE, "write_files") for key in entry if key not in _FILE]
    return found


def written(config: object, path: str) -> str | None:
    """What a cloud-config writes into a file, or None. Problems of its form are those of `problems`."""
    files = config.get("write_files") if isinstance(config, Mapping) else None
    for entry in files if isinstance(files, list) else ():
        if isinstance(entry, Mapping) and entry.get("path") == path and isinstance(entry.get("content"), str):
            return str(entry["content"])
    return None


def _unknown(key: Any, known: frozenset[str], where: str) -> str:
    near = nearest(str(key), sorted(known))
    hint = f"did you mean {near}?" if near else "take it out"
    return f"{shown(str(key))} is no key of {where} and cloud-init would pass over it without a word; {hint}"
