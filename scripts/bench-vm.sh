#!/usr/bin/env bash
# Boots Debian 12's own kernel (6.1) in qemu and runs there what this machine's kernel cannot show: the tests on real
# interfaces with an AF_XDP that lacks multi-buffer, transmit budget and transmit metadata, and swbench with the
# kernel's packet generator. Without /dev/kvm all of it is emulated: that it works is a result, the rates are none.
#
# The machine's root directory is this one's, read only, with memory over it. Everything made here is in target/vm; qemu
# ends with this script, or after VM_LIMIT seconds. Counts as scripts/test.sh does; last line N passed, N failed, N skipped.
#
# VM_TESTS: test binaries to run (default all of veth_* and afxdp_*; "none" for none). VM_BENCH=0: no swbench.
# VM_ARGUMENTS: further words for the kernel, such as preempt=none. VM_ACCEL: tcg or kvm. VM_CPUS (2; fewer than 2: no swbench), VM_MEMORY (4G), VM_SLOWNESS: see tests/src/net/mod.rs.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin
vm=target/vm
cpus=${VM_CPUS:-2} memory=${VM_MEMORY:-4G} limit=${VM_LIMIT:-3600}
accel=${VM_ACCEL:-}
if [[ -z $accel ]]; then
  # Where a virtual machine offers /dev/kvm without these flags, a guest's kernel does not get through its start.
  if [[ -w /dev/kvm ]] && grep -qE '^flags.* (vmx|svm)( |$)' /proc/cpuinfo; then accel=kvm; else accel=tcg; fi
fi
case $accel in
  kvm) machine=(-accel kvm -cpu host) arguments='' slowness=${VM_SLOWNESS:-2} ;;
  tcg) machine=(-accel 'tcg,thread=multi' -cpu max) arguments='tsc=reliable' slowness=${VM_SLOWNESS:-10} ;;
  *) echo "bench-vm.sh: VM_ACCEL is '$accel': tcg or kvm" >&2; exit 2 ;;
esac

# Tests that an emulated machine cannot pass, or not in reasonable time: binary, test and reason, separated by bars.
left_out=()
if [[ $accel == tcg ]]; then
  left_out+=('veth_router|fairness::|a share of the errors a second is measured, which emulated cores do not get done')
fi

fail() { echo "bench-vm: $*" >&2; exit 1; }

kernel=$(find $vm/root/boot -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -n 1)
[[ -n $kernel ]] || fail "no kernel in $vm/root: run scripts/deps.sh vm (make bench-vm does)"
release=${kernel##*/vmlinuz-}
modules=$PWD/$vm/root/lib/modules/$release

# The first root directory: busybox, the modules that lead to the host's files, and scripts/vm/init.
make_initramfs() {
  local top=$vm/initramfs module
  rm -rf "$top"
  mkdir -p "$top"/{bin,modules,proc,sys,dev,host,memory,root} || return 1
  cp "$vm/root/bin/busybox" "$top/bin/" && install -m 0755 scripts/vm/init "$top/init" || return 1
  depmod -b "$vm/root" "$release" || return 1
  for module in virtio_pci 9pnet_virtio 9p overlay; do
    modprobe -d "$vm/root" -S "$release" --show-depends "$module" || return 1
  done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' >"$vm/order" || return 1
  while read -r module; do
    cp "$module" "$top/modules/" && echo "${module##*/}" >>"$top/modules/order" || return 1
  done <"$vm/order"
  (cd "$top" && find . | ./bin/busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$vm/initramfs.gz"
}

# Paths of the test binaries, one a line.
test_binaries() {
  cargo test --locked -p tests --test 'veth*' --test 'afxdp*' --no-run --message-format=json 2>"$vm/build.log" |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | sort
}

# Writes the list of programs that the machine runs (see scripts/vm/guest.sh).
list_jobs() {
  local binary name entry skips binaries
  binaries=$(test_binaries)
  [[ -n $binaries ]] || { cat "$vm/build.log" >&2; fail 'no test binaries were built'; }
  {
    echo "export SWT_PREFIX=swtvm SWT_SLOWNESS=$slowness"
    printf 'export SWITCHD_BIN=%q SWITCHCTL_BIN=%q\n' "$PWD/target/debug/switchd" "$PWD/target/debug/switchctl"
    for binary in $binaries; do
      name=${binary##*/} name=${name%-*}
      [[ -z ${VM_TESTS:-} || " $VM_TESTS " == *" $name "* ]] || continue
      skips=''
      for entry in "${left_out[@]}"; do
        IFS='|' read -r of test _ <<<"$entry"
        [[ $of == "$name" ]] && skips+=" --skip $test"
      done
      printf 'job 900 %s %q --nocapture --test-threads=1%s\n' "$name" "$binary" "$skips"
    done
    if ((cpus >= 2 && ${VM_BENCH:-1})); then
      printf 'job 600 swbench %q run --devices switchd,bridge --load pktgen,socket --runs 1 --seconds 3\n' \
        "$PWD/target/release/swbench"
    fi
  } >$vm/jobs
}

qemu=''
cleanup() {
  if [[ -n $qemu ]]; then kill "$qemu" 2>/dev/null; wait "$qemu" 2>/dev/null; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Runs the machine to its end; what it says is shown and kept in target/vm/console.log.
run_machine() {
  rm -f $vm/serial.log
  : >$vm/serial.log
  # timeout passes a signal on to qemu, and gets one when this script is killed.
  setpriv --pdeathsig TERM timeout --kill-after=10 "$limit" qemu-system-x86_64 "${machine[@]}" -smp "$cpus" -m "$memory" \
    -kernel "$kernel" -initrd $vm/initramfs.gz \
    -append "console=ttyS0 quiet panic=-1 oops=panic mitigations=off $arguments ${VM_ARGUMENTS:-} repo=$PWD modules=$modules" \
    -nodefaults -no-user-config -display none -monitor none -no-reboot -serial file:$vm/serial.log \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    </dev/null >$vm/qemu.log 2>&1 &
  qemu=$!
  tail -n +1 -f --pid=$qemu $vm/serial.log | sed -u -e 's/\r//g' -e 's/\x1b[^a-zA-Z]*[a-zA-Z]//g' | tee $vm/console.log &
  local shown=$! status
  # Waiting, unlike a program in the foreground, ends at a signal.
  wait "$qemu"
  status=$?
  wait "$shown"
  qemu=''
  ((status == 0)) || { cat $vm/qemu.log >&2; echo "bench-vm: qemu ended with $status (124: after $limit s)" >&2; }
  return "$status"
}

passed=0 failed=0 skipped=0
problems=()
problem() {
  problems+=("$1")
  failed=$((failed + 1))
}

# Adds up what the test runners counted, and what they did not: programs that died, a machine that did not end well.
count() {
  local p f name status
  read -r p f < <(awk '/^test result:/ {for (i = 1; i < NF; i++) {if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i}}
    END {print p + 0, f + 0}' $vm/console.log)
  # As in test.sh: a test that skips itself is counted as passed by its runner.
  skipped=$(grep -cE '^(test .* \.\.\. )?SKIPPED: ' $vm/console.log)
  passed=$((passed + p - skipped)) failed=$((failed + f))
  while read -r name status; do
    [[ $name == swbench ]] && continue
    # 101: its runner has counted the tests that failed, if it came to that.
    ((status == 0 || status == 101 && f > 0)) || problem "$name ended with $status"
  done < <(sed -n 's/^vm: end \([^ ]*\) \([0-9]*\) .*/\1 \2/p' $vm/console.log)
  grep -q '^vm: exit 0$' $vm/console.log || problem 'the machine did not get to its end'
  if grep -E '^vm: left ' $vm/console.log | grep -qv 'left nothing'; then problem 'something was left behind'; fi
  if grep -qE '(WARNING: CPU|BUG:|Oops|Call Trace)' $vm/console.log; then problem 'the kernel complained'; fi
}

# swbench is as many tests as there are trials: each must have delivered frames, and its counters agree.
count_trials() {
  local device load line
  for device in switchd bridge; do
    for load in pktgen socket; do
      line=$(grep -oE "$device under $load load, [^:]*: .*" $vm/console.log | head -n 1)
      if grep -qE 'delivered [0-9.]*[1-9][0-9.]* Mpps' <<<"$line" && ! grep -q ' FAULT: ' <<<"$line"; then
        passed=$((passed + 1))
      else
        problem "swbench: ${line:-$device under $load load: not run}"
      fi
    done
  done
}

echo "bench-vm: building"
cargo build --locked --quiet -p switch -p ctl || fail 'the build failed'
cargo build --locked --quiet --release -p switch -p ctl -p bench || fail 'the build failed'
make_initramfs || fail 'cannot make the first root directory'
list_jobs
echo "bench-vm: booting Linux $release with $accel, $cpus cores, $memory; times of the tests stretched $slowness times"
run_machine || problem 'qemu failed'
count
if grep -q '^job .* swbench ' $vm/jobs; then
  count_trials
elif ((${VM_BENCH:-1})); then
  left_out+=('swbench||it needs two cores (VM_CPUS)')
fi
printf '\nWhat this kernel lacks, and what the switch does without:\n'
grep -E '^kernel without ' $vm/console.log | sort -u | sed 's/^kernel without/ /'
for entry in "${left_out[@]}"; do
  IFS='|' read -r name test why <<<"$entry"
  echo "SKIPPED: $name${test:+: $test}: $why"
  skipped=$((skipped + 1))
done
((${#problems[@]})) && printf 'Problem: %s\n' "${problems[@]}"
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
