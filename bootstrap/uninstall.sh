#!/usr/bin/env bash
# Takes back what the bootstrap did to this machine, by its record, newest first, and nothing else.
#
#   sudo bootstrap/uninstall.sh
#
#   --dry-run      say what would be taken back
#   --purge        also what the bootstrap did not write itself: /etc/beta9-worker (worker.env, secrets),
#                  /opt/beta9-worker (the trees it was run from), and containers and volumes that others made in the
#                  Docker or on the disk that goes (without --purge these stop the uninstaller before it begins)
#
# Kept, and named: files that somebody has changed since, directories with other things in them, packages that others
# need by now. Work that runs here is ended. Exit 0: nothing of it is left but what was named; 1: something failed.
set -Eeuo pipefail
export LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# A machine that is busy with its first boot can keep systemctl waiting for longer than the 25 s that it gives itself.
export SYSTEMD_BUS_TIMEOUT=${SYSTEMD_BUS_TIMEOUT:-300}

BETA9_BOOTSTRAP=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
BETA9_ROOT=${BETA9_ROOT:-}
dry_run='' purge='' failures=0
for part in log settings record apt host; do
  # shellcheck source=/dev/null
  . "$BETA9_BOOTSTRAP/lib/$part.sh"
done

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

main() {
  local line packages=()
  while (($#)); do
    case $1 in
      --dry-run) dry_run=yes ;;
      --purge) purge=yes ;;
      --help | -h) usage; exit 0 ;;
      *) printf 'uninstall.sh: %s is not an option\n' "$1" >&2; usage >&2; exit 2 ;;
    esac
    shift
  done
  ((EUID == 0)) || { say "this changes the system: run it as root (sudo $0)"; exit 1; }
  [[ -f $BETA9_STATE/record ]] || { say "there is no record of an installation ($BETA9_STATE/record)"; exit 0; }
  exec 9>>"$BETA9_STATE/installer.lock"
  flock -n 9 || { say "the installer is at work; try again when it has ended"; exit 1; }
  look_for_others || [[ -n $dry_run ]] || exit 1
  # The agent first: it drains, and its container holds its image.
  if [[ -z $dry_run ]] && unit_is active beta9-worker.service; then systemctl stop beta9-worker.service; fi
  while IFS= read -r line; do
    # Packages that were recorded one after another go together: they need each other.
    if [[ $line == package$'\t'* ]]; then packages+=("${line#*$'\t'}") && continue; fi
    purge_packages
    undo_line "$line"
  done < <(tac "$BETA9_STATE/record")
  purge_packages
  last
}

DOCKER_MOUNT=var-lib-docker.mount

# look_for_others: fails, saying so, if Docker's data goes and somebody else has containers or volumes in it.
look_for_others() {
  local theirs
  [[ -z $purge ]] || return 0
  command -v docker >/dev/null || return 0 # an installation that did not get that far
  recorded unit "$DOCKER_MOUNT" || recorded tree "$BETA9_ROOT/var/lib/docker" || return 0
  if ! theirs=$(docker ps --all --format 'container {{.Names}}' && docker volume ls --format 'volume {{.Name}}'); then
    say "Docker does not answer, and its data goes; start it to see what is in there, or add --purge to remove all of it"
    return 1
  fi
  theirs=$(grep -vxF 'container beta9-worker' <<<"$theirs" | paste -sd, | sed 's/,/, /g')
  [[ -n $theirs ]] || return 0
  say "Docker's data goes, and with it: $theirs; move these away first, or add --purge to remove them, too"
  return 1
}

undo_line() {
  local kind first second
  IFS=$'\t' read -r kind first second <<<"$1"
  if [[ -n $dry_run ]]; then
    say "would undo: $kind $first"
    return 0
  fi
  "undo_$kind" "$first" "$second" || { say "could not undo: $kind $first"; failures=$((failures + 1)); }
}

undo_file() {
  [[ -f $1 ]] || return 0
  # An older line of the record for the same file may know another sum; the newest, which comes first, decides.
  if [[ -n ${seen[$1]:-} ]]; then return 0; fi
  seen[$1]=yes
  if [[ $(sha256sum <"$1") != "$2 "* ]]; then
    say "kept: $1 was changed since"
    return 0
  fi
  rm -f "$1"
}
declare -A seen=()

undo_original() {
  if [[ -e $1 ]]; then
    say "kept: $1 was changed since; what was there before is in $BETA9_STATE/$2"
    keep_state=yes
    return 0
  fi
  mkdir -p "$(dirname "$1")" # a program's own uninstaller may have taken it along
  mv "$BETA9_STATE/$2" "$1"
  say "put back $1"
}
keep_state=''

undo_dir() {
  [[ -d $1 ]] || return 0
  # What --purge removes as a whole goes last.
  [[ -z $purge || $1 != "$BETA9_ROOT"/@(etc|opt)/beta9-worker?(/*) ]] || return 0
  rmdir "$1" 2>/dev/null || say "kept: $1 is not empty"
}

undo_tree() { rm -rf --one-file-system "$1"; }
undo_link() { [[ $(readlink "$1" 2>/dev/null) != "$2" ]] || rm -f "$1"; }
undo_hold() { apt-mark unhold "$1" >/dev/null; }

# What a program says while it undoes its part is of interest only where it fails.
undo_run() {
  local said
  said=$(bash -c "$1" </dev/null 2>&1) || { printf '%s\n' "$said" >&2 && return 1; }
}

undo_unit() {
  local users=() each
  if [[ $1 == "$DOCKER_MOUNT" ]]; then
    # Docker works on what this shows it, and afterwards on what was there before us.
    for each in docker.socket docker.service; do
      if unit_is active "$each"; then users+=("$each"); fi
    done
  fi
  systemctl stop "${users[@]}" "$1" 2>/dev/null || true # it may be gone already
  systemctl disable --quiet "$1" 2>/dev/null || true
  ((${#users[@]} == 0)) || systemctl start "${users[@]}"
  ! unit_is active "$1"
}

# purge_packages: those collected so far, less what others need by now.
purge_packages() {
  ((${#packages[@]})) || return 0
  local going=() each extra
  for each in "${packages[@]}"; do
    if installed "$each"; then going+=("$each"); fi
  done
  packages=()
  ((${#going[@]})) || return 0
  extra=$(apt_get --simulate purge "${going[@]}" | awk '$1 == "Purg" || $1 == "Remv" { print $2 }' | sort -u |
    comm -23 - <(printf '%s\n' "${going[@]}" | sort))
  if [[ -n $extra ]]; then
    say "kept: ${going[*]}, because $(paste -sd' ' <<<"$extra") would go with them"
  elif [[ -n $dry_run ]]; then
    say "would purge: ${going[*]}"
  else
    apt_get purge "${going[@]}" || { say "could not purge ${going[*]}"; failures=$((failures + 1)); }
  fi
}

last() {
  [[ -z $dry_run ]] || exit 0
  systemctl daemon-reload
  systemctl reset-failed 'beta9-worker*' 2>/dev/null || true # none may have failed
  if ((failures)); then
    say "$failures things could not be undone; mend them and run this again ($BETA9_STATE/record is kept)"
    exit 1
  fi
  if [[ -n $keep_state ]]; then
    mv "$BETA9_STATE/originals" "$BETA9_ROOT/var/lib/beta9-worker-originals"
    say "what was there before is now in $BETA9_ROOT/var/lib/beta9-worker-originals"
  fi
  rm -rf "$BETA9_ROOT/var/lib/beta9-worker"
  if [[ -n $purge ]]; then rm -rf "$BETA9_ROOT/etc/beta9-worker" "$BETA9_ROOT/opt/beta9-worker"; fi
  for each in "$BETA9_ROOT"/etc/beta9-worker "$BETA9_ROOT"/opt/beta9-worker; do
    [[ ! -d $each ]] || say "kept: $each (--purge removes it)"
  done
  say "the bootstrap's work is undone"
}

main "$@"
