# shellcheck shell=bash
# Install packages. The machine's own package management goes on meanwhile: a lock that another program holds is waited
# for, a source that apt cannot read is passed over and named, and a removal is refused.

APT_CONF=$BETA9_BOOTSTRAP/lib/apt.conf
APT_PATIENCE=600                     # seconds to wait for other programs' locks; the step `tools` has time for all of it
APT_NOTES=${BETA9_RUN:-$BETA9_STATE} # files about apt's last runs, written under the lock of with_apt:
APT_OUTPUT=$APT_NOTES/apt-output     # everything that the last one printed
APT_UNREAD=$APT_NOTES/apt-unread     # the sources that could not be read, in apt's words

# with_apt COMMAND…: run COMMAND while holding the lock that all stages share.
with_apt() {
  state_dir
  (
    flock 8
    touch "$APT_OUTPUT"
    "$@" 8>&-
  ) 8>>"$BETA9_STATE/apt.lock"
}

apt_get() { patiently apt_get_once "$@"; }

apt_get_once() {
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    apt-get --config-file="$APT_CONF" -q -y -o DPkg::Lock::Timeout=0 "$@"
}

# patiently [--recording] COMMAND…: run a program that uses apt or dpkg, and run it again while another program holds one
# of their locks. apt itself can wait for one of these locks only. An interrupted dpkg is completed first. With
# --recording, packages that the program installs are recorded, but not those that others install while it waits.
patiently() {
  local recording='' before='' code repaired='' limit start=$SECONDS last_report=-60
  if [[ $1 == --recording ]]; then recording=yes && shift; fi
  limit=$(scaled_timeout "$APT_PATIENCE")
  while :; do
    code=0
    [[ -z $recording ]] || before=$(installed_packages)
    LC_ALL=C "$@" </dev/null 2>&1 | tee "$APT_OUTPUT" || code=$?
    [[ -z $recording ]] || record_since "$before" "$code"
    if [[ -n $(apt_busy) ]]; then
      ((SECONDS - start < limit)) || return $((code ? code : 1))
      if ((SECONDS - start - last_report >= 60)); then
        last_report=$((SECONDS - start))
        say "waiting for another program that uses apt ($last_report s of $limit s): $(apt_busy)"
      fi
      pause 3
    elif [[ -z $repaired ]] && grep -q '^E: dpkg was interrupted' "$APT_OUTPUT"; then
      repaired=yes
      say "an earlier installation of packages was interrupted: completing it"
      DEBIAN_FRONTEND=noninteractive dpkg --force-confold --force-confdef --configure -a </dev/null || true
    else
      return "$code"
    fi
  done
}

# record_since PACKAGES CODE: record what the last run has installed in addition, unless it failed at the start. Another
# program may have ended its own installation since PACKAGES were listed: what the run says that it unpacked counts.
record_since() {
  local each unpacked
  unpacked=$(sed -n 's/^Unpacking \([^ :]*\).*/\1/p' "$APT_OUTPUT")
  [[ $2 == 0 || -n $unpacked ]] || return 0
  while read -r each; do
    if [[ -z $unpacked ]] || grep -qxF -- "$each" <<<"$unpacked"; then record package "$each"; fi
  done < <(comm -13 <(printf '%s\n' "$1") <(installed_packages))
}

# apt_busy: print what the last run said about a lock that another program holds.
apt_busy() {
  grep -m1 -oE '^E: ?Could not get lock .*|dpkg (frontend|database) lock .* locked by .*|/\S+ is locked by another process' \
    "$APT_OUTPUT" | sed 's/^E: *//' || true
}

# apt_errors: print what the last run gave as reasons, in one line and without passwords.
apt_errors() {
  grep -E '^(E: ?|W: GPG error: |dpkg: error | \S+ : (PreDepends|Depends|Conflicts|Breaks): )' "$APT_OUTPUT" |
    grep -vE '^E: ?(Some index files|The list of sources|Unable to (lock|acquire)|Executing dpkg|Packages need to be)' |
    sed -E 's/^([EW]: ?| )//' | without_password | awk '!seen[$0]++ && ++n <= 4' | paste -sd'|' | sed 's/|/; /g' || true
}

without_password() { sed -E 's#://[^/@ ]*@#://#g'; }

# apt_removals: print the packages that would have had to be removed.
apt_removals() {
  grep -q '^E: Packages need to be removed' "$APT_OUTPUT" || return 0
  awk '/ REMOVED:$/ { inside = 1; next } !/^  / { inside = 0 } inside { gsub(/\([^)]*\)|\*/, ""); print }' "$APT_OUTPUT" | xargs
}

# fail_apt WHAT [FIX]: fail the step with the reason of the last run; FIX is for what only the caller knows.
fail_apt() {
  local what=$1 fix=${2:-} removals errors
  removals=$(apt_removals)
  if [[ -n $removals ]]; then
    fail "$what: this would remove $removals" \
      "if nothing needs them, remove them yourself (apt-get remove $removals); otherwise install what is missing in a version that goes with them; then run the installer again"
  fi
  errors=$(apt_errors)
  if [[ -n $(apt_busy) ]]; then
    fail "$what: another program has locked apt for more than $(scaled_timeout "$APT_PATIENCE") s: $errors" \
      "let that program finish, or look what it is doing (ps -fp PID); then run the installer again"
  fi
  ! sources_broken || fail "$what: $errors" "correct or remove that entry; then run the installer again"
  if [[ -s $APT_UNREAD && -z $fix ]]; then
    fix="make the sources named above reachable, or correct them (/etc/apt/sources.list, /etc/apt/sources.list.d)"
  fi
  fail "$what: ${errors:-see the lines above in this log}$(unread_sources "$errors")" "$fix"
}

# unread_sources [TEXT]: print, for the end of a reason, which sources could not be read, unless TEXT is just that.
unread_sources() {
  if [[ -s $APT_UNREAD && $(<"$APT_UNREAD") != "${1:-}" ]]; then printf '; sources that cannot be read: %s' "$(<"$APT_UNREAD")"; fi
}

sources_broken() { grep -q '^E: The list of sources could not be read' "$APT_OUTPUT"; }

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == ?i* ]]; }
installed_packages() { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | awk '$1 ~ /^.i/ { print $2 }' | sort -u; }
version_of() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }

# candidates PACKAGE: print every version that apt could install, newest first.
candidates() { apt-cache madison "$1" 2>/dev/null | awk -F'|' '{ gsub(/ /, "", $2); print $2 }'; }

# available PACKAGE…: whether apt could install one of them, according to fresh lists.
available() { with_apt with_lists any_candidate "$@"; }
any_candidate() {
  local each
  for each in "$@"; do
    if [[ -n $(candidates "$each") ]]; then return 0; fi
  done
  return 1
}

# apt_install PACKAGE[=VERSION]…: install what is missing. Dependencies that apt adds are recorded as well.
apt_install() {
  local wanted=() each
  for each in "$@"; do
    if ! is_installed "${each%%=*}" || [[ $each == *=* && $(version_of "${each%%=*}") != "${each#*=}" ]]; then wanted+=("$each"); fi
  done
  ((${#wanted[@]})) || return 0
  with_apt install_recorded "${wanted[@]}"
  changed "installed ${wanted[*]}"
}

install_recorded() { # install_recorded [OPTION…] PACKAGE…
  local names=() each
  for each in "$@"; do [[ $each == --* ]] || names+=("$each"); done
  with_lists installing apt_get_once install --no-install-recommends "$@" ||
    fail_apt "apt could not install ${names[*]}"
}

# installing COMMAND…: run a program that installs packages, patiently, and record these. A package that cannot be
# downloaded counts as a source that cannot be read.
installing() {
  patiently --recording "$@" && return
  if grep -qE '^E: (Failed|Unable) to fetch' "$APT_OUTPUT"; then apt_errors >"$APT_UNREAD"; fi
  return 1
}

# with_lists COMMAND…: run COMMAND with fresh package lists. If it fails and a source could not be read, update them and
# try again, up to five times in all: what can be had is installed at once, whatever else is unreachable.
with_lists() {
  local try
  for try in 1 2 3 4 5; do
    lists_fresh || refresh_lists
    if "$@"; then
      name_unread
      return 0
    fi
    if [[ ! -s $APT_UNREAD || -n $(apt_removals)$(apt_busy) ]] || cmp -s "$APT_UNREAD" "$APT_NOTES/apt-tried"; then return 1; fi
    ((try < 5)) || break
    say "not all sources of packages could be read (attempt $try of 5)"
    mark_lists_stale
    pause $((try * 3))
  done
  [[ -z ${BETA9_RUN:-} ]] || cp "$APT_UNREAD" "$APT_NOTES/apt-tried" # the next question in this run is answered at once
  return 1
}

name_unread() {
  if [[ ! -s $APT_UNREAD ]] || cmp -s "$APT_UNREAD" "$APT_NOTES/apt-named"; then return 0; fi
  console "warning: passed over sources of packages that apt cannot read: $(<"$APT_UNREAD")"
  cp "$APT_UNREAD" "$APT_NOTES/apt-named"
}

# Package lists count as fresh for the rest of this run.
lists_fresh() { [[ -n ${BETA9_RUN:-} && -e $BETA9_RUN/lists-fresh ]]; }
mark_lists_stale() { [[ -z ${BETA9_RUN:-} ]] || rm -f "$BETA9_RUN/lists-fresh"; }
refresh_lists() {
  : >"$APT_UNREAD"
  if ! apt_get update; then
    [[ -z $(apt_busy) ]] || fail_apt "the package lists cannot be updated"
    ! sources_broken || fail_apt "apt cannot read its list of sources"
    apt_errors >"$APT_UNREAD"
  fi
  [[ -z ${BETA9_RUN:-} ]] || touch "$BETA9_RUN/lists-fresh"
}

# apt_hold PACKAGE…: keep apt from upgrading it.
apt_hold() {
  local each held missing=()
  held=$(apt-mark showhold)
  for each in "$@"; do
    if grep -qxF -- "$each" <<<"$held"; then continue; fi
    record hold "$each"
    missing+=("$each")
  done
  ((${#missing[@]})) || return 0
  with_apt hold_now "${missing[@]}"
  changed "held ${missing[*]}"
}
hold_now() { patiently apt-mark hold "$@" || fail_apt "apt could not hold $*"; }
