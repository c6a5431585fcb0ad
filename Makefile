# Two commands for a newcomer: `make demo` and `make test`. `make help` lists the rest.

CARGO ?= cargo
PROFILE := release
BIN := target/$(PROFILE)
REPORT := target/bench-report

.PHONY: help build demo test test-full lint unit loom sim instructions veth bench criterion bench-deps bench-vm fuzz install clean

help:
	@echo 'make demo           three containers joined by the switch, shown and removed (KEEP=1 leaves them up)'
	@echo 'make test           every test: lint, unit, model checking, simulation, instruction counts, real veths, the demo (as root)'
	@echo 'make test-full      the same with ten million simulated steps and a million real frames: takes long'
	@echo 'make build          switchd and switchctl, optimised, in $(BIN)'
	@echo 'make bench          every test of swbench against the peers, in short (as root); the report is in $(REPORT)'
	@echo 'make criterion      benches: checksums, the forwarding database and routes (also beside other tables), the path in memory'
	@echo 'make bench-deps     the peers that swbench and the benches measure against'
	@echo 'make bench-vm       real veths and swbench with the kernel'"'"'s packet generator, on Debian 12'"'"'s kernel in qemu'
	@echo 'make fuzz           fuzz the packet path, the router, the configuration and the control protocol (FUZZ_SECONDS=600 each)'
	@echo 'make install        to $(DESTDIR)/usr/local/bin'

build:
	@scripts/deps.sh build
	$(CARGO) build --release --locked -p switch -p ctl

demo:
	@scripts/deps.sh demo
	$(CARGO) build --release --locked -p switch -p ctl
	@KEEP='$(KEEP)' scripts/demo.sh

test:
	@scripts/deps.sh test
	@scripts/test.sh

test-full:
	@scripts/deps.sh test
	@VETH_FULL=1 SIM_FULL=1 scripts/test.sh

lint unit loom sim instructions veth:
	@scripts/deps.sh test
	@scripts/test.sh $@

bench:
	@scripts/deps.sh bench
	$(CARGO) build --release --locked -p switch -p bench
	$(BIN)/swbench all --quick --out $(REPORT)

criterion:
	@scripts/deps.sh build
	$(CARGO) bench --locked -p bench

bench-deps:
	@scripts/deps.sh bench

bench-vm:
	@scripts/deps.sh vm
	@scripts/bench-vm.sh

fuzz:
	@scripts/deps.sh fuzz
	@scripts/fuzz.sh

install: build
	install -D -m 0755 $(BIN)/switchd $(DESTDIR)/usr/local/bin/switchd
	install -D -m 0755 $(BIN)/switchctl $(DESTDIR)/usr/local/bin/switchctl

clean:
	$(CARGO) clean
