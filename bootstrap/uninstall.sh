#!/usr/bin/env bash
# Undoes what the bootstrap recorded that it did to this machine, newest first, and nothing else.
#
#   sudo bootstrap/uninstall.sh
#
#   --dry-run      show what would be undone
#   --purge        also remove what the bootstrap did not write itself: /etc/beta9-worker (worker.env, secrets),
#                  /opt/beta9-worker (the trees it ran from), and other people's containers and volumes in the Docker
#                  data that is removed (without --purge these stop the uninstaller before it changes anything)
#
# Kept and listed: files that were modified since, directories that contain other files, packages that other packages
# now depend on. Running work is stopped. Exit 0: everything is undone, except for what was listed; 1: something failed.
set -Eeuo pipefail
export LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# During a busy first boot systemd may take longer to answer than systemctl's default timeout of 25 s.
export SYSTEMD_BUS_TIMEOUT=${SYSTEMD_BUS_TIMEOUT:-300}

BETA9_BOOTSTRAP=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
BETA9_ROOT=${BETA9_ROOT:-}
BETA9_RUN=$(mktemp -d)
trap 'rm -rf "$BETA9_RUN"' EXIT
dry_run='' purge='' failures=0
for part in log settings record apt host; do
  # shellcheck source=/dev/null
  . "$BETA9_BOOTSTRAP/lib/$part.sh"
done

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

main() {
  local line packages=() same_run="$0${*:+ $*}"
  while (($#)); do
    case $1 in
      --dry-run) dry_run=yes ;;
      --purge) purge=yes ;;
      --help | -h) usage; exit 0 ;;
      *) printf 'uninstall.sh: unknown option %s\n' "$1" >&2; usage >&2; exit 2 ;;
    esac
    shift
  done
  ((EUID == 0)) || { say "this script changes the system: run it as root (sudo $same_run)"; exit 1; }
  [[ -f $BETA9_STATE/record ]] || { say "nothing to undo: $BETA9_STATE/record does not exist"; exit 0; }
  exec 9>>"$BETA9_STATE/installer.lock"
  flock -n 9 || { say "the installer is running; try again when it has finished"; exit 1; }
  check_docker_data || [[ -n $dry_run ]] || exit 1
  # Stop the agent first: it drains, and its container keeps its image in use.
  if [[ -z $dry_run ]] && unit_is active beta9-worker.service; then systemctl stop beta9-worker.service; fi
  while IFS= read -r line; do
    # Purge packages that were recorded in a row together: they depend on each other.
    if [[ $line == package$'\t'* ]]; then packages+=("${line#*$'\t'}") && continue; fi
    purge_packages
    undo_line "$line"
  done < <(tac "$BETA9_STATE/record")
  purge_packages
  clean_up
}

DOCKER_MOUNT=var-lib-docker.mount

# check_docker_data: fail with a message if removing Docker's data would remove containers or volumes of others.
check_docker_data() {
  local others
  [[ -z $purge ]] || return 0
  command -v docker >/dev/null || return 0 # the installation stopped before Docker
  recorded unit "$DOCKER_MOUNT" || recorded tree "$BETA9_ROOT/var/lib/docker" || return 0
  if ! others=$(docker ps --all --format 'container {{.Names}}' && docker volume ls --format 'volume {{.Name}}'); then
    say "Docker does not answer, and its data would be removed: start Docker so that its contents can be checked, or add --purge to remove them all"
    return 1
  fi
  others=$(grep -vxF 'container beta9-worker' <<<"$others" | paste -sd, | sed 's/,/, /g')
  [[ -n $others ]] || return 0
  say "Docker's data would be removed, and with it: $others; move these elsewhere first, or add --purge to remove them as well"
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
  # Older lines for the same file may have another checksum; the newest line, which comes first, counts.
  if [[ -n ${seen[$1]:-} ]]; then return 0; fi
  seen[$1]=yes
  if [[ $(sha256sum <"$1") != "$2 "* ]]; then
    say "kept: $1 was modified since"
    return 0
  fi
  rm -f "$1"
}
declare -A seen=()

undo_original() {
  if [[ -e $1 ]]; then
    say "kept: $1 was modified since; the original is in $BETA9_STATE/$2"
    keep_state=yes
    return 0
  fi
  mkdir -p "$(dirname "$1")" # a program's own uninstaller may have removed it
  mv "$BETA9_STATE/$2" "$1"
  say "restored $1"
}
keep_state=''

undo_dir() {
  [[ -d $1 ]] || return 0
  # --purge removes these trees at the end.
  [[ -z $purge || $1 != "$BETA9_ROOT"/@(etc|opt)/beta9-worker?(/*) ]] || return 0
  rmdir "$1" 2>/dev/null || say "kept: $1 is not empty"
}

undo_tree() { rm -rf --one-file-system "$1"; }
undo_link() { [[ $(readlink "$1" 2>/dev/null) != "$2" ]] || rm -f "$1"; }
undo_hold() { patiently apt-mark unhold "$1" >/dev/null; }

# Show the output of a command only if it fails.
undo_run() {
  local output
  output=$(bash -c "$1" </dev/null 2>&1) || { printf '%s\n' "$output" >&2 && return 1; }
}

undo_unit() {
  local users=() each
  if [[ $1 == "$DOCKER_MOUNT" ]]; then
    # Docker must not run while its data directory changes; afterwards it uses the original one again.
    for each in docker.socket docker.service; do
      if unit_is active "$each"; then users+=("$each"); fi
    done
    # It would be mounted again, for as long as Docker requires it (steps/30-storage.sh).
    rm -f "$BETA9_ROOT/etc/systemd/system/docker.service.d/50-beta9-scratch.conf"
    systemctl daemon-reload
  fi
  systemctl stop "${users[@]}" "$1" 2>/dev/null || true # it may already be gone
  systemctl disable --quiet "$1" 2>/dev/null || true
  ((${#users[@]} == 0)) || systemctl start "${users[@]}"
  ! unit_is active "$1"
}

# purge_packages: purge those collected so far, unless other packages now depend on them.
purge_packages() {
  ((${#packages[@]})) || return 0
  local to_purge=() each extra
  for each in "${packages[@]}"; do
    if is_installed "$each"; then to_purge+=("$each"); fi
  done
  packages=()
  ((${#to_purge[@]})) || return 0
  if ! apt_get -o APT::Get::Remove=true --simulate purge "${to_purge[@]}" >/dev/null; then
    say "could not purge ${to_purge[*]}: $(apt_errors)"
    failures=$((failures + 1))
    return 0
  fi
  extra=$(awk '$1 == "Purg" || $1 == "Remv" { print $2 }' "$APT_OUTPUT" | sort -u | comm -23 - <(printf '%s\n' "${to_purge[@]}" | sort))
  if [[ -n $extra ]]; then
    say "kept: ${to_purge[*]}, because $(paste -sd' ' <<<"$extra") would be removed with them"
  elif [[ -n $dry_run ]]; then
    say "would purge: ${to_purge[*]}"
  else
    apt_get -o APT::Get::Remove=true purge "${to_purge[@]}" || { say "could not purge ${to_purge[*]}: $(apt_errors)"; failures=$((failures + 1)); }
  fi
}

clean_up() {
  [[ -z $dry_run ]] || exit 0
  systemctl daemon-reload
  systemctl reset-failed 'beta9-worker*' 2>/dev/null || true # fails if no unit has failed
  if ((failures)); then
    say "$failures changes could not be undone; fix the errors above and run 'sudo $same_run' again ($BETA9_STATE/record is kept)"
    exit 1
  fi
  if [[ -n $keep_state ]]; then
    mv "$BETA9_STATE/originals" "$BETA9_ROOT/var/lib/beta9-worker-originals"
    say "the original files are now in $BETA9_ROOT/var/lib/beta9-worker-originals"
  fi
  rm -rf "$BETA9_ROOT/var/lib/beta9-worker"
  if [[ -n $purge ]]; then rm -rf "$BETA9_ROOT/etc/beta9-worker" "$BETA9_ROOT/opt/beta9-worker"; fi
  for each in "$BETA9_ROOT"/etc/beta9-worker "$BETA9_ROOT"/opt/beta9-worker; do
    [[ ! -d $each ]] || say "kept: $each (--purge removes it)"
  done
  say "uninstalled: the bootstrap's changes are undone"
}

main "$@"
