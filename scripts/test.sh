#!/usr/bin/env bash
# Runs the tests, all steps or those named: lint unit loom sim veth. Counts passed, failed and skipped
# over all of them, says what was skipped, and leaves no namespace, process or link behind.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin

steps=("$@")
((${#steps[@]})) || steps=(lint unit loom sim veth)
logs=$(mktemp -d /tmp/swtest.XXXXXX)
# Every namespace of this run carries this prefix, so that a killed test's leftovers can be found.
export SWT_PREFIX=swt$$
passed=0 failed=0 skipped=0
broken=()

cleanup() {
  local name
  for name in $(ip netns list 2>/dev/null | awk -v p="$SWT_PREFIX-" 'index($1, p) == 1 {print $1}'); do
    echo "test: removing the leftover namespace $name" >&2
    ip netns pids "$name" 2>/dev/null | xargs -r kill -9
    ip netns del "$name"
  done
  rm -rf "$logs"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# run NAME COMMAND...: shows the step's output as it comes, adds up what its test runners counted.
run() {
  local name=$1 log=$logs/$1 start=$SECONDS status
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  local p f s
  read -r p f < <(awk '/^test result:/ {for (i = 1; i < NF; i++) {if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i}}
    END {print p + 0, f + 0}' "$log")
  s=$(grep -c '^SKIPPED: ' "$log")
  # A skipped test returns early and is counted as passed by its runner.
  passed=$((passed + p - s)) failed=$((failed + f)) skipped=$((skipped + s))
  if ((status != 0)); then
    broken+=("$name")
    ((f > 0)) || failed=$((failed + 1))
  elif ((p + f == 0)); then
    passed=$((passed + 1))
  fi
  printf -- '-- %s: %s in %d s\n' "$name" "$( ((status == 0)) && echo ok || echo FAILED)" $((SECONDS - start))
  if ((s > 0)); then grep '^SKIPPED: ' "$log" >>"$logs/skips"; fi
}

for step in "${steps[@]}"; do
  case $step in
    lint)
      run format cargo fmt --all --check
      run clippy cargo clippy --workspace --all-targets --locked -- -D warnings
      ;;
    unit)
      run unit cargo test --locked -p switch -p ctl -p bench --lib --bins --tests -- --show-output
      ;;
    loom)
      # Few files, optimised, in a target folder of their own: everything is built with --cfg loom.
      run loom env RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom cargo test --locked -p loom-tests --release loom
      ;;
    sim)
      run sim cargo test --locked -p tests --lib --test simulation --test conformance_l2 --test golden \
        --test no_alloc --test fuzz_regressions --test tidy -- --nocapture
      ;;
    veth)
      # Binaries of the dev profile: optimised a little, every assertion on.
      run binaries cargo build --locked -p switch -p ctl
      run veth env SWITCHD_BIN="$PWD/target/debug/switchd" SWITCHCTL_BIN="$PWD/target/debug/switchctl" \
        cargo test --locked -p tests --test 'veth*' --test 'afxdp*' -- --nocapture --test-threads=1
      ;;
    *)
      echo "test.sh: '$step' is none of lint, unit, loom, sim, veth" >&2
      exit 2
      ;;
  esac
done

if [[ -s $logs/skips ]]; then
  printf '\nNot run here:\n'
  cat "$logs/skips"
fi
if ((${#broken[@]})); then printf '\nFailed steps: %s\n' "${broken[*]}"; fi
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
