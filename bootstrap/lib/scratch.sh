# shellcheck shell=bash
# Which local disk images and containers go to. Decides; steps/30-storage.sh acts.
#
# Never one with a partition, a file system or any other signature that the bootstrap did not make, and never one that
# is not blank: a disk may be somebody's without saying so.

# shellcheck disable=SC2034 # the step mounts there
SCRATCH_MOUNT=$BETA9_ROOT/mnt/beta9-worker
SCRATCH_LABEL=beta9-scratch
UNITS=$BETA9_ROOT/etc/systemd/system
DLAMI=$BETA9_ROOT/opt/dlami/nvme # where AWS's GPU images mount their instance storage

# scratch_place: prints "mounted PATH", "disk DEVICE" (blank, to be formatted), "ours DEVICE" (formatted before), or nothing.
scratch_place() {
  local wanted device
  wanted=$(setting BETA9_SCRATCH_DISK)
  case $wanted in
    none) return 0 ;;
    /dev/*) ;;
    '')
      device=$(blkid -L "$SCRATCH_LABEL" 2>/dev/null || true)
      if [[ -n $device ]]; then printf 'ours %s' "$device" && return 0; fi
      if mountpoint -q "$DLAMI"; then printf 'mounted %s' "$DLAMI" && return 0; fi
      ;;
    /*) printf 'mounted %s' "$wanted" && return 0 ;;
  esac
  device=$(blank_disks "$wanted" | sort -k2,2nr | awk 'NR == 1 { print $1 }')
  if [[ -n $device ]]; then printf 'disk %s' "$device"; fi
}

# scratch_mib: how much room it has.
scratch_mib() {
  local kind place
  read -r kind place <<<"$(scratch_place)"
  case $kind in
    mounted) free_mib "$place" ;;
    disk | ours) printf %s $(($(lsblk -bdno SIZE "$place") / 1048576)) ;;
    *) printf 0 ;;
  esac
}

# blank_disks [DEVICE]: whole NVMe disks, or only DEVICE, that nobody uses: "DEVICE BYTES" a line.
blank_disks() {
  local name type size read_only model why
  while IFS=' ' read -r name type size read_only model; do
    if [[ -n $1 ]]; then
      [[ $name == "$(realpath "$1")" ]] || continue
    else
      # A volume of AWS's block store is an NVMe disk, too, and somebody attached it for something.
      [[ $name == */nvme* && $model != *Elastic*Block*Store* ]] || continue
    fi
    [[ $type == disk && $read_only == 0 ]] || continue
    if why=$(in_use "$name"); then
      say "$name is not taken for data: $why"
      continue
    fi
    printf '%s %s\n' "$name" "$size"
  done < <(lsblk -bdnr -o NAME,TYPE,SIZE,RO,MODEL -p)
}

# in_use DEVICE: succeeds, saying why, if anything speaks for it being somebody's.
in_use() {
  local below signature
  below=$(lsblk -nro NAME "$1" | tail -n +2 | paste -sd' ')
  if [[ -n $below ]]; then echo "it has partitions or is part of $below" && return; fi
  if ! signature=$(wipefs --no-act --parsable "$1" 2>&1); then echo "it cannot be read: ${signature%%$'\n'*}" && return; fi
  signature=$(sed '/^#/d' <<<"$signature")
  if [[ -n $signature ]]; then echo "it has a signature (${signature##*,})" && return; fi
  if lsblk -nro MOUNTPOINTS "$1" | grep -q .; then echo "it is mounted" && return; fi
  # 16 MiB of zeros: a raw database or a wiped disk has no signature, either. Naming it in BETA9_SCRATCH_DISK is enough.
  if [[ -z $(setting BETA9_SCRATCH_DISK) ]] && ! cmp -s -n 16777216 "$1" /dev/zero; then
    echo "it is not blank; BETA9_SCRATCH_DISK=$1 takes it all the same" && return
  fi
  return 1
}

# put_mount WHAT WHERE TYPE_AND_OPTIONS UNIT_LINES: writes the mount unit; start_mounts mounts what was written.
MOUNTS=()
put_mount() {
  local unit
  unit=$(systemd-escape --path --suffix=mount "$2")
  MOUNTS+=("$unit")
  put_file "$UNITS/$unit" 0644 mounts <<EOT
# Written by the Beta9 worker bootstrap.
[Unit]
Description=Data of the Beta9 worker
$4

[Mount]
What=$1
Where=$2
$3

[Install]
WantedBy=multi-user.target
EOT
}

start_mounts() {
  local each
  if is_pending mounts; then
    enable_units "${MOUNTS[@]}"
    systemctl restart "${MOUNTS[@]}"
    settled mounts
  fi
  for each in "${MOUNTS[@]}"; do
    unit_is active "$each" || systemctl start "$each"
  done
  MOUNTS=()
}
