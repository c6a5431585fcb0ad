#!/usr/bin/env bash
# Fuzzes with libFuzzer on the stable compiler: each target of tests/src/fuzz, or those named, for
# FUZZ_SECONDS (default 600), one after another. An input that breaks a target is kept in
# tests/fuzz/regressions/<target>/, where `make test` replays it.
# Usage: [FUZZ_SECONDS=600] scripts/fuzz.sh [frame|checksum|config|control|router]...
set -uo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-600}
targets=("$@")
((${#targets[@]})) || targets=(frame checksum config control router)
for target in "${targets[@]}"; do
  if [[ ! -f tests/fuzz/src/bin/$target.rs ]]; then
    echo "fuzz.sh: '$target' is none of: $(cd tests/fuzz/src/bin && echo *.rs | sed 's/\.rs//g')" >&2
    exit 2
  fi
done

# Found inputs grow here from run to run; only the seeds are under version control.
work=target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
# The coverage that libFuzzer steers by: LLVM's own pass, which stable rustc can be told to run. Naming the
# host as --target keeps the flags from build scripts.
coverage=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1)
# Not --locked: its lock file also lists what the packages of this repository use, which changes with them.
echo "fuzz: building"
RUSTFLAGS="${coverage[*]}" cargo build --quiet --release --manifest-path tests/fuzz/Cargo.toml \
  --target "$host" --target-dir "$work" || exit 1

# fuzz TARGET: runs one target; fails when an input broke it.
fuzz() {
  local target=$1 log=$work/$1.log corpus=$work/corpus/$1 found=$work/found/$1 start=$SECONDS status input kept
  local options=(-max_total_time="$seconds" -timeout=25 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=1)
  [[ -f tests/fuzz/dictionaries/$target.dict ]] && options+=(-dict="tests/fuzz/dictionaries/$target.dict")
  rm -rf "$found"
  mkdir -p "$corpus" "$found" "tests/fuzz/regressions/$target"
  "$work/$host/release/$target" "${options[@]}" -artifact_prefix="$found/" \
    "$corpus" "tests/fuzz/seeds/$target" "tests/fuzz/regressions/$target" >"$log" 2>&1
  status=$?
  local runs edges inputs
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | tr -dc 0-9)
  inputs=$(grep -o 'corp: [0-9]*' "$log" | tail -n 1 | tr -dc 0-9)
  printf 'fuzz %-8s  %s executions  %s edges  %s inputs  %d s  %s\n' "$target" "${runs:-?}" "${edges:-?}" \
    "${inputs:-?}" $((SECONDS - start)) "$( ((status == 0)) && echo ok || echo FAILED)"
  ((status == 0)) && return 0
  for input in "$found"/*; do
    [[ -f $input ]] || continue
    kept=tests/fuzz/regressions/$target/${input##*/}
    cp "$input" "$kept"
    echo "fuzz: $target broke on $kept; replay: cargo test -p tests --test fuzz_regressions"
  done
  grep -A 4 -m 1 -E 'panicked at|ERROR: libFuzzer' "$log"
  echo "fuzz: whole output in $log"
  return 1
}

passed=0 failed=0
for target in "${targets[@]}"; do
  if fuzz "$target"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
