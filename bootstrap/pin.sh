#!/usr/bin/env bash
# Fills in the empty pins of versions.env and verifies the others. Run it on a machine that can reach the URLs there.
#
#   bootstrap/pin.sh                       fill in empty pins, verify the others; exit 1 if any differs
#   bootstrap/pin.sh --check               verify only, change nothing; an empty pin counts as a difference
#   bootstrap/pin.sh --k3s v1.36.6+k3s1    switch to another k3s version
#   bootstrap/pin.sh --device-plugin nvcr.io/nvidia/k8s-device-plugin:v0.20.2
#   --file FILE                            use FILE instead of the versions.env next to this script
#   --accept                               replace pins that differ (published files should never change: find out
#                                          why one did before you accept it)
#
# Each published file is downloaded completely; its checksum is computed here and compared with the published one.
# All downloads use TLS; CURL_CA_BUNDLE is honoured. Needs curl, gpg, python3 and about 400 MB in TMPDIR.
set -Eeuo pipefail

BOOTSTRAP_DIR=$(cd "$(dirname "$0")" && pwd)
FILE=$BOOTSTRAP_DIR/versions.env CHECK='' ACCEPT='' K3S='' PLUGIN='' DIFFERENT=0 WORK=''
export BETA9_STAGE=pin # the prefix of messages, in lib/log.sh
for part in log settings fetch repositories; do
  # shellcheck source=/dev/null
  . "$BOOTSTRAP_DIR/lib/$part.sh"
done
declare -A PINS=()

main() {
  parse_arguments "$@"
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  read_settings "$FILE" PINS || fail "$SETTINGS_PROBLEM"
  [[ -z $K3S ]] || switch_k3s
  [[ -z $PLUGIN ]] || reset_pin BETA9_DEVICE_PLUGIN_IMAGE "$PLUGIN"
  pin_file BETA9_K3S_SHA256 BETA9_K3S_URL BETA9_K3S_SUMS_URL
  pin_file BETA9_K3S_INSTALL_SHA256 BETA9_K3S_INSTALL_URL
  pin_file BETA9_K3S_IMAGES_SHA256 BETA9_K3S_IMAGES_URL BETA9_K3S_SUMS_URL
  pin_key BETA9_TOOLKIT_KEY_FINGERPRINT "${PINS[BETA9_TOOLKIT_KEY_URL]}"
  pin_key BETA9_NVIDIA_KEY_FINGERPRINT "${PINS[BETA9_NVIDIA_REPOSITORY]:-$NVIDIA_DEBIAN}/3bf863cc.pub"
  pin_key BETA9_TAILSCALE_KEY_FINGERPRINT "${PINS[BETA9_TAILSCALE_KEY_URL]:-$TAILSCALE_DEBIAN}"
  pin_image BETA9_DEVICE_PLUGIN_IMAGE
  ((DIFFERENT == 0)) || fail "$DIFFERENT pin(s) in $FILE do not match"
}

# The URLs that the steps use on Debian 12 if versions.env has none.
NVIDIA_DEBIAN=https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64
TAILSCALE_DEBIAN=https://pkgs.tailscale.com/stable/debian/bookworm.noarmor.gpg

parse_arguments() {
  while (($#)); do
    case $1 in
      --check) CHECK=1 ;;
      --accept) ACCEPT=1 ;;
      --file | --k3s | --device-plugin)
        (($# >= 2)) || fail "$1 needs a value"
        case $1 in --file) FILE=$2 ;; --k3s) K3S=$2 ;; *) PLUGIN=$2 ;; esac
        shift ;;
      *) fail "unknown argument '$1'; see the usage at the top of $0" ;;
    esac
    shift
  done
}

fail() {
  say "failed: $*"
  exit 1
}

# --- one function per kind of pin

# pin_file PIN URL [SUMS]: names of variables. Pin the file's checksum; if SUMS, the release's listing, is given, it must
# agree.
pin_file() {
  local pin=$1 url=${PINS[$2]} sums='' sum listed=''
  [[ -z ${3:-} ]] || sums=${PINS[$3]:-}
  download "$url" "$WORK/file"
  sum=$(sha256sum <"$WORK/file" | cut -d' ' -f1)
  if [[ -n $sums ]]; then
    download "$sums" "$WORK/listing"
    listed=$(awk -v file="${url##*/}" '$2 == file || $2 == "*" file { print $1; exit }' "$WORK/listing")
    [[ $listed == "$sum" ]] || fail "$url has the checksum $sum, but $sums lists '${listed:-nothing}'"
  fi
  rm -f "$WORK/file"
  update_pin "$pin" "$sum" "$url${sums:+, as in $sums}"
}

# pin_key PIN URL: pin the fingerprints of the primary keys in a repository's key file.
pin_key() {
  download "$2" "$WORK/key"
  update_pin "$1" "$(fingerprints "$WORK/key" | paste -sd,)" "$2"
}

# pin_image PIN: pin a tagged reference to the digest that its registry returns (of the multi-platform index, if any).
pin_image() {
  local reference=${PINS[$1]} digest
  local parsed='^([^/]+)/([^:@]+):([^@]+)(@sha256:[0-9a-f]{64})?$'
  [[ $reference =~ $parsed ]] || fail "$1 is '$reference', not HOST/NAME:TAG with or without a digest"
  digest=$(digest_of "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}")
  update_pin "$1" "${reference%@*}@$digest" "https://${reference%%/*}"
}

# digest_of HOST NAME TAG: print the digest of the manifest as received; the registry's header must agree with it.
digest_of() {
  local url=https://$1/v2/$2/manifests/$3 digest registry_digest
  get_manifest "$url" "$WORK/manifest" "$WORK/headers" </dev/null || get_manifest_with_token "$url" "$2"
  digest=sha256:$(sha256sum <"$WORK/manifest" | cut -d' ' -f1)
  registry_digest=$(sed -n 's/^docker-content-digest: *//Ip' "$WORK/headers" | tr -d '\r' | tail -1)
  [[ -z $registry_digest || $registry_digest == "$digest" ]] ||
    fail "$url: the digest is $digest, but the registry says $registry_digest"
  printf %s "$digest"
}

# get_manifest_with_token URL NAME: registries require a token even for public images, but give it to anybody.
get_manifest_with_token() {
  local challenge realm service token
  challenge=$(grep -i '^www-authenticate: bearer' "$WORK/headers" | tail -1) || fail "cannot download $1"
  realm=$(sed -n 's/.*realm="\([^"]*\)".*/\1/p' <<<"$challenge")
  service=$(sed -n 's/.*service="\([^"]*\)".*/\1/p' <<<"$challenge")
  download "$realm?service=$service&scope=repository:$2:pull" "$WORK/token"
  token=$(python3 -c 'import json, sys; answer = json.load(sys.stdin); print(answer.get("token") or answer["access_token"])' <"$WORK/token")
  get_manifest "$1" "$WORK/manifest" "$WORK/headers" <<<"header = \"Authorization: Bearer $token\"" || fail "cannot download $1"
}

get_manifest() { # get_manifest URL BODY HEADERS <CONFIG
  local kinds=application/vnd.oci.image.index.v1+json,application/vnd.docker.distribution.manifest.list.v2+json
  kinds+=,application/vnd.oci.image.manifest.v1+json,application/vnd.docker.distribution.manifest.v2+json
  curl --disable --config - --fail --silent --location --proto =https --proto-redir =https --connect-timeout 15 \
    --max-time 60 --header "Accept: $kinds" --dump-header "$3" --output "$2" -- "$1"
}

download() { # download URL FILE
  [[ $1 == https://* ]] || fail "$1 is not https://…"
  again request "$1" "$2" || fail "cannot download $1"
}

# --- updating versions.env

# update_pin PIN VALUE SOURCE: fill in an empty pin, or compare VALUE with it.
update_pin() {
  local pin=$1 value=$2 source=$3 old=${PINS[$1]:-}
  [[ -n $value ]] || fail "no value for $pin found at $source"
  [[ $value != *@sha256:* || $old == *@sha256:* ]] || old='' # an image with only a tag is not pinned
  if [[ $old == "$value" ]]; then
    say "$pin is up to date"
  elif [[ -n $CHECK || ( -n $old && -z $ACCEPT ) ]]; then
    say "$pin is ${old:-empty}, but $source has $value"
    DIFFERENT=$((DIFFERENT + 1))
  else
    write_pin "$pin" "$value" "$source, read by bootstrap/pin.sh on $(date -u +%F)"
    say "$pin is now $value"
  fi
}

# reset_pin PIN VALUE: switch to another file or image, whose checksum or digest is not known yet.
reset_pin() {
  PINS[$1]=$2
  [[ -n $CHECK ]] || write_pin "$1" "$2" ''
}

switch_k3s() {
  local version=${K3S/+/%2B} old=${PINS[BETA9_K3S_VERSION]/+/%2B} each
  [[ $K3S =~ ^v[0-9]+\.[0-9]+\.[0-9]+\+k3s[0-9]+$ ]] || fail "'$K3S' is not a k3s version such as v1.36.5+k3s1"
  [[ $K3S != "${PINS[BETA9_K3S_VERSION]}" ]] || return 0
  write_pin BETA9_K3S_VERSION "$K3S" "chosen with bootstrap/pin.sh on $(date -u +%F)"
  for each in URL SUMS_URL INSTALL_URL IMAGES_URL; do reset_pin "BETA9_K3S_$each" "${PINS[BETA9_K3S_$each]//"$old"/"$version"}"; done
  for each in SHA256 INSTALL_SHA256 IMAGES_SHA256; do PINS[BETA9_K3S_$each]=''; done
}

# write_pin PIN VALUE SOURCE: rewrite the line, and the comment above it that names the source of the value.
write_pin() {
  python3 - "$FILE" "$@" <<'PYTHON'
import os, pathlib, sys
path, pin, value, source = pathlib.Path(sys.argv[1]), *sys.argv[2:5]
lines = path.read_text().split("\n")
index = next((n for n, line in enumerate(lines) if line.startswith(pin + "=")), None)
if index is None:
    sys.exit(f"{path} has no line {pin}=")
first = index
while first and lines[first - 1].startswith("#"):
    first -= 1
comment = lines[first:index]
source_line = next((n for n, line in enumerate(comment) if line.startswith("# Source:")), len(comment))
if source:
    comment = [*comment[:source_line], f"# Source: {source}."]
lines[first : index + 1] = [*comment, f"{pin}={value}"]
draft = path.with_name(path.name + ".new")
draft.write_text("\n".join(lines))
draft.chmod(path.stat().st_mode & 0o7777)
os.replace(draft, path)
PYTHON
}

main "$@"
