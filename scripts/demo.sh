#!/usr/bin/env bash
# Three network namespaces as containers, joined to a fourth (the host) by veth pairs, switched by
# switchd. Shows pings, a TCP transfer, the learned addresses and the counters, then removes all of it.
# KEEP=1 leaves it up. Nothing outside the namespaces made here is touched.
# BIN_DIR: where switchd and switchctl are (default target/release). DEMO_PREFIX: how the namespaces' names begin.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$(realpath -m "${BIN_DIR:-target/release}")
export PATH=$bin:$PATH:/usr/sbin:/sbin
run=${DEMO_PREFIX:-swdemo}-$$
host=$run-host
work=$(mktemp -d /tmp/swdemo.XXXXXX)
socket=$work/control.sock
switchd_pid='' receiver=''

((EUID == 0)) || { echo "demo: needs root to make network namespaces: sudo make demo" >&2; exit 1; }
[[ -x $bin/switchd && -x $bin/switchctl ]] || { echo "demo: no switchd and switchctl in $bin: make build" >&2; exit 1; }

cleanup() {
  local pid
  for pid in $receiver $switchd_pid; do
    kill "$pid" 2>/dev/null || continue
    wait "$pid" 2>/dev/null || true
  done
  for name in web db client; do ip netns del "$run-$name" 2>/dev/null || true; done
  ip netns del "$host" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }
inside() { ip netns exec "$run-$1" "${@:2}"; }

say "1. Three containers: web, db and client, each with eth0, host ends web0, db0 and client0"
ip netns add "$host"
ip -n "$host" link set lo up
index=1
for name in web db client; do
  ip netns add "$run-$name"
  ip -n "$host" link add "${name}0" type veth peer name eth0 netns "$run-$name"
  ip -n "$host" link set "${name}0" up
  ip -n "$run-$name" addr add "10.10.0.$index/24" dev eth0
  ip -n "$run-$name" addr add "fd00:10::$index/64" dev eth0 nodad
  ip -n "$run-$name" link set lo up
  ip -n "$run-$name" link set eth0 up
  index=$((index + 1))
done

say "2. switchd --config configs/demo.toml (its control socket moved to $socket)"
sed "s|^control_socket.*|control_socket = \"$socket\"|" configs/demo.toml >"$work/demo.toml"
grep -q "$socket" "$work/demo.toml"
ip netns exec "$host" switchd --config "$work/demo.toml" 2>"$work/log" &
switchd_pid=$!
ready=''
for _ in $(seq 100); do
  if ! kill -0 "$switchd_pid" 2>/dev/null; then break; fi
  if switchctl --socket "$socket" --json show-ports 2>/dev/null | grep -o '"state": *"up"' | wc -l | grep -qx 3; then
    ready=1
    break
  fi
  sleep 0.1
done
if [[ -z $ready ]]; then
  cat "$work/log" >&2
  echo "demo: switchd did not bring its three ports up within 10 s" >&2
  exit 1
fi
sed 's/^/   /' "$work/log"

say "3. client pings web and db, IPv4 and IPv6"
show inside client ping -q -c 3 -i 0.2 10.10.0.1
show inside client ping -q -c 3 -i 0.2 fd00:10::2

say "4. 64 MiB over TCP from client to web, with the containers' default offloads"
head -c 67108864 /dev/urandom >"$work/data"
# Not by `inside`: the job is then the command itself, and cleanup can end it.
ip netns exec "$run-web" timeout 60 python3 -c '
import hashlib, socket
listener = socket.create_server(("10.10.0.1", 5001))
connection, _ = listener.accept()
digest = hashlib.sha256()
while block := connection.recv(1 << 20):
    digest.update(block)
print(digest.hexdigest())' >"$work/received" &
receiver=$!
sleep 0.5
inside client timeout 60 python3 -c '
import socket, sys, time
start = time.monotonic()
connection = socket.create_connection(("10.10.0.1", 5001), timeout=10)
with open(sys.argv[1], "rb") as data:
    connection.sendfile(data)
connection.close()
print(f"   64 MiB sent in {time.monotonic() - start:.2f} s")' "$work/data"
wait "$receiver"
receiver=''
sent=$(sha256sum <"$work/data" | cut -d' ' -f1)
[[ $sent == "$(cat "$work/received")" ]] || { echo "demo: SHA-256 differs" >&2; exit 1; }
echo "   SHA-256 equal at both ends: ${sent:0:16}..."

say "5. What the switch learned"
show switchctl --socket "$socket" show-fdb
say "6. Its ports"
show switchctl --socket "$socket" show-ports
show switchctl --socket "$socket" show-drops

if [[ -n ${KEEP:-} ]]; then
  trap - EXIT INT TERM
  disown "$switchd_pid"
  cat <<END

Left up, as you asked. Try:
  ip netns exec $run-client ping 10.10.0.1
  $bin/switchctl --socket $socket --watch show-ports
  $bin/switchctl --socket $socket set-port db0 --isolated on
  $bin/switchctl --socket $socket --help
Remove it:
  kill $switchd_pid; for n in web db client host; do ip netns del $run-\$n; done; rm -rf $work
END
else
  say "7. Everything is removed again (make demo KEEP=1 leaves it up)"
fi
