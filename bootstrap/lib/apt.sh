# shellcheck shell=bash
# Install packages and add signed repositories. Parallel stages take turns, and wait for other users of apt (unattended
# upgrades).

# with_apt COMMAND…: run COMMAND while holding the lock that all stages share.
with_apt() {
  state_dir
  (
    flock 8
    "$@" 8>&-
  ) 8>>"$BETA9_STATE/apt.lock"
}

apt_get() {
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -y \
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 \
    -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef "$@" </dev/null
}

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == ?i* ]]; }
installed_packages() { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | awk '$1 ~ /^.i/ { print $2 }' | sort -u; }

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

version_of() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }

install_recorded() {
  local before code=0 each
  before=$(installed_packages)
  lists_fresh || refresh_lists
  apt_get install --no-install-recommends "$@" || code=$?
  while read -r each; do record package "$each"; done < <(comm -13 <(printf '%s\n' "$before") <(installed_packages))
  ((code == 0)) || fail "apt could not install $*"
}

# Package lists count as fresh for the rest of this run, until a repository is added.
lists_fresh() { [[ -n ${BETA9_RUN:-} && -e $BETA9_RUN/lists-fresh ]]; }
refresh_lists() {
  local try
  for try in 1 2 3 4 5; do
    if apt_get update; then
      [[ -z ${BETA9_RUN:-} ]] || touch "$BETA9_RUN/lists-fresh"
      return 0
    fi
    say "apt-get update failed (attempt $try of 5)"
    ((try == 5)) || pause $((try * 3))
  done
  fail "the package lists cannot be downloaded" "see the lines above in this log: a mirror, DNS or a proxy is not reachable"
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
  with_apt apt-mark hold "${missing[@]}" >/dev/null
  changed "held ${missing[*]}"
}

# apt_repository NAME KEY FINGERPRINTS LINE [PIN]: add a repository with a pinned key. KEY is a location (see fetch);
# FINGERPRINTS are the only primary keys it may contain (40 hexadecimal digits each, comma-separated); PIN is the name
# of the variable that holds them. LINE is the sources line without options, such as "deb URL SUITE COMPONENT".
apt_repository() {
  local name=$1 key=$2 expected=$3 line=$4 pin=${5:-$1} ring=$BETA9_ROOT/etc/apt/keyrings/beta9-$1.gpg type rest options
  read -r type rest <<<"$line"
  options="arch=$(dpkg --print-architecture) signed-by=${ring#"$BETA9_ROOT"}"
  if [[ ! -s $ring ]] || ! key_matches "$ring" "$expected"; then apt_key "$pin" "$key" "$expected" "$ring"; fi
  put_file "$BETA9_ROOT/etc/apt/sources.list.d/beta9-$name.list" 0644 <<<"$type [$options] $rest"
  with_apt mark_lists_stale
}

# Called under the lock: an update that another stage began before the repository was added must have finished first,
# or its lists would count as fresh.
mark_lists_stale() { [[ -z ${BETA9_RUN:-} ]] || rm -f "$BETA9_RUN/lists-fresh"; }

# apt_key PIN LOCATION FINGERPRINTS RING
apt_key() {
  local downloads=$BETA9_STATE/downloads armoured
  install -d -m 0700 "$downloads"
  armoured=$(mktemp "$downloads/key.XXXXXX")
  [[ -n $3 ]] || report_unpinned "$1" "$(shown "$2")"
  fetch "$2" "$armoured"
  if [[ -n $3 ]] && ! key_matches "$armoured" "$3"; then
    fail "$(shown "$2") contains the key $(fingerprints "$armoured" | paste -sd,), not $3" \
      "if the vendor has announced a new key, set $1 in worker.env; otherwise do not trust this source"
  fi
  # The download may be armoured; apt on Ubuntu 22.04 and Debian 12 requires a binary .gpg file.
  (gpg_quiet --dearmor <"$armoured" 2>/dev/null || cat "$armoured") | put_file "$4" 0644
  rm -f "$armoured"
}

key_matches() { [[ -z $2 || $(fingerprints "$1") == "$(tr -d ' ' <<<"$2" | tr ',a-f' '\nA-F' | sort)" ]]; }

# fingerprints FILE: print the primary keys' fingerprints, one per line, sorted.
fingerprints() {
  gpg_quiet --show-keys --with-colons "$1" |
    awk -F: '$1 == "pub" { primary = 1 } $1 == "fpr" && primary { print $10; primary = 0 }' | sort
}

gpg_quiet() {
  local home code=0
  home=$(mktemp -d)
  gpg --homedir "$home" --batch --no-tty --quiet "$@" || code=$?
  rm -rf "$home"
  return "$code"
}
