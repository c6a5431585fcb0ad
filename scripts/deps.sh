#!/usr/bin/env bash
# Installs what is missing to build, test or try the switch on Debian 12, and says what.
# Usage: scripts/deps.sh build|demo|test|bench|fuzz|vm
set -euo pipefail

want=${1:?usage: scripts/deps.sh build|demo|test|bench|fuzz|vm}

# command (or file) that shows a package is there : package
# libbpf is built by make with cc and finds its libraries by pkg-config; libxdp's BPF programs are made by m4 and
# clang, whose package brings libclang (for the bindings), the C library's headers, ld and objcopy.
build=(cc:gcc make:make clang:clang m4:m4 pkg-config:pkg-config
  /usr/include/libelf.h:libelf-dev /usr/include/zlib.h:zlib1g-dev)
demo=(ip:iproute2 ping:iputils-ping python3:python3)
test=(ethtool:ethtool tshark:tshark iperf3:iperf3 nft:nftables valgrind:valgrind
  traceroute:traceroute mtr:mtr-tiny tracepath:iputils-tracepath arping:iputils-arping rdisc6:ndisc6
  udhcpc:udhcpc dhclient:isc-dhcp-client dhcpcd:dhcpcd-base /usr/lib/python3/dist-packages/scapy:python3-scapy)
fuzz=(c++:g++)
bench=(ovs-vswitchd:openvswitch-switch dpdk-testpmd:dpdk-dev /usr/include/dpdk/rte_hash.h:libdpdk-dev)
vm=(qemu-system-x86_64:qemu-system-x86 modprobe:kmod)
# Taken apart into target/vm, never installed: a kernel for the virtual machine and the tools of its first minute.
vm_kernel=linux-image-amd64
vm_tools=busybox-static

case $want in
  build) list=("${build[@]}") ;;
  demo) list=("${build[@]}" "${demo[@]}") ;;
  test) list=("${build[@]}" "${demo[@]}" "${test[@]}") ;;
  fuzz) list=("${build[@]}" "${fuzz[@]}") ;;
  bench) list=("${build[@]}" "${demo[@]}" "${test[@]}" "${bench[@]}") ;;
  vm) list=("${build[@]}" "${demo[@]}" "${test[@]}" "${vm[@]}") ;;
  *) echo "deps.sh: '$want' is none of build, demo, test, bench, fuzz, vm" >&2; exit 2 ;;
esac

export PATH=$PATH:/usr/sbin:/sbin
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Puts the packages whose signs are not here into `missing`.
find_missing() {
  local pair sign
  missing=()
  for pair in "${list[@]}"; do
    sign=${pair%:*}
    if [[ $sign == /* ]]; then
      [[ -e $sign ]] || missing+=("${pair##*:}")
    else
      command -v "$sign" >/dev/null || missing+=("${pair##*:}")
    fi
  done
}

install_missing() {
  local sudo=()
  echo "deps: installing Debian packages: ${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    echo "deps.sh: no apt-get here: install the counterparts of: ${missing[*]}" >&2
    exit 1
  fi
  if ((EUID != 0)); then sudo=(sudo); fi
  if ! { "${sudo[@]}" apt-get update &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    echo "deps.sh: apt-get failed: install by hand: ${missing[*]}" >&2
    exit 1
  fi
}

# Downloads the virtual machine's packages and takes them apart, once: `make clean` forgets them.
unpack_vm() {
  local root package sudo=()
  root=$(dirname "$0")/../target/vm
  if compgen -G "$root/root/boot/vmlinuz-*" >/dev/null && [[ -x $root/root/bin/busybox ]]; then return; fi
  rm -rf "$root/packages" "$root/root"
  mkdir -p "$root/packages" "$root/root"
  if ((EUID != 0)); then sudo=(sudo); fi
  # The kernel's name stands for its newest version; the package depends on that.
  kernel_package() { apt-cache depends "$vm_kernel" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1; }
  package=$(kernel_package)
  if [[ -z $package ]]; then
    "${sudo[@]}" apt-get update >"$log" 2>&1 || true
    package=$(kernel_package)
  fi
  echo "deps: unpacking into target/vm, not installing: $package $vm_tools"
  if ! { [[ -n $package ]] && cd "$root/packages" && apt-get download "$package" "$vm_tools"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "deps.sh: cannot download $vm_kernel and $vm_tools (apt-get download)" >&2
    exit 1
  fi
  for package in ./*.deb; do dpkg-deb -x "$package" ../root; done
  rm -f ./*.deb
}

# The compiler's formatter and linter. Without them the lint steps say that they are skipped: not worth failing for.
add_lints() {
  if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then return; fi
  command -v rustup >/dev/null || return 0
  echo "deps: adding Rust components: rustfmt clippy"
  if ! rustup component add rustfmt clippy >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "deps.sh: rustup failed: lint will be skipped" >&2
  fi
}

if ! command -v cargo >/dev/null; then
  echo "deps.sh: no cargo on PATH: install Rust 1.90 or newer (Debian 12's own is older)" >&2
  exit 1
fi
# What .cargo/config.toml has the compiler take for granted; without it programs would end at an illegal instruction.
if [[ $(uname -m) == x86_64 ]] && ! grep -qw popcnt /proc/cpuinfo; then
  echo "deps.sh: this processor is no x86-64-v2 (popcnt, SSE4.2): give a virtual machine a newer model (qemu: -cpu host)," \
    "or remove .cargo/config.toml" >&2
  exit 1
fi
find_missing
if ((${#missing[@]})); then install_missing; fi
if [[ $want == test ]]; then add_lints; fi
if [[ $want == vm ]]; then unpack_vm; fi
