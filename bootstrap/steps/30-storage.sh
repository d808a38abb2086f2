#!/usr/bin/env bash
# Puts what grows (k3s, kubelet, worker images, Docker) on the largest local scratch disk, where there is one. What
# already holds data is left where it is.
# needs: tools
# deadline: 300
# fix: set BETA9_SCRATCH_DISK to another disk or directory, or to none
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/scratch.sh
. "$BETA9_BOOTSTRAP/lib/scratch.sh"

main() {
  local kind place path
  read -r kind place <<<"$(scratch_place)"
  case $kind in
    mounted) SCRATCH=$place ;;
    disk) format "$place" ;;
    ours) SCRATCH=$SCRATCH_MOUNT ;;
    *) skip "no local scratch disk; data stays on the root file system" ;;
  esac
  [[ $SCRATCH != "$SCRATCH_MOUNT" ]] || mount_scratch
  say "data goes to $SCRATCH, $(free_mib "$SCRATCH") MiB free"
  own_tree "$SCRATCH/beta9-worker" 0711
  for path in rancher:/var/lib/rancher kubelet:/var/lib/kubelet images:/images docker:/var/lib/docker; do
    place_data "$SCRATCH/beta9-worker/${path%%:*}" "${path##*:}"
  done
  start_mounts
}

# format DEVICE: blank_disks has seen that it is nobody's; seen again, because that was some time ago.
format() {
  local why
  if why=$(in_use "$1"); then fail "$1 is no longer free: $why"; fi
  say "formatting $1, which is blank"
  # By its label: disks change their names from boot to boot.
  record run "device=\$(blkid -L $SCRATCH_LABEL) || exit 0; ! findmnt --source \"\$device\" >/dev/null && wipefs --all --quiet \"\$device\""
  mkfs.ext4 -q -m 0 -L "$SCRATCH_LABEL" "$1"
  udevadm settle
  changed "made a file system on $1"
  SCRATCH=$SCRATCH_MOUNT
}

mount_scratch() {
  put_dir "$SCRATCH_MOUNT"
  # nofail: a machine whose scratch disk is gone must still boot.
  put_mount "/dev/disk/by-label/$SCRATCH_LABEL" "${SCRATCH_MOUNT#"$BETA9_ROOT"}" "Type=ext4
Options=noatime,nofail" ''
  start_mounts
}

# place_data SOURCE TARGET: a bind mount, so that every path stays what programs and people expect.
place_data() {
  local source=$1 target=$BETA9_ROOT$2
  if [[ ! -e $UNITS/$(systemd-escape --path --suffix=mount "$2") ]] && ! empty "$target"; then
    say "$2 holds data already and stays where it is"
    return 0
  fi
  [[ -d $source ]] || mkdir -m 0711 "$source"
  put_dir "$target"
  put_mount "$source" "$2" "Type=none
Options=bind" "RequiresMountsFor=$SCRATCH
AssertPathIsMountPoint=$SCRATCH
After=dlami-nvme.service
Before=docker.service k3s.service"
}

empty() {
  if [[ $1 == */docker ]] && [[ -d $1 ]]; then empty_docker; else [[ ! -e $1 || -z $(ls -A "$1") ]]; fi
}

# An image that brings Docker along has files there, and nothing in them worth keeping.
empty_docker() {
  unit_is active docker || return 1
  [[ -z $(docker ps -aq && docker images -q && docker volume ls -q) ]] || return 1
  systemctl stop docker.socket docker.service
}

main "$@"
