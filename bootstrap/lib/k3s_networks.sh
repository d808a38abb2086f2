# shellcheck shell=bash
# Choose the networks of pods and services: k3s's usual ones, unless this machine needs their addresses itself.
#
# k3s routes the pods' network to its own bridge, and rewrites the addresses of services. Whatever else has an address
# there (this machine, its router, a resolver, the gateway's host) would be out of reach as soon as k3s starts.

# Pods and services; the first that are free are used.
K3S_NETWORKS=('10.42.0.0/16 10.43.0.0/16' '10.142.0.0/16 10.143.0.0/16' '10.242.0.0/16 10.243.0.0/16' '172.26.0.0/16 172.27.0.0/16')
K3S_ETC=$BETA9_ROOT/etc/rancher/k3s

# choose_networks: set PODS and SERVICES. Set TAKEN to the reason why the usual ones cannot be used, or ''. Return 1 if
# none can be.
choose_networks() {
  local pods services pair how
  TAKEN=''
  pods=$(k3s_option cluster-cidr) services=$(k3s_option service-cidr)
  if [[ -e $K3S_ETC/config.yaml ]] && recorded file "$K3S_ETC/config.yaml"; then
    # They cannot be changed once k3s has made its node.
    PODS=${pods:-10.42.0.0/16} SERVICES=${services:-10.43.0.0/16}
    TAKEN=$(taken inside "$PODS" || taken inside "$SERVICES") || return 0
    TAKEN+=", and k3s was set up before that: run bootstrap/uninstall.sh first"
    return 1
  fi
  pods=${pods:-$(setting BETA9_K3S_CLUSTER_CIDR)} services=${services:-$(setting BETA9_K3S_SERVICE_CIDR)}
  # A larger network around them, such as a route to all of 10.0.0.0/8, does no harm unless something needed is there:
  # k3s's own route is more specific. So take networks without it if there are any, and otherwise with it.
  for how in overlapping inside; do
    for pair in "${K3S_NETWORKS[@]}"; do
      PODS=${pods:-${pair% *}} SERVICES=${services:-${pair#* }}
      ! overlapping "$PODS" "$SERVICES" || continue
      pair=$(taken $how "$PODS" || taken $how "$SERVICES") || return 0
      TAKEN=${TAKEN:-$pair}
    done
  done
  PODS=${pods:-10.42.0.0/16} SERVICES=${services:-10.43.0.0/16}
  return 1
}

# k3s_option NAME: print what k3s's configuration says: that of an earlier run, or config.yaml.d, which overrides it.
k3s_option() {
  local file found value=''
  for file in "$K3S_ETC/config.yaml" "$K3S_ETC"/config.yaml.d/*.yaml; do
    [[ -r $file ]] || continue
    [[ $file != */config.yaml ]] || recorded file "$file" || continue # the step k3s replaces it
    found=$(sed -n "s/^$1:[[:space:]]*[\"']\{0,1\}\([^\"'#[:space:]]*\).*/\1/p" "$file" | tail -n 1)
    value=${found:-$value}
  done
  printf %s "$value"
}

# taken overlapping|inside NETWORK: print what this machine has there, and succeed if there is anything.
taken() {
  local how=$1 network=$2 address what
  while read -r address what; do
    "$how" "$address" "$network" || continue
    printf '%s (%s)' "$address" "$what"
    return 0
  done < <(addresses_in_use)
  return 1
}

# addresses_in_use: print the IPv4 routes, addresses, routers and resolvers of this machine, and the hosts it connects to,
# as lines "ADDRESS[/BITS] WHAT"; k3s's own are left out.
addresses_in_use() {
  ip -4 route show table all 2>/dev/null | awk '
    { start = 1; kind = "route"; device = ""; router = "" }
    $1 ~ /^(local|broadcast|unicast|unreachable|blackhole|prohibit|throw|multicast|anycast)$/ { start = 2; kind = $1 }
    { for (i = start + 1; i < NF; i++) { if ($i == "dev") device = $(i + 1); if ($i == "via") router = $(i + 1) } }
    device == "cni0" || device == "flannel.1" || kind == "multicast" { next }
    router ~ /^[0-9.]+$/ { print router, "a router, on " device }
    $start != "default" { print $start, (kind == "local" ? "an address" : "a route") (device == "" ? "" : ", on " device) }'
  sed -n 's/^nameserver[[:space:]]\{1,\}\([0-9.]\{7,15\}\)[[:space:]]*$/\1 a resolver/p' \
    "$BETA9_ROOT/etc/resolv.conf" "$BETA9_ROOT/run/systemd/resolve/resolv.conf" 2>/dev/null || true
  local name host
  for name in $([[ -n $(setting BETA9_SSH_JUMP) ]] && echo BETA9_SSH_JUMP || echo BETA9_SSH_HOST) BETA9_GATEWAY_HOST; do
    # Of jump hosts, [user@]host[:port],…, this machine dials the first.
    host=$(setting "$name")
    host=${host%%,*}
    host=${host##*@}
    host=${host%%:*}
    [[ ! $host =~ ^([0-9]{1,3}\.){3}[0-9]{1,3}$ ]] || printf '%s %s\n' "$host" "$name"
  done
}

# network_range A.B.C.D[/BITS]: set first and last, as numbers. Return 1 for anything else, such as a dual-stack network of
# somebody's own configuration.
network_range() {
  local a b c d bits
  [[ $1 =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})(/([0-9]|[12][0-9]|3[0-2]))?$ ]] || return 1
  a=$((10#${BASH_REMATCH[1]})) b=$((10#${BASH_REMATCH[2]})) c=$((10#${BASH_REMATCH[3]})) d=$((10#${BASH_REMATCH[4]}))
  bits=$((32 - ${BASH_REMATCH[6]:-32}))
  ((a < 256 && b < 256 && c < 256 && d < 256)) || return 1
  first=$(((a << 24 | b << 16 | c << 8 | d) >> bits << bits))
  last=$((first + (1 << bits) - 1))
}

overlapping() { # overlapping A B
  local first last lowest highest
  network_range "$2" && lowest=$first highest=$last && network_range "$1" && ((first <= highest && last >= lowest))
}

inside() { # inside A B: whether A lies in B
  local first last lowest highest
  network_range "$2" && lowest=$first highest=$last && network_range "$1" && ((first >= lowest && last <= highest))
}
