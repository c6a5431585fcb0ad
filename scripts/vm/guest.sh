#!/usr/bin/env bash
# Process 1 of the virtual machine: runs what target/vm/jobs lists, then ends the machine. scripts/bench-vm.sh, which
# starts it, reads the output: every line comes from the programs but those that begin with "vm:".
cd "$(dirname "$0")/../.."
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/mnt/tests

# Seconds since the machine started.
uptime_s() { cut -d. -f1 /proc/uptime; }

# job LIMIT NAME COMMAND...: runs one program for LIMIT seconds at most and says how it ended.
job() {
  local limit=$1 name=$2 start status
  shift 2
  start=$(uptime_s)
  printf '\nvm: begin %s\n' "$name"
  # Through a pipe, since the console is a terminal, for which some programs draw.
  timeout --kill-after=10 "$limit" "$@" </dev/null 2>&1 | cat
  status=${PIPESTATUS[0]}
  ((status == 124 || status == 137)) && printf '\nvm: %s was ended after %s s\n' "$name" "$limit"
  printf '\nvm: end %s %s %s\n' "$name" "$status" $(($(uptime_s) - start))
}

ip link set lo up
echo "vm: kernel $(uname -r), $(nproc) cores, $(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024)) MiB," \
  "booted in $(uptime_s) s"
# shellcheck source=/dev/null
. target/vm/jobs
# Only what the programs should have removed themselves.
left=$(ip netns list | awk '{print "namespace " $1}'; ip -o link | awk -F': ' '$2 != "lo" {print "link " $2}')
printf 'vm: left %s\n' "${left:-nothing}"
echo 'vm: exit 0'
mkfifo /run/end
sync
echo o >/proc/sysrq-trigger
# Nobody ever writes to it; process 1 must not end before the machine does.
read -r _ </run/end
