# shellcheck shell=bash
# What the preflight checks so that k3s does not fail on this machine minutes later, in other words.
#
# Each check_… calls add_problem for what it finds. A k3s that runs, or that somebody else installed, needs none of them.

# shellcheck source=k3s.sh
. "$BETA9_BOOTSTRAP/lib/k3s.sh"

OTHER_KUBERNETES=(kubelet rke2-server rke2-agent k0scontroller k0sworker snap.microk8s.daemon-kubelite)

check_k3s() {
  local each
  check_existing_k3s
  if has_k3s; then return 0; fi
  for each in node_name container cgroups kernel folders other_kubernetes default_route packet_filter; do "check_$each"; done
}

has_k3s() { k3s_foreign || unit_is active k3s; }

# The step k3s waits for it, since it may be starting; one that nothing starts never answers.
check_existing_k3s() {
  k3s_foreign || return 0
  if unit_is active k3s-agent || unit_is enabled k3s-agent; then
    add_problem "this machine is an agent of another k3s cluster: remove it (k3s-agent-uninstall.sh), or use another machine"
  elif ! unit_is active k3s && ! unit_is enabled k3s && ! k3s_ready; then
    add_problem "/usr/local/bin/k3s was not installed by this bootstrap, and no k3s answers: start it, or remove the file"
  fi
}

check_node_name() {
  local name
  name=$(node_name)
  if ! is_node_name "$name"; then
    add_problem "k3s's node-name '$name' is not a name that Kubernetes accepts: use a-z, 0-9, - and ., at most 63 characters"
  elif [[ $name != "$(host_name)" ]]; then
    say "k3s's node is called $name, since Kubernetes does not accept this machine's name, $(host_name)"
  fi
}

check_container() {
  local kind
  kind=$(cat "$BETA9_ROOT/run/systemd/container" 2>/dev/null || true)
  [[ -z $kind ]] || add_problem "this is a container ($kind), in which k3s cannot work: use a virtual machine or a whole machine"
}

# Kubernetes needs cgroup version 2, and these controllers.
check_cgroups() {
  local controllers each missing=''
  if ! controllers=$(cat "$BETA9_ROOT/sys/fs/cgroup/cgroup.controllers" 2>/dev/null); then
    add_problem "this machine uses cgroup version 1, which Kubernetes no longer supports: take 'systemd.unified_cgroup_hierarchy' out of the kernel's command line (/etc/default/grub, then update-grub), or set it to 1, and reboot"
    return 0
  fi
  for each in cpu cpuset memory pids; do
    [[ " $controllers " == *" $each "* ]] || missing+=" $each"
  done
  [[ -z $missing ]] || add_problem "the kernel lacks cgroup controllers that k3s needs:$missing; take 'cgroup_disable' out of its command line (/etc/default/grub, then update-grub), and reboot"
}

check_kernel() {
  local problem
  grep -qw overlay /proc/filesystems || modprobe --quiet overlay 2>/dev/null ||
    add_problem "the kernel has no overlay file system, which containers need: install the distribution's own kernel (linux-image-…, linux-modules-extra-…)"
  command -v ip >/dev/null || return 0
  # In a network namespace of its own, which ends with the command.
  problem=$(unshare --net sh -c 'ip link add b9-preflight type bridge && ip link add flannel.1 type vxlan id 1 dstport 8472' 2>&1) ||
    add_problem "the kernel cannot create the network interfaces that k3s needs (bridge, vxlan: ${problem:-no reason given}): install the distribution's own kernel (linux-image-…, linux-modules-extra-…)"
  if [[ -e $BETA9_ROOT/proc/sys/fs/inotify/max_user_instances && ! -w $BETA9_ROOT/proc/sys/fs/inotify/max_user_instances ]]; then
    add_problem "the limits in /proc/sys/fs/inotify cannot be raised, as k3s needs"
  fi
  # Before 2025: a clock without a battery. To it no certificate is valid yet, and those that k3s makes soon expire.
  (($(date +%s) > 1735689600)) || add_problem "this machine's clock says $(date +%F): set it (timedatectl set-ntp true)"
}

# k3s unpacks its programs below /var/lib, and runs them there, unless a scratch disk takes its data.
check_folders() {
  local each path
  for each in /etc /usr/local/bin /var/lib; do
    path=$BETA9_ROOT$each
    [[ -d $path ]] || continue
    [[ -w $path ]] || add_problem "$each is read-only, and the bootstrap installs files there"
    [[ $each != /var/lib || -z $(find_scratch 2>/dev/null 3>&2) ]] || continue
    [[ $each == /etc || ,$(findmnt -no OPTIONS -T "$path" 2>/dev/null), != *,noexec,* ]] ||
      add_problem "$each is mounted noexec, and k3s runs programs from there: mount -o remount,exec $(findmnt -no TARGET -T "$path"), and change /etc/fstab"
  done
}

check_other_kubernetes() {
  local each
  for each in "${OTHER_KUBERNETES[@]}"; do
    if unit_is active "$each" || unit_is enabled "$each"; then
      add_problem "another Kubernetes is installed here ($each): remove it, or use another machine"
    fi
  done
}

# Sets PODS and SERVICES for the checks that follow.
check_networks() {
  local name value
  for name in BETA9_K3S_CLUSTER_CIDR BETA9_K3S_SERVICE_CIDR; do
    value=$(setting "$name")
    [[ -z $value ]] || is_network "$value" || add_problem "$name is not an IPv4 network of 12 to 24 bits, such as 10.142.0.0/16"
  done
  if ! choose_networks; then
    has_k3s || add_problem "k3s's networks for pods and services ($PODS, $SERVICES) overlap this machine's own: $TAKEN; set BETA9_K3S_CLUSTER_CIDR and BETA9_K3S_SERVICE_CIDR to networks that nothing here uses"
  elif [[ -n $TAKEN ]]; then
    say "k3s gets $PODS for pods and $SERVICES for services, since this machine's own network has $TAKEN"
  fi
  if [[ $(setting BETA9_K3S_CLUSTER_CIDR "$PODS") != "$PODS" || $(setting BETA9_K3S_SERVICE_CIDR "$SERVICES") != "$SERVICES" ]]; then
    add_problem "k3s's configuration in /etc/rancher/k3s has $PODS for pods and $SERVICES for services, which cannot be changed once k3s has run: set BETA9_K3S_CLUSTER_CIDR and BETA9_K3S_SERVICE_CIDR to these, or run bootstrap/uninstall.sh first"
  fi
}

is_network() { [[ $1 =~ ^[0-9.]+/(1[2-9]|2[0-4])$ ]] && network_range "$1"; }

# k3s takes the address of the default route's interface for the node's, and services need a route to be reached at all.
check_default_route() {
  local addresses interface
  addresses=$(ipv4_addresses)
  [[ -n $addresses ]] || return 0
  interface=$(awk '$2 !~ /^(lo$|docker|br-|cni|flannel)/ { print $2; exit }' <<<"$addresses")
  if [[ -z $interface ]]; then
    add_problem "this machine has no IPv4 address, which k3s's pods and services need"
  elif [[ $(ip -4 route show default) != *' dev '* ]]; then
    add_problem "this machine has no IPv4 default route, without which k3s does not start, even where it needs no internet: ip route add default via ROUTER, or, if there is no router, ip route add default dev $interface metric 1000 (and the same in the network's configuration)"
  fi
}

# ipv4_addresses: print them, a line each; nothing if that cannot be found out, since loopback always has one.
ipv4_addresses() { ip -4 -oneline address show 2>/dev/null || true; }

# Connections that k3s will make, tried with the machine's own packet filter.
check_packet_filter() {
  local script=$BETA9_BOOTSTRAP/lib/pod_traffic.py what detail seen=''
  [[ -z $FIREWALL ]] || return 0 # what it blocks has been reported, with a better fix
  if ! command -v python3 >/dev/null || [[ -z $(ipv4_addresses) ]]; then
    say "not tried, for lack of python3 or iproute2: whether a packet filter blocks pods"
    return 0
  fi
  while IFS=$'\t' read -r what detail; do
    [[ $seen != *"$what"* ]] || continue
    seen+=" $what"
    case $what in
      input) add_problem "a packet filter on this machine blocks what pods send to it ($detail): let $PODS and $SERVICES in, for example by iptables -I INPUT -s $PODS -j ACCEPT, or in nftables by 'ip saddr { $PODS, $SERVICES } accept' in the chain that drops them (the bootstrap closes k3s's ports to the outside itself)" ;;
      loopback) add_problem "a packet filter on this machine blocks its connections to itself ($detail): iptables -I INPUT -i lo -j ACCEPT, or in nftables 'iif lo accept'" ;;
      output) add_problem "a packet filter on this machine blocks what it sends to pods ($detail): let packets to $PODS out, for example by iptables -I OUTPUT -d $PODS -j ACCEPT, or in nftables by 'ip daddr $PODS accept', and answers in (ct state established,related)" ;;
      forward) add_problem "a packet filter on this machine blocks what pods send through it, also by the rules that k3s adds ($detail): iptables -I FORWARD -s $PODS -j ACCEPT and -d $PODS likewise, or in nftables 'ip saddr $PODS accept' and 'ip daddr $PODS accept' in the chain that drops them" ;;
    esac
  done < <(timeout "$(scaled_timeout 40)" python3 "$script" "$PODS" || say "not tried: what a packet filter does with pods' packets")
}
