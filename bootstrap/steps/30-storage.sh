#!/usr/bin/env bash
# Put directories that grow (k3s, kubelet, worker images, Docker) on the largest local scratch disk, if there is one.
# Directories that already contain data stay where they are.
# needs: tools
# deadline: 300
# fix: set BETA9_SCRATCH_DISK to another disk or directory, or to none
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/scratch.sh
. "$BETA9_BOOTSTRAP/lib/scratch.sh"
# shellcheck source=../lib/resume.sh
. "$BETA9_BOOTSTRAP/lib/resume.sh"

BOUND=() # directories whose data is on the scratch disk

main() {
  local kind location path
  read -r kind location <<<"$(find_scratch)"
  case $kind in
    mounted) SCRATCH=$location ;;
    disk) format_disk "$location" ;;
    formatted) SCRATCH=$SCRATCH_MOUNT ;;
    *) skip "no local scratch disk: data stays on the root file system" ;;
  esac
  [[ $SCRATCH != "$SCRATCH_MOUNT" ]] || mount_scratch
  say "data goes to $SCRATCH, $(free_mib "$SCRATCH") MiB free"
  own_tree "$SCRATCH/beta9-worker" 0711
  for path in rancher:/var/lib/rancher kubelet:/var/lib/kubelet images:/images docker:/var/lib/docker; do
    bind_data "$SCRATCH/beta9-worker/${path%%:*}" "${path##*:}"
  done
  survive_an_empty_disk
  start_mounts
}

# A scratch disk is empty again after the machine was stopped and started (local SSDs, EC2 instance storage). Then Docker
# and k3s must not start on the root disk instead, and the installer makes again what was there.
survive_an_empty_disk() {
  local each k3s=()
  ((${#BOUND[@]})) || return 0
  for each in "${BOUND[@]}"; do
    if [[ $each == */docker ]]; then needs_mounts docker "$each"; else k3s+=("$each"); fi
  done
  ((${#k3s[@]} == 0)) || needs_mounts k3s "${k3s[@]}"
  resume_without "${BOUND[@]}"
}

needs_mounts() { # needs_mounts SERVICE MOUNT_POINT…
  local service=$1
  shift
  put_file "$UNITS/$service.service.d/50-beta9-scratch.conf" 0644 mounts <<EOT
# Written by the Beta9 worker bootstrap.
[Unit]
RequiresMountsFor=$*
EOT
}

# format_disk DEVICE: check again that it is unused, since blank_disks did so a while ago.
format_disk() {
  local reason
  if reason=$(in_use "$1"); then fail "$1 is no longer unused: $reason"; fi
  say "formatting $1, which is blank"
  # Find it by its label: device names can change between boots.
  record run "device=\$(blkid -L $SCRATCH_LABEL) || exit 0; ! findmnt --source \"\$device\" >/dev/null && wipefs --all --quiet \"\$device\" && udevadm settle"
  mkfs.ext4 -q -m 0 -L "$SCRATCH_LABEL" "$1"
  udevadm settle
  changed "created a file system on $1"
  SCRATCH=$SCRATCH_MOUNT
}

mount_scratch() {
  put_dir "$SCRATCH_MOUNT"
  # nofail: the machine must still boot if the scratch disk is missing.
  put_mount "/dev/disk/by-label/$SCRATCH_LABEL" "${SCRATCH_MOUNT#"$BETA9_ROOT"}" "Type=ext4
Options=noatime,nofail" ''
  start_mounts
}

# bind_data SOURCE TARGET: use a bind mount, so that programs and people find the data at its usual path.
bind_data() {
  local source=$1 target=$BETA9_ROOT$2
  if [[ ! -e $UNITS/$(systemd-escape --path --suffix=mount "$2") ]] && ! is_empty "$target"; then
    say "$2 already contains data and stays where it is"
    return 0
  fi
  BOUND+=("$2")
  [[ -d $source ]] || mkdir -m 0711 "$source"
  put_dir "$target"
  put_mount "$source" "$2" "Type=none
Options=bind" "RequiresMountsFor=$SCRATCH
AssertPathIsMountPoint=$SCRATCH
After=dlami-nvme.service
Before=docker.service k3s.service"
}

is_empty() {
  if [[ $1 == */docker ]] && [[ -d $1 ]]; then stop_empty_docker; else [[ ! -e $1 || -z $(ls -A "$1") ]]; fi
}

# A machine image with Docker preinstalled has files there. Without containers, images or volumes nothing is worth
# keeping: stop Docker, so that the scratch disk can be mounted over it.
stop_empty_docker() {
  unit_is active docker || return 1
  [[ -z $(docker ps -aq && docker images -q && docker volume ls -q) ]] || return 1
  systemctl stop docker.socket docker.service
}

main "$@"
