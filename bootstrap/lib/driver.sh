# shellcheck shell=bash
# How an NVIDIA driver is installed, loaded and kept. Only the driver step uses it.

install_driver() {
  local branch
  branch=$(setting BETA9_NVIDIA_BRANCH)
  [[ -z $branch || $branch =~ ^[0-9]{3}$ ]] || fail "BETA9_NVIDIA_BRANCH is '$branch', not a branch as 580"
  case $(os_release ID) in
    ubuntu) driver_from_ubuntu "$branch" ;;
    debian) driver_from_nvidia "${branch:-$(setting BETA9_NVIDIA_DEBIAN_BRANCH 580)}" ;;
    *) fail "no driver can be installed on $(os_release ID)" ;;
  esac
}

# Ubuntu's own packages: signed modules built for its kernels, so nothing is compiled and Secure Boot is content.
driver_from_ubuntu() {
  local wanted=() suffix
  kernel_headers
  apt_install ubuntu-drivers-common
  [[ -z $1 ]] || wanted=("nvidia:$1-server")
  with_apt recording_packages env DEBIAN_FRONTEND=noninteractive ubuntu-drivers install --gpgpu "${wanted[@]}" ||
    fail "ubuntu-drivers could not install a driver" \
      "see the lines above in this log; name a branch with BETA9_NVIDIA_BRANCH, or bring your own driver (docs/gpu.md)"
  # It brings the module, not nvidia-smi: that is a package of the same branch.
  suffix=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 'nvidia-kernel-common-*' 2>/dev/null |
    awk '$1 ~ /^.i/ { sub(/^nvidia-kernel-common-/, "", $2); print $2; exit }') || true
  [[ -n $suffix ]] || fail "ubuntu-drivers knows no driver for these devices: $(gpu_addresses | paste -sd' ')" \
    "name a branch with BETA9_NVIDIA_BRANCH, or bring your own driver (docs/gpu.md)"
  changed "installed the NVIDIA driver, branch $suffix"
  apt_install "nvidia-utils-$suffix"
}

# NVIDIA's repository, where the distribution has none fit for servers. From 590 on its packages have no branch in
# their names: the pinning package must be there first, or the newest branch comes.
driver_from_nvidia() {
  local branch=$1 place pinning=nvidia-driver-pinning-$1 modules=nvidia-kernel-open-dkms
  place=$(setting BETA9_NVIDIA_REPOSITORY \
    "https://developer.download.nvidia.com/compute/cuda/repos/$(os_release ID)$(os_release VERSION_ID)/x86_64")
  apt_repository nvidia "$place/3bf863cc.pub" "$(setting BETA9_NVIDIA_KEY_FINGERPRINT)" "deb $place /" \
    BETA9_NVIDIA_KEY_FINGERPRINT
  kernel_headers
  fresh_lists
  if installable "$pinning"; then
    apt_install "$pinning"
  elif ((branch >= 590)); then
    fail "$place has no $pinning, and without it the newest branch would be installed instead of $branch" \
      "set BETA9_NVIDIA_BRANCH to a branch that the repository has"
  fi
  if before_turing; then modules=nvidia-kernel-dkms; fi
  apt_install nvidia-driver-cuda "$modules"
}

# For modules that are compiled here. A running kernel that is older than the archive has no headers in it any more:
# then those of its flavour, and the reboot that follows brings the kernel that they fit.
kernel_headers() {
  local running flavour
  running=$(uname -r)
  if installed "linux-headers-$running"; then return 0; fi
  fresh_lists
  if installable "linux-headers-$running"; then
    apt_install "linux-headers-$running"
    return
  fi
  flavour=${running#"${running%%[a-z]*}"}
  if installable "linux-headers-$flavour"; then
    warn "no headers for the running kernel $running: installing the newest $flavour kernel and its headers"
    apt_install "linux-image-$flavour" "linux-headers-$flavour"
  fi
}

load_driver() {
  local module output
  for module in nvidia nvidia-uvm; do
    output=$(modprobe "$module" 2>&1) || say "modprobe $module: ${output:-failed}"
  done
}

# Newest user of the module first. Fails if something still has a GPU open.
unload_driver() {
  local module
  for module in nvidia_uvm nvidia_drm nvidia_modeset nvidia; do
    if [[ -e $BETA9_ROOT/sys/module/$module ]]; then modprobe --remove "$module" 2>&1 || return 1; fi
  done
  changed "unloaded the NVIDIA module of before the upgrade"
}

# driver_advice: why a module that is installed may still not load.
driver_advice() {
  local secure_boot=$BETA9_ROOT/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
  if [[ -r $secure_boot && $(tail -c1 "$secure_boot" | od -An -tu1 | tr -d ' ') == 1 ]]; then
    echo "Secure Boot is on, and a module compiled on this machine is not signed: switch it off in the machine's firmware settings, or bring your own driver (docs/gpu.md)"
  else
    echo "look for 'NVRM' and 'nvidia' in the kernel's log (dmesg) and for a failed build in 'dkms status'; another branch: BETA9_NVIDIA_BRANCH"
  fi
}

# hold_driver: an upgrade of the libraries under a loaded module leaves every new container without GPUs, until a reboot.
hold_driver() {
  local packages prebuilt
  mapfile -t packages < <(driver_packages)
  if ((${#packages[@]} == 0)); then
    say "the driver is not from packages: nothing to hold"
    return
  fi
  apt_hold "${packages[@]}"
  # Modules that come built fit one kernel: a newer kernel without them would start without GPUs.
  prebuilt=$(printf '%s\n' "${packages[@]}" | grep -c '^linux-modules-nvidia-' || true)
  put_file "$BETA9_ROOT/etc/apt/apt.conf.d/52beta9-worker" 0644 < <(unattended "$prebuilt")
}

driver_packages() {
  installed_packages | grep -E '^(nvidia|libnvidia|libcuda1|cuda-drivers|linux-(modules|objects|signatures)-nvidia|xserver-xorg-video-nvidia)' |
    grep -vE '^(nvidia-container|libnvidia-container|nvidia-docker)' || true
}

unattended() {
  echo '// Unattended upgrades leave the GPU driver alone, and what must fit it. By beta9-worker; see docs/gpu.md.'
  echo 'Unattended-Upgrade::Package-Blacklist {'
  printf '  "%s";\n' '^nvidia-(?!container)' '^libnvidia-(?!container)' '^linux-(modules|objects|signatures)-nvidia-' \
    '^cuda-drivers' '^libcuda1'
  (($1 == 0)) || printf '  "%s";\n' '^linux-(image|headers|modules|generic|virtual|aws|azure|gcp|oracle|ibm|kvm|lowlatency|nvidia)'
  echo '};'
}
