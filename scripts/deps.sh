#!/usr/bin/env bash
# Installs what is missing to build, test or try the switch on Debian 12, and says what.
# Usage: scripts/deps.sh build|demo|test|bench|fuzz
set -euo pipefail

want=${1:?usage: scripts/deps.sh build|demo|test|bench|fuzz}

# command (or file) that shows a package is there : package
build=(clang:clang llvm-strip:llvm m4:m4 pkg-config:pkg-config
  /usr/include/libelf.h:libelf-dev /usr/include/zlib.h:zlib1g-dev /usr/include/pcap.h:libpcap-dev
  /usr/lib/llvm-14/lib/libclang.so.1:libclang-dev)
demo=(ip:iproute2 ping:iputils-ping)
test=(ethtool:ethtool tshark:tshark iperf3:iperf3 nft:nftables arping:iputils-arping pgrep:procps)
fuzz=(c++:g++)
bench=(ovs-vswitchd:openvswitch-switch dpdk-testpmd:dpdk-dev)

case $want in
  build) list=("${build[@]}") ;;
  demo) list=("${build[@]}" "${demo[@]}") ;;
  test) list=("${build[@]}" "${demo[@]}" "${test[@]}") ;;
  fuzz) list=("${build[@]}" "${fuzz[@]}") ;;
  bench) list=("${build[@]}" "${demo[@]}" "${test[@]}" "${bench[@]}") ;;
  *) echo "deps.sh: '$want' is none of build, demo, test, bench, fuzz" >&2; exit 2 ;;
esac

export PATH=$PATH:/usr/sbin:/sbin
missing=()
for pair in "${list[@]}"; do
  sign=${pair%:*} package=${pair##*:}
  if [[ $sign == /* ]]; then
    # libclang's folder carries its version: any will do.
    [[ -e $sign ]] || compgen -G "${sign/llvm-14/llvm-*}" >/dev/null || missing+=("$package")
  else
    command -v "$sign" >/dev/null || missing+=("$package")
  fi
done
((${#missing[@]})) || exit 0

echo "deps: installing Debian packages: ${missing[*]}"
if ! command -v apt-get >/dev/null; then
  echo "deps.sh: no apt-get here: install the counterparts of: ${missing[*]}" >&2
  exit 1
fi
sudo=()
if ((EUID != 0)); then sudo=(sudo); fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${sudo[@]}" apt-get update &&
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 15 "$log" >&2
  echo "deps.sh: apt-get failed: install by hand: ${missing[*]}" >&2
  exit 1
fi
