"""Unknown keys in a cloud-config, which cloud-init would silently ignore.

`cloud-init schema` in Debian 12 and Ubuntu 22.04 accepts a misspelt top-level key, and the machine then boots without
what is below that key.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.text.describe import nearest, shown

HEADER = "#cloud-config"

# Top-level keys in cloud-init's schema-cloud-config-v1.json, from 22.4 (Debian 12) to 25.
KNOWN = frozenset(  # in alphabetical order, for comparison
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
    """Return the errors in a cloud-config, given as text and as parsed YAML: one sentence each."""
    errors = []
    if text.startswith("\ufeff"):
        errors.append(
            "begins with a byte order mark, with which cloud-init ignores the file; save it without one"
        )
    elif text.split("\n", 1)[0].rstrip() != HEADER:
        errors.append(f"the first line is not {HEADER}, without which cloud-init ignores the file; add it")
    if not isinstance(config, Mapping):
        return [*errors, "the rest is not a YAML mapping (NAME: VALUE lines); start again from the template"]
    errors += [_unknown(key, KNOWN, "cloud-config") for key in config if key not in KNOWN]
    files = config.get("write_files")
    for entry in files if isinstance(files, list) else ():
        if isinstance(entry, Mapping):
            errors += [_unknown(key, _FILE, "write_files") for key in entry if key not in _FILE]
    return errors


def written(config: object, path: str) -> str | None:
    """Return what a cloud-config writes into a file, or None. `problems` reports a wrong structure."""
    files = config.get("write_files") if isinstance(config, Mapping) else None
    for entry in files if isinstance(files, list) else ():
        if isinstance(entry, Mapping) and entry.get("path") == path and isinstance(entry.get("content"), str):
            return str(entry["content"])
    return None


def lines_before(text: str, content: str) -> int:
    """Return how many lines of a cloud-config precede the content of one of its files; 0 if that is not known."""
    first = content.removeprefix("\ufeff").split("\n", 1)[0].strip()
    numbers = [number for number, line in enumerate(text.split("\n")) if line.strip() == first]
    return numbers[0] if first and len(numbers) == 1 else 0


def _unknown(key: object, known: frozenset[str], where: str) -> str:
    near = nearest(str(key), sorted(known))
    hint = f"did you mean {near}?" if near else "remove it"
    return f"{shown(str(key))} is not a {where} key; cloud-init would silently ignore it; {hint}"
