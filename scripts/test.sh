#!/usr/bin/env bash
# Runs the tests, all steps or those named: lint unit loom sim instructions veth demo. Counts passed, failed and skipped
# over all of them, says what was skipped, and checks last that no namespace, process or link is left behind.
# The last line is the sum: N passed, N failed, N skipped.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin

# A first build makes no notes for the next one: they take longer than they save where there is none.
[[ -d target/debug/incremental ]] || export CARGO_INCREMENTAL=0

steps=("$@")
((${#steps[@]})) || steps=(lint unit loom sim instructions veth demo)
logs=$(mktemp -d /tmp/swtest.XXXXXX)
# Every namespace of this run carries this prefix, and every process of a test has it in its environment, so that
# leftovers can be found. Not exported: this script's own commands are none.
prefix=swt$$
marked=(env SWT_PREFIX="$prefix")
passed=0 failed=0 skipped=0
broken=()

# Namespaces of this run.
namespaces() { ip netns list 2>/dev/null | awk -v p="$prefix-" 'index($1, p) == 1 {print $1}'; }

# Processes that this run's tests started and that still live: id and name.
processes() {
  local file pid
  while read -r file; do
    pid=${file#/proc/} pid=${pid%/environ}
    echo "$pid $(cat "/proc/$pid/comm" 2>/dev/null)"
  done < <(grep -lsazxF "SWT_PREFIX=$prefix" /proc/[0-9]*/environ)
}

# Interfaces beside the tests, by number and name, without those that container runtimes make and remove.
links() { ip -o link 2>/dev/null | awk -F': ' '{print $1, $2}' | grep -vE ' veth[0-9a-f]{7,8}(@|$)' | sort; }

remove_leftovers() {
  local name pid
  processes | while read -r pid _; do kill -9 "$pid"; done
  for name in $(namespaces); do ip netns del "$name"; done
}

# The last test: names what this run left behind, and removes it (but links, which may be somebody else's).
check_leftovers() {
  local left
  # A process that was told to end may take a moment.
  for _ in $(seq 20); do
    left=$(processes | sed 's/^/process /'; namespaces | sed 's/^/namespace /'
      comm -13 "$logs/links" <(links) | sed 's/^/link /')
    [[ -n $left ]] || break
    sleep 0.1
  done
  if [[ -n $left ]]; then
    printf '%s\n' "$left"
    remove_leftovers
    echo 'test result: FAILED. 0 passed; 1 failed'
    return 1
  fi
  echo 'nothing is left: no namespace, no process, no link'
  echo 'test result: ok. 1 passed; 0 failed'
}

cleanup() {
  remove_leftovers 2>/dev/null
  rm -rf "$logs"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Lines of a log that say that a test did not run. Its runner may have begun the line with the test's name. What is
# ignored because another test runs it is no test.
skips_in() {
  sed -nE -e 's/^(test .* \.\.\. )?(SKIPPED: .*)/\2/p' \
    -e '/ignored, run by /d' -e 's/^test (.*) \.\.\. (ignored.*)/IGNORED: \1: \2/p' "$1"
}

# skip WHAT WHY: counts something that cannot run here.
skip() {
  echo "SKIPPED: $1: $2" | tee -a "$logs/skips"
  skipped=$((skipped + 1))
}

# What the tests that failed in a step's log said: its panics, each with the lines up to the runner's next word. Those
# of threads without a name may be any test's; those of tests that passed are meant.
panics_in() {
  awk '
    FNR == NR { if (/^test .* FAILED$/) name[$2]; if (listed && /^    [^ ]+$/) name[$1]; if (/^failures:$/) listed = 1
      if (/^test result:/) listed = 0; next }
    match($0, /thread \047[^\047]*\047.* panicked at /) { split(substr($0, RSTART), part, "\047")
      shown = (part[2] in name || part[2] == "<unnamed>") ? 40 : 0; $0 = substr($0, RSTART) }
    /^(note: run with|test |FAILED$|---- |failures:$)/ { shown = 0 }
    shown-- > 0' "$1" "$1"
}

# fail NAME: counts a step that failed without a count of its own.
fail() {
  broken+=("$1")
  failed=$((failed + 1))
}

# account NAME STATUS START: adds up what a step's test runners counted in its log. A command that counts nothing is one
# test.
account() {
  local name=$1 status=$2 start=$3 log=$logs/$1 p f s
  read -r p f < <(awk '/^test result:/ {for (i = 1; i < NF; i++) {if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i}}
    END {print p + 0, f + 0}' "$log")
  skips_in "$log" >"$logs/new-skips"
  cat "$logs/new-skips" >>"$logs/skips"
  s=$(grep -c '^SKIPPED' "$logs/new-skips")
  # A skipped test returns early and is counted as passed by its runner; an ignored one is not counted by it.
  passed=$((passed + p - s)) failed=$((failed + f)) skipped=$((skipped + $(wc -l <"$logs/new-skips")))
  if ((status != 0)); then
    if ((f > 0)); then broken+=("$name"); else fail "$name"; fi
  elif ((p + f == 0)); then
    passed=$((passed + 1))
  fi
  printf -- '-- %s: %s in %d s\n' "$name" "$( ((status == 0)) && echo ok || echo FAILED)" $((SECONDS - start))
}

# run NAME COMMAND...: a step, its output shown as it comes.
run() {
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  "$@" 2>&1 | tee "$logs/$name"
  account "$name" "${PIPESTATUS[0]}" "$start"
}

# begin NAME COMMAND...: a step beside those that follow; for what a busy machine does not disturb.
begin() {
  local name=$1
  shift
  printf '\n== %s, beside what follows: %s\n' "$name" "$*"
  "$@" >"$logs/$name" 2>&1 &
  beside_name=$name beside_pid=$! beside_start=$SECONDS
}

# Waits for the step that was begun, and shows its output.
finish() {
  [[ -n ${beside_pid:-} ]] || return 0
  wait "$beside_pid"
  local status=$?
  printf '\n== %s\n' "$beside_name"
  cat "$logs/$beside_name"
  account "$beside_name" "$status" "$beside_start"
  beside_pid=
}

# All steps name the same packages: features of the libraries follow from them, and nothing is built twice.
packages=(--locked -p switch -p ctl -p bench -p tests)

# The programs under test, of the dev profile: optimised a little, every assertion on; and the tests. Not a test: only
# its failure counts.
build() {
  cargo build "${packages[@]}" --bins --tests || { fail binaries; return 1; }
}

# The packages' integration tests, as cargo's arguments. Those of the package `tests` have steps of their own.
integration() {
  local file
  for file in {switch,ctl,bench}/tests/*.rs; do printf -- '--test %s ' "$(basename "$file" .rs)"; done
}

lint() {
  if cargo fmt --version >/dev/null 2>&1; then
    run format cargo fmt --all --check
  else
    skip 'lint: format' 'no cargo fmt: rustup component add rustfmt'
  fi
  if cargo clippy --version >/dev/null 2>&1; then
    run clippy cargo clippy --workspace --all-targets --locked -- -D warnings
  else
    skip 'lint: clippy' 'no cargo clippy: rustup component add clippy'
  fi
}

for step in "${steps[@]}"; do
  case $step in
    lint | unit | loom | sim | instructions | veth | demo) ;;
    *) echo "test.sh: '$step' is none of lint, unit, loom, sim, instructions, veth, demo" >&2; exit 2 ;;
  esac
done
links >"$logs/links"

for step in "${steps[@]}"; do
  case $step in
    lint) lint ;;
    unit)
      finish
      # shellcheck disable=SC2046
      build && run unit "${marked[@]}" cargo test "${packages[@]}" --lib --bins $(integration) --no-fail-fast -- --show-output
      ;;
    loom)
      # Few files, optimised, in a target folder of their own: everything is built with --cfg loom. One at a time: each
      # maps and unmaps stacks by the million, for which threads of one process wait for each other.
      begin loom "${marked[@]}" RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom \
        cargo test --locked -p loom-tests --release loom -- --test-threads=1
      ;;
    sim)
      build && run sim "${marked[@]}" cargo test "${packages[@]}" --test simulation --test conformance_l2 --test conformance_l3 \
        --test golden --test no_alloc --test fuzz_regressions --test tidy --no-fail-fast -- --nocapture
      ;;
    instructions)
      # The optimised path under callgrind, against the committed counts: the same on a busy machine.
      run instructions cargo bench --locked -p bed --bench instructions
      ;;
    veth)
      finish
      build && run veth "${marked[@]}" SWITCHD_BIN="$PWD/target/debug/switchd" SWITCHCTL_BIN="$PWD/target/debug/switchctl" \
        cargo test "${packages[@]}" --test 'veth*' --test 'afxdp*' --no-fail-fast -- --nocapture --test-threads=1
      ;;
    demo)
      finish
      if ((EUID == 0)); then
        build && run demo "${marked[@]}" BIN_DIR=target/debug DEMO_PREFIX="$prefix-demo" KEEP= scripts/demo.sh
      else
        skip demo 'needs root'
      fi
      ;;
  esac
done
finish
run leftovers check_leftovers

if [[ -s $logs/skips ]]; then
  printf '\nNot run here:\n'
  cat "$logs/skips"
fi
for step in "${broken[@]}"; do
  said=$([[ -f $logs/$step ]] && panics_in "$logs/$step")
  [[ -z $said ]] || printf '\nSaid by what failed in %s:\n%s\n' "$step" "$said"
done
if ((${#broken[@]})); then printf '\nFailed steps: %s\n' "${broken[*]}"; fi
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
