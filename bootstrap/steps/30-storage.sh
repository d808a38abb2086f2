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

UNITS=$BETA9_ROOT/etc/systemd/system

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
}

# format DEVICE: blank_disks has seen that it is nobody's; seen again, because that was some time ago.
format() {
  local why
  if why=$(in_use "$1"); then fail "$1 is no longer free: $why"; fi
  say "formatting $1, which is blank"
  record run "wipefs --all --quiet '$1' # made by the bootstrap"
  mkfs.ext4 -q -m 0 -L "$SCRATCH_LABEL" "$1"
  udevadm settle
  changed "made a file system on $1"
  SCRATCH=$SCRATCH_MOUNT
}

mount_scratch() {
  local unit
  unit=$(systemd-escape --path --suffix=mount "${SCRATCH_MOUNT#"$BETA9_ROOT"}")
  put_dir "$SCRATCH_MOUNT"
  # nofail: a machine whose scratch disk is gone must still boot.
  put_mount "$unit" "/dev/disk/by-label/$SCRATCH_LABEL" "$SCRATCH_MOUNT" "Type=ext4
Options=noatime,nofail" ''
}

# place_data SOURCE TARGET: a bind mount, so that every path stays what programs and people expect.
place_data() {
  local source=$1 target=$BETA9_ROOT$2 unit
  unit=$(systemd-escape --path --suffix=mount "$2")
  if [[ ! -e $UNITS/$unit ]] && ! empty "$target"; then
    say "$2 holds data already and stays where it is"
    return 0
  fi
  [[ -d $source ]] || mkdir -m 0711 "$source"
  put_dir "$target"
  put_mount "$unit" "$source" "$2" "Type=none
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

# put_mount UNIT WHAT WHERE TYPE_AND_OPTIONS UNIT_LINES
put_mount() {
  put_file "$UNITS/$1" 0644 "mount-$1" <<EOT
# Written by the Beta9 worker bootstrap.
[Unit]
Description=Data of the Beta9 worker
$5

[Mount]
What=$2
Where=$3
$4

[Install]
WantedBy=multi-user.target
EOT
  if unit_is active "$1" && ! is_pending "mount-$1"; then return 0; fi
  record unit "$1"
  systemctl daemon-reload
  systemctl enable "$1"
  systemctl restart "$1"
  settled "mount-$1"
}

main "$@"
