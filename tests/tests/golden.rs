//! Golden captures: for each case under `tests/golden`, the packets of `in-<port>.pcap` must leave the switch as
//! `expected-<port>.pcap` and count as `counters.json` says, with the ports of `config.json`.
//!
//! `GOLDEN_WRITE=1` writes the cases of this file anew: inputs from the code below, expectations from the reference
//! switch, never from the switch under test. Ports are read in order, each in bursts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, TsResolution};
use serde::{Deserialize, Serialize};
use switch::ids::Mac;
use switch::limits::BURST;
use switch::port::Port;
use switch::port::pcap::PcapPort;
use switch::table::snapshot::PortSetup;
use tests::frames::{self, Checksum, Net, Packet, Transport, host, sized, tagged};
use tests::lab::{Lab, port, setup};
use tests::reference::{Config, Reference};

/// The clock stands still: captures are about frames, not about ageing.
const NOW_S: u32 = 1;

/// Most learned addresses.
const ENTRIES: u32 = 1024;

/// One port of `config.json`; its position is its number.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortFile {
    /// Domain of untagged frames.
    native: Option<usize>,
    /// Domain by VLAN id.
    #[serde(default)]
    trunk: BTreeMap<u16, usize>,
    mtu: u32,
}

impl PortFile {
    fn setup(&self, index: usize) -> PortSetup {
        let trunk: Vec<_> = self.trunk.iter().map(|(vlan, number)| (*vlan, *number)).collect();
        PortSetup { mtu: self.mtu, ..setup(index, self.native, &trunk) }
    }
}

/// One port of `counters.json`.
#[derive(Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortCounters {
    rx_packets: u64,
    tx_packets: u64,
    flooded: u64,
    checksums_finished: u64,
    drops: BTreeMap<String, u64>,
}

/// A case as it stands in its directory.
struct Case {
    ports: Vec<PortFile>,
    /// Packets into each port.
    inputs: Vec<Vec<Vec<u8>>>,
    /// Packets out of each port.
    outputs: Vec<Vec<Vec<u8>>>,
    counters: Vec<PortCounters>,
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    packets(&bytes)
}

fn packets(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(bytes).expect("a pcap header");
    std::iter::from_fn(|| reader.next_packet().map(|packet| packet.expect("a whole packet").data.into_owned()))
        .collect()
}

fn write_capture(path: &Path, packets: &[Vec<u8>]) {
    let file = BufWriter::new(File::create(path).expect("the case's directory is writable"));
    let header = PcapHeader {
        snaplen: 262_144,
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(file, header).expect("room for the capture");
    for (at, packet) in packets.iter().enumerate() {
        let stamp = Duration::from_nanos(at as u64);
        writer.write_packet(&PcapPacket::new(stamp, packet.len() as u32, packet)).expect("room for the capture");
    }
}

impl Case {
    fn read(name: &str) -> Case {
        let directory = directory(name);
        let json =
            |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_else(|e| panic!("{name}/{file}: {e}"));
        let ports: Vec<PortFile> = serde_json::from_str(&json("config.json")).expect("a list of ports");
        let captures = |prefix: &str| {
            (0..ports.len()).map(|index| read_capture(&directory.join(format!("{prefix}-{index}.pcap")))).collect()
        };
        let (inputs, outputs) = (captures("in"), captures("expected"));
        Case { inputs, outputs, counters: serde_json::from_str(&json("counters.json")).expect("counters"), ports }
    }

    /// The case that follows from ports and inputs by the rules.
    fn derive(ports: Vec<PortFile>, inputs: Vec<Vec<Vec<u8>>>) -> Case {
        let config = Config {
            ports: ports.iter().enumerate().map(|(index, file)| file.setup(index)).collect(),
            domains: (1..=3).map(|number| (tests::lab::domain(number), 300)).collect(),
        };
        let mut reference = Reference::new(ENTRIES as usize);
        let mut outputs = vec![Vec::new(); ports.len()];
        let mut counters: Vec<_> = ports.iter().map(|_| PortCounters::default()).collect();
        let turns = inputs.iter().map(|input| input.len().div_ceil(BURST)).max().unwrap_or(0);
        for turn in 0..turns {
            for (index, input) in inputs.iter().enumerate() {
                let Some(burst) = input.chunks(BURST).nth(turn) else { continue };
                counters[index].rx_packets += burst.len() as u64;
                for fate in reference.burst(&config, port(index), burst, NOW_S) {
                    counters[index].flooded += u64::from(fate.flooded);
                    counters[index].checksums_finished += u64::from(fate.finished);
                    for (at, reason) in fate.drops {
                        *counters[at.index()].drops.entry(reason.name().to_string()).or_default() += 1;
                    }
                    for (at, frame) in fate.sent {
                        counters[at.index()].tx_packets += 1;
                        outputs[at.index()].push(frame);
                    }
                }
            }
        }
        Case { ports, inputs, outputs, counters }
    }

    fn write(&self, name: &str) {
        let directory = directory(name);
        fs::create_dir_all(&directory).expect("the tests' directory is writable");
        let json = |file: &str, text: String| fs::write(directory.join(file), text + "\n").expect("writable");
        json("config.json", serde_json::to_string_pretty(&self.ports).expect("plain data"));
        json("counters.json", serde_json::to_string_pretty(&self.counters).expect("plain data"));
        for index in 0..self.ports.len() {
            write_capture(&directory.join(format!("in-{index}.pcap")), &self.inputs[index]);
            write_capture(&directory.join(format!("expected-{index}.pcap")), &self.outputs[index]);
        }
    }
}

/// A file in memory that can be read while a port writes to it.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one thread").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a case through the switch on capture ports and compares every packet and counter.
fn check(name: &str) {
    let case = Case::read(name);
    let setups: Vec<_> = case.ports.iter().enumerate().map(|(index, file)| file.setup(index)).collect();
    let sinks: Vec<_> = case.ports.iter().map(|_| Sink::default()).collect();
    let devices = sinks.iter().enumerate().map(|(index, sink)| {
        let input = File::open(directory(name).join(format!("in-{index}.pcap"))).expect("the input is there");
        let dev = PcapPort::new(input, sink.clone()).expect("a pcap header");
        (port(index), Box::new(dev) as Box<dyn Port>)
    });
    let mut lab = Lab::on_devices(&setups, devices.collect(), ENTRIES);
    lab.settle();
    for (index, sink) in sinks.iter().enumerate() {
        let sent = packets(&sink.0.lock().expect("one thread"));
        assert_eq!(sent.len(), case.outputs[index].len(), "{name}: packets out of port {index}");
        for (at, (is, should)) in sent.iter().zip(&case.outputs[index]).enumerate() {
            assert_eq!(is, should, "{name}: packet {at} out of port {index}");
        }
        let stats = lab.stats(index);
        let counters = PortCounters {
            rx_packets: stats.rx_packets.get(),
            tx_packets: stats.tx_packets.get(),
            flooded: stats.flooded.get(),
            checksums_finished: stats.checksums_finished.get(),
            drops: lab.all_drops(index).iter().map(|(reason, count)| (reason.name().to_string(), *count)).collect(),
        };
        assert_eq!(counters, case.counters[index], "{name}: counters of port {index}");
    }
    lab.assert_no_frame_lost();
}

/// Writes the case anew if asked to, then checks it.
fn golden(name: &str, ports: Vec<PortFile>, inputs: Vec<Vec<Vec<u8>>>) {
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        Case::derive(ports, inputs).write(name);
    }
    check(name);
}

fn access(mtu: u32) -> PortFile {
    PortFile { native: Some(1), trunk: BTreeMap::new(), mtu }
}

fn trunk(native: Option<usize>, vlans: &[(u16, usize)], mtu: u32) -> PortFile {
    PortFile { native, trunk: vlans.iter().copied().collect(), mtu }
}

fn packet(dst: Mac, src: Mac, net: Net, transport: Transport, len: usize) -> Packet {
    Packet::new(dst, src, net, transport, (0..len).map(|at| at as u8).collect())
}

#[test]
fn unicast_after_learning() {
    let (a, b, c) = (host(1), host(2), host(3));
    let request = frames::arp_request(a, [10, 1, 0, 1], [10, 1, 0, 2]);
    let answer = packet(a, b, Net::V4, Transport::Udp, 40).build();
    let to_both = [packet(a, c, Net::V6, Transport::Tcp, 100).build(), sized(b, c, 60)];
    golden("unicast_after_learning", vec![access(1500); 3], vec![vec![request], vec![answer], to_both.to_vec()]);
}

#[test]
fn flood_with_trunk() {
    let ports = vec![
        access(1500),
        trunk(None, &[(10, 1), (20, 2)], 1500),
        trunk(Some(1), &[(30, 2)], 1500),
        trunk(Some(2), &[], 1500),
    ];
    let broadcast = |number| sized(Mac::BROADCAST, host(number), 60);
    let from_trunk =
        [tagged(&broadcast(2), 0xa000 | 10), tagged(&broadcast(2), 0x6000 | 20), tagged(&broadcast(2), 99)];
    let from_native = [broadcast(3), tagged(&broadcast(3), 0xe000), tagged(&broadcast(3), 30)];
    let inputs = vec![vec![broadcast(1)], from_trunk.to_vec(), from_native.to_vec(), vec![broadcast(4)]];
    golden("flood_with_trunk", ports, inputs);
}

#[test]
fn partial_checksums() {
    let (a, b) = (host(1), host(2));
    let mut from_a = vec![sized(Mac::BROADCAST, a, 60)];
    for net in [Net::V4, Net::V6] {
        for transport in [Transport::Tcp, Transport::Udp] {
            for len in [1, 64, 1401] {
                let full = packet(b, a, net, transport, len);
                from_a.push(full.build());
                from_a.push(Packet { checksum: Checksum::Partial, ..full }.build());
            }
        }
    }
    // A fragment's field may hold the same value by chance: it is left alone.
    let mut fragment = Packet { checksum: Checksum::Partial, ..packet(b, a, Net::V4, Transport::Udp, 64) }.build();
    fragment[20] |= 0x20;
    from_a.push(fragment);
    let on_trunk = Packet { checksum: Checksum::Partial, ..packet(a, b, Net::V4, Transport::Tcp, 99) }.build();
    let ports = vec![access(1500), trunk(None, &[(10, 1)], 1500)];
    golden("partial_checksums", ports, vec![from_a, vec![tagged(&on_trunk, 10)]]);
    // Each packet went in twice, first with its full checksum by etherparse: so it must come out twice the same.
    let sent = read_capture(&directory("partial_checksums").join("expected-1.pcap"));
    let pairs = sent[1..].chunks_exact(2).filter(|pair| pair[0] == pair[1]);
    assert_eq!(pairs.count(), 12);
}

#[test]
fn jumbo() {
    let (a, b) = (host(1), host(2));
    let ports = vec![access(9000), trunk(None, &[(10, 1)], 9000), access(1500)];
    let partial = Packet { checksum: Checksum::Partial, ..packet(b, a, Net::V6, Transport::Tcp, 8900) }.build();
    let from_a = vec![sized(Mac::BROADCAST, a, 9014), partial, sized(b, a, 3840), sized(b, a, 9015)];
    golden("jumbo", ports, vec![from_a, vec![tagged(&sized(a, b, 9014), 10)], vec![]]);
}

#[test]
fn malformed_and_forbidden() {
    let (a, b) = (host(1), host(2));
    let good = sized(b, a, 60);
    let mut odd: Vec<_> = [1, 6, 13].iter().map(|&len| good[..len].to_vec()).collect();
    odd.push(tagged(&good, 10)[..16].to_vec());
    odd.push(tagged(&good, 4095));
    odd.push(tagged(&good, 10));
    odd.push(sized(b, Mac::BROADCAST, 60));
    odd.push(sized(Mac::new([1, 0x80, 0xc2, 0, 0, 0]), a, 60));
    odd.push(sized(b, Mac::ZERO, 60));
    odd.push(good[..14].to_vec());
    odd.push(sized(b, a, 1600));
    // An IP packet that claims to be longer than its frame.
    let cut = Packet { checksum: Checksum::Partial, ..packet(b, a, Net::V4, Transport::Udp, 400) }.build();
    odd.push(cut[..200].to_vec());
    golden("malformed_and_forbidden", vec![access(1500); 2], vec![odd, vec![]]);
}
