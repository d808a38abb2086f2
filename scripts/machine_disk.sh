#!/usr/bin/env bash
# Builds the disk of the virtual machine that tests/machine/ boots: Debian as in a cloud's image, without this project.
#
#   scripts/machine_disk.sh DIRECTORY     writes disk.raw (sparse), vmlinuz and initrd.img
#
# It takes a few minutes as root, and needs only Debian's packages. Anything irrelevant that would cost an emulated CPU
# minutes is left out: package manager timers, an initrd for all hardware, AppArmor profiles of absent programs,
# cloud-init modules for other tools, an RSA host key.
set -Eeuo pipefail

SUITE=bookworm
SIZE=40G # sparse: about a gigabyte is used
PACKAGES=(
    systemd-sysv dbus udev linux-image-cloud-amd64 cloud-init openssh-server sudo docker.io apparmor iptables nftables
    ca-certificates curl gnupg iproute2 kmod pciutils procps python3 zstd
)
MASKED=(
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    apparmor.service # AppArmor itself stays enabled in the kernel, with Docker's profile
)
# Modules of cloud-init: `locale` needs a package that is not installed; the others have nothing to do here.
UNUSED=(
    locale migrator growpart disk_setup rsyslog snap keyboard grub-dpkg apt-pipelining ntp timezone disable-ec2-metadata
    byobu fan landscape lxd puppet chef mcollective salt-minion reset_rmc refresh_rmc_and_interface rightscale_userdata
    install-hotplug
)
MODULES=(virtio_pci virtio_blk ext4)

main() {
    if [[ ${1:-} == --hook ]]; then
        "hook_$2" "$3"
        return
    fi
    local directory=${1:?the directory to create}
    cd "$(dirname "$0")/.."
    mkdir -p "$(dirname "$directory")"
    directory=$(realpath "$directory")
    work=$(mktemp -d "$directory.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    echo "Building the virtual machine's disk; this takes a few minutes, once"
    root_file_system "$work/root"
    mkdir "$work/out"
    cp -L "$work/root/vmlinuz" "$work/root/initrd.img" "$work/out/"
    nice mke2fs -q -t ext4 -L root -E lazy_itable_init=1 -d "$work/root" "$work/out/disk.raw" "$SIZE"
    # Replace the directory only now, so that an interrupted build leaves no truncated disk.
    rm -rf -- "$directory"
    mv "$work/out" "$directory"
}

root_file_system() {
    local hook="bash '$PWD/scripts/machine_disk.sh' --hook"
    if ! nice mmdebstrap --variant=minbase --include="$(IFS=,; echo "${PACKAGES[*]}")" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --essential-hook="$hook early \"\$1\"" --customize-hook="$hook late \"\$1\"" \
        "$SUITE" "$1" >"$work/log" 2>&1; then
        tail -40 "$work/log" >&2
        return 1
    fi
}

# Runs before the kernel's package builds its initrd.
hook_early() {
    mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
    echo MODULES=list >"$1/etc/initramfs-tools/conf.d/machine.conf"
    printf '%s\n' "${MODULES[@]}" >"$1/usr/share/initramfs-tools/modules.d/machine"
}

# Removes what machines must not share, and configures root file system, network and services.
hook_late() {
    : >"$1/etc/machine-id"
    rm -f "$1"/etc/ssh/ssh_host_*
    echo 'LABEL=root / ext4 defaults,noinit_itable 0 1' >"$1/etc/fstab"
    printf '%s\n' 'datasource_list: [NoCloud]' 'ssh_genkeytypes: [ed25519, ecdsa]' \
        >"$1/etc/cloud/cloud.cfg.d/90-machine.cfg"
    sed -i -E "/^ - ($(IFS='|'; echo "${UNUSED[*]}"))\$/d" "$1/etc/cloud/cloud.cfg"
    # For Go programs: on an emulated CPU, signals and garbage collection are the most expensive, as is the runtime
    # monitor that wakes every 20 microseconds (a third of the time that Docker needed to load an image).
    mkdir -p "$1/etc/systemd/system.conf.d"
    printf '%s\n' '[Manager]' 'DefaultEnvironment=GOGC=400 GODEBUG=asyncpreemptoff=1' 'TimerSlackNSec=2ms' \
        >"$1/etc/systemd/system.conf.d/machine.conf"
    echo 'nameserver 10.0.2.3' >"$1/etc/resolv.conf" # QEMU's DNS server
    ln -sf /lib/systemd/system/multi-user.target "$1/etc/systemd/system/default.target"
    chroot "$1" systemctl --quiet enable systemd-networkd.service
    chroot "$1" systemctl --quiet mask "${MASKED[@]}"
}

main "$@"
