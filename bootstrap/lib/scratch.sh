# shellcheck shell=bash
# Choose the local disk for images and containers; steps/30-storage.sh formats and mounts it.
#
# A disk with a partition, a file system or any other signature that the bootstrap did not create is never chosen, nor
# is one with any data at its start: a disk can be in use without a signature. Nor is one that is not known to be local:
# several clouds attach network volumes as NVMe disks, too, and somebody pays for those and wants their data kept.

# shellcheck disable=SC2034 # used by the storage step
SCRATCH_MOUNT=$BETA9_ROOT/mnt/beta9-worker
SCRATCH_LABEL=beta9-scratch
UNITS=$BETA9_ROOT/etc/systemd/system
DLAMI=$BETA9_ROOT/opt/dlami/nvme # where AWS's GPU images mount instance storage

# Models, in lower case, of the disks inside the machines of Amazon, Google and Azure. Their network volumes have others:
# "Amazon Elastic Block Store", "nvme_card-pd", "MSFT NVMe Accelerator v1.0". No list of volumes can be complete.
# QEMU's is that of somebody's own virtual machine: clouds that run QEMU attach their volumes by virtio.
CLOUD_DISKS='amazon ec2 nvme instance storage|nvme_card[0-9]*|microsoft nvme direct disk( v[0-9]+)?|qemu nvme ctrl'
# How the models of physical drives begin: those of bare-metal machines, and of clouds that pass whole drives through.
DRIVES='samsung|mz[a-z0-9]{4}|intel (ssd|memp)|ssdp|solidigm|micron|mtfd|crucial|ct[0-9]+p|kioxia|kcd|kcm|kxd|kxg|toshiba'
DRIVES+='|wd[cs _]|wus|hgst|sandisk|sk ?hynix|hfs|seagate|xp[0-9]+|kingston|adata|corsair|sabrent|dell (ent|dc) nvme'

# find_scratch: print "mounted PATH", "disk DEVICE" (blank, to be formatted), "formatted DEVICE" (by an earlier run), or
# nothing.
find_scratch() {
  local wanted device
  wanted=$(setting BETA9_SCRATCH_DISK)
  [[ $wanted != none ]] || return 0
  case $wanted in
    '' | /dev/*)
      device=$(blkid -L "$SCRATCH_LABEL" 2>/dev/null || true)
      if [[ -n $device && (-z $wanted || $device -ef $wanted) ]]; then printf 'formatted %s' "$device" && return 0; fi
      if [[ -z $wanted ]] && mountpoint -q "$DLAMI"; then printf 'mounted %s' "$DLAMI" && return 0; fi
      ;;
    /*) printf 'mounted %s' "$wanted" && return 0 ;;
  esac
  device=$(blank_disks "$wanted" | sort -k2,2nr | awk 'NR == 1 { print $1 }')
  if [[ -n $device ]]; then printf 'disk %s' "$device"; fi
}

# scratch_mib: print its free space, or the size of a disk that will be formatted.
scratch_mib() {
  local kind location
  read -r kind location <<<"$(find_scratch)"
  case $kind in
    mounted) free_mib "$location" ;;
    disk | formatted) printf %s $(($(lsblk -bdno SIZE "$location") / 1048576)) ;;
    *) printf 0 ;;
  esac
}

# blank_disks [DEVICE]: print unused whole NVMe disks that are local, or only DEVICE if unused, as "DEVICE BYTES" lines.
blank_disks() {
  local name type size read_only model reason
  while IFS=' ' read -r name type size read_only model; do
    if [[ -n $1 ]]; then
      [[ $name == "$(realpath "$1")" ]] || continue
    else
      [[ $name == */nvme* ]] || continue
    fi
    [[ $type == disk && $read_only == 0 ]] || continue
    if reason=$(in_use "$name"); then
      say "$name is not used for data: $reason"
    elif [[ -z $1 ]] && ! is_local "$name" "$model"; then
      say "$name is not used for data: nothing shows that it is a local disk and not a network volume (model:" \
        "$(printf '%b' "${model:-unknown}")); set BETA9_SCRATCH_DISK=$name to use it anyway"
    else
      printf '%s %s\n' "$name" "$size"
    fi
  done < <(lsblk -bdnr -o NAME,TYPE,SIZE,RO,MODEL -p)
}

# is_local DEVICE MODEL: whether the disk is known to be in this machine. MODEL is escaped as by `lsblk --raw`.
is_local() {
  local model device=$BETA9_ROOT/sys/block/${1##*/}/device
  # An NVMe disk over a network may have the model of the drive at its other end. With several paths to a disk, its
  # device has one controller for each.
  ! grep -qsvx pcie "$device"/transport "$device"/nvme*/transport || return 1
  model=$(printf '%b' "$2" | tr '[:upper:]' '[:lower:]' | sed 's/^ *//; s/ *$//')
  [[ $model =~ ^($CLOUD_DISKS)$ || $model =~ ^($DRIVES) ]]
}

# in_use DEVICE: print the reason and succeed if the disk may contain data; else fail.
in_use() {
  local below signature
  below=$(lsblk -nro NAME "$1" | tail -n +2 | paste -sd' ')
  if [[ -n $below ]]; then echo "it has partitions or is part of $below" && return; fi
  if ! signature=$(wipefs --no-act --parsable "$1" 2>&1); then echo "it cannot be read: ${signature%%$'\n'*}" && return; fi
  signature=$(sed '/^#/d' <<<"$signature")
  if [[ -n $signature ]]; then echo "it has a signature (${signature##*,})" && return; fi
  if lsblk -nro MOUNTPOINTS "$1" | grep -q .; then echo "it is mounted" && return; fi
  # Require 16 MiB of zeros: raw databases have no signature. A disk named in BETA9_SCRATCH_DISK is exempt.
  if [[ -z $(setting BETA9_SCRATCH_DISK) ]] && ! cmp -s -n 16777216 "$1" /dev/zero; then
    echo "it is not blank; set BETA9_SCRATCH_DISK=$1 to use it anyway" && return
  fi
  return 1
}

# put_mount WHAT WHERE TYPE_AND_OPTIONS UNIT_LINES: write a mount unit; start_mounts then mounts all of them.
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
