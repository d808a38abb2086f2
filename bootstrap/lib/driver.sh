# shellcheck shell=bash
# Install, load and hold the NVIDIA driver. Used by the driver step only.

install_driver() {
  local branch
  branch=$(setting BETA9_NVIDIA_BRANCH)
  [[ -z $branch || $branch =~ ^[0-9]{3}$ ]] || fail "BETA9_NVIDIA_BRANCH is '$branch', not a branch such as 580"
  case $(os_release ID) in
    ubuntu) driver_from_ubuntu "$branch" ;;
    debian) driver_from_nvidia "${branch:-$(setting BETA9_NVIDIA_DEBIAN_BRANCH 580)}" ;;
    *) fail "installing a driver is not supported on $(os_release ID)" ;;
  esac
}

# Ubuntu's packages contain signed modules for its kernels: nothing is compiled, and Secure Boot accepts them.
driver_from_ubuntu() {
  local wanted=()
  kernel_headers
  apt_install ubuntu-drivers-common
  [[ -z $1 ]] || wanted=("nvidia:$1-server")
  with_apt run_ubuntu_drivers "${wanted[@]}"
  changed "installed the NVIDIA driver, branch $(ubuntu_branch)"
  # ubuntu-drivers installs the module but not nvidia-smi, which is a separate package of the same branch.
  apt_install "nvidia-utils-$(ubuntu_branch)"
}

NO_DRIVER="ubuntu-drivers found no driver for these devices"

run_ubuntu_drivers() {
  local advice="set BETA9_NVIDIA_BRANCH, or install a driver yourself (docs/gpu.md)"
  with_lists installing ubuntu_drivers "$@" && return
  [[ -z $(apt_errors)$(apt_removals) ]] || fail_apt "ubuntu-drivers could not install a driver"
  ! grep -qxF "$NO_DRIVER" "$APT_OUTPUT" || fail "$NO_DRIVER: $(gpu_addresses | paste -sd' ')$(unread_sources)" "$advice"
  fail "ubuntu-drivers could not install a driver$(unread_sources)" "see the lines above in this log; $advice"
}

# ubuntu_drivers [DRIVER]: its apt-get runs with the settings of ours. It may end well without a driver: if it knows none,
# or if it keeps to itself that apt was locked.
ubuntu_drivers() {
  local code=0
  apt_unlocked || return
  DEBIAN_FRONTEND=noninteractive APT_CONFIG=$APT_CONF ubuntu-drivers install --gpgpu "$@" || code=$?
  if [[ -z $(ubuntu_branch) ]]; then
    apt_unlocked || return
    if ((code == 0)); then echo "$NO_DRIVER" && code=1; fi
  fi
  return "$code"
}

apt_unlocked() { python3 "$BETA9_BOOTSTRAP/lib/apt_locks.py" "$BETA9_ROOT"; }

ubuntu_branch() { # print the branch of the installed driver, such as 580-server, or nothing
  dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 'nvidia-kernel-common-*' 2>/dev/null |
    awk '$1 ~ /^.i/ { sub(/^nvidia-kernel-common-/, "", $2); print $2; exit }' || true
}

# Use NVIDIA's repository, since Debian has no suitable server driver. From branch 590 on its package names do not
# contain the branch: without the pinning package apt would install the newest branch.
driver_from_nvidia() {
  local branch=$1 repository pinning=nvidia-driver-pinning-$1 modules=nvidia-kernel-open-dkms
  repository=$(setting BETA9_NVIDIA_REPOSITORY \
    "https://developer.download.nvidia.com/compute/cuda/repos/$(os_release ID)$(os_release VERSION_ID)/x86_64")
  apt_repository nvidia "$repository/3bf863cc.pub" "$(setting BETA9_NVIDIA_KEY_FINGERPRINT)" "deb $repository /" \
    BETA9_NVIDIA_KEY_FINGERPRINT
  kernel_headers
  if available "$pinning"; then
    apt_install "$pinning"
  elif ((branch >= 590)); then
    fail "$(shown "$repository") has no $pinning; without it the newest branch would be installed instead of $branch" \
      "set BETA9_NVIDIA_BRANCH to a branch that the repository has"
  fi
  if before_turing; then modules=nvidia-kernel-dkms; fi
  apt_install nvidia-driver-cuda "$modules"
}

# Modules that are compiled on this machine need headers. If the archive no longer has those of the running kernel,
# install the current kernel of the same flavour with its headers; the reboot that follows starts that kernel.
kernel_headers() {
  local running flavour
  running=$(uname -r)
  if is_installed "linux-headers-$running"; then return 0; fi
  if available "linux-headers-$running"; then
    apt_install "linux-headers-$running"
    return
  fi
  flavour=${running#"${running%%[a-z]*}"}
  if available "linux-headers-$flavour"; then
    warn "no headers available for the running kernel $running: installing the newest $flavour kernel and its headers"
    apt_install "linux-image-$flavour" "linux-headers-$flavour"
  fi
}

load_driver() {
  local module output
  for module in nvidia nvidia-uvm; do
    output=$(modprobe "$module" 2>&1) || say "modprobe $module: ${output:-failed}"
  done
}

# Dependent modules go first. Fails if a process still has a GPU open.
unload_driver() {
  local module
  for module in nvidia_uvm nvidia_drm nvidia_modeset nvidia; do
    if [[ -e $BETA9_ROOT/sys/module/$module ]]; then modprobe --remove "$module" 2>&1 || return 1; fi
  done
  changed "unloaded the NVIDIA module from before the upgrade"
}

# driver_advice: print the likely fix for an installed module that does not load.
driver_advice() {
  local secure_boot=$BETA9_ROOT/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
  if [[ -r $secure_boot && $(tail -c1 "$secure_boot" | od -An -tu1 | tr -d ' ') == 1 ]]; then
    echo "Secure Boot is enabled, and a module compiled on this machine is not signed: disable it in the firmware settings, or install a driver yourself (docs/gpu.md)"
  else
    echo "look for 'NVRM' and 'nvidia' in the kernel log (dmesg) and for a failed build in 'dkms status'; to try another branch set BETA9_NVIDIA_BRANCH"
  fi
}

# hold_driver: upgrading the libraries while a module is loaded leaves every new container without GPUs until a reboot.
hold_driver() {
  local packages prebuilt
  mapfile -t packages < <(driver_packages)
  if ((${#packages[@]} == 0)); then
    say "the driver was not installed from packages: nothing to hold"
    return
  fi
  apt_hold "${packages[@]}"
  # Prebuilt modules match one kernel version: a newer kernel would start without GPUs.
  prebuilt=$(printf '%s\n' "${packages[@]}" | grep -c '^linux-modules-nvidia-' || true)
  put_file "$BETA9_ROOT/etc/apt/apt.conf.d/52beta9-worker" 0644 < <(unattended_upgrades_config "$prebuilt")
}

driver_packages() {
  installed_packages | grep -E '^(nvidia|libnvidia|libcuda1|cuda-drivers|linux-(modules|objects|signatures)-nvidia|xserver-xorg-video-nvidia)' |
    grep -vE '^(nvidia-container|libnvidia-container|nvidia-docker)' || true
}

# unattended_upgrades_config COUNT: COUNT is the number of packages with prebuilt modules; if any, hold kernels as well.
unattended_upgrades_config() {
  echo '// Written by beta9-worker: exclude the GPU driver, and what must match it, from unattended upgrades (docs/gpu.md).'
  echo 'Unattended-Upgrade::Package-Blacklist {'
  printf '  "%s";\n' '^nvidia-(?!container)' '^libnvidia-(?!container)' '^linux-(modules|objects|signatures)-nvidia-' \
    '^cuda-drivers' '^libcuda1'
  (($1 == 0)) || printf '  "%s";\n' '^linux-(image|headers|modules|generic|virtual|aws|azure|gcp|oracle|ibm|kvm|lowlatency|nvidia)'
  echo '};'
}
