//! Cost of the Internet checksum and of recognising and finishing partial ones.
//!
//! `sum` reports bytes per second; the others time per frame. Everything is in cache, as a received frame's
//! headers are; its payload may not be.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use std::hint::black_box;
use std::iter::empty;
use switch::path::checksum::{self, Partial};
use switch::path::transport::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

const L3: usize = 14;

/// A frame of `len` bytes with a complete checksum.
fn frame(v6: bool, tcp: bool, len: usize) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let step = if v6 { link.ipv6([1; 16], [2; 16], 64) } else { link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64) };
    let headers = L3 + if v6 { 40 } else { 20 } + if tcp { 20 } else { 8 };
    let payload: Vec<u8> = (0..len - headers).map(|i| (i * 7) as u8).collect();
    let mut bytes = Vec::with_capacity(len);
    let written = if tcp {
        step.tcp(40_000, 5201, 1, 512).write_to_vec(&mut bytes, &payload)
    } else {
        step.udp(40_000, 5201).write_to_vec(&mut bytes, &payload)
    };
    written.expect("a vector takes any frame");
    bytes
}

fn ethertype(v6: bool) -> u16 {
    if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }
}

fn sum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sum");
    for len in [20, 64, 128, 256, 1500, 9000] {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &bytes, |bencher, bytes| {
            bencher.iter(|| checksum::sum(black_box(bytes)));
        });
    }
    group.finish();
}

fn detect(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("detect_complete");
    for (name, v6, tcp, len) in
        [("udp4_60", false, false, 60), ("tcp4_60", false, true, 60), ("tcp6_80", true, true, 80)]
    {
        let mut bytes = frame(v6, tcp, len);
        group.bench_function(name, |bencher| {
            bencher.iter(|| checksum::finish_partial(black_box(&mut bytes), L3, ethertype(v6), empty()));
        });
    }
    group.finish();
}

fn finish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("finish");
    for len in [60, 1500, 9000] {
        let mut bytes = frame(false, true, len);
        let packet = transport::locate(&bytes, L3, ETHERTYPE_IPV4).expect("the frame holds a packet");
        let field = packet.checksum_field(&bytes).expect("the packet is TCP");
        let partial = Partial { start: packet.start, len: packet.len, field };
        let pseudo_header = packet.pseudo_header_sum();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| {
                partial.write(&mut bytes, pseudo_header);
                checksum::finish_partial(black_box(&mut bytes), L3, ETHERTYPE_IPV4, empty())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sum, detect, finish);
criterion_main!(benches);
