//! The *pktgen* load: the kernel's own packet generator (module `pktgen`, Documentation/networking/pktgen.rst). Its
//! thread of the traffic core makes an skb per frame and hands it to the container's interface directly, without socket
//! and queueing discipline. The result counts what the interface took, which is what was offered: a veth also takes
//! what it then drops for a full ring.
//!
//! Everything is driven by text files of the namespace, one command per write. The frames are the kernel's own: UDP
//! without a checksum, and a payload of magic, sequence number and time stamp as in [`super::frame`].

use super::{Job, Load, Sent, Watch, fault};
use crate::cmd::cmd;
use crate::error::{Error, Result};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The generator's directory in the namespace of the calling thread (`/proc/net` is that of the main thread).
const DIRECTORY: &str = "/proc/thread-self/net/pktgen";
/// How often the frames sent so far are read.
const STEP: Duration = Duration::from_millis(20);
/// How long the kernel's thread may take to begin; it looks for orders ten times a second.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Clock ticks per second in /proc/PID/stat (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Loads the kernel's module where it is not loaded. It stays loaded.
///
/// # Errors
/// [`Error::Absent`] when the kernel does not have it.
pub fn available() -> Result<()> {
    let there = || Path::new(DIRECTORY).join("pgctrl").exists();
    if there() {
        return Ok(());
    }
    let said = match cmd(["modprobe", "pktgen"]).run() {
        Ok(_) if there() => return Ok(()),
        Ok(_) => "it loads, but there is no /proc/net/pktgen".to_owned(),
        Err(error) => error.to_string(),
    };
    let why = format!("it needs the kernel module pktgen (CONFIG_NET_PKTGEN): {}", one_line(&said));
    Err(Error::Absent { device: "pktgen load", why })
}

/// Runs the load from the calling thread, which must be in the job's namespace; the frames are sent by the kernel's
/// thread of the job's core.
///
/// # Errors
/// [`Error::Generator`] when the generator is missing, refuses a command or sends nothing.
pub fn send(job: &Job) -> Result<Sent> {
    let device = Device::add(job)?;
    for command in commands(job)? {
        device.tell(&command)?;
    }
    let (cpu_before, watch) = (kernel_thread_time(job.core), Watch::start());
    // The write that starts it returns when it has ended.
    let finished = std::thread::scope(|scope| {
        let runner = scope.spawn(|| write(&control(), "start"));
        let supervised = supervise(job, &device, &watch, || runner.is_finished());
        // Also after a failure: the runner returns only when nothing is sent any more.
        let stopped = write(&control(), "stop");
        runner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(stopped).and(supervised)
    });
    finished?;
    let (text, cpu) = (device.read()?, kernel_thread_time(job.core) - cpu_before);
    let result = parse_result(&text).ok_or_else(|| bad(format!("no result in: {}", one_line(&text))))?;
    if result.frames == 0 {
        return Err(bad(format!("{} took no frame, {} were refused", job.interface, result.errors)));
    }
    job.sent.store(result.frames, Ordering::Relaxed);
    let share = cpu / result.time.as_secs_f64().max(1e-9);
    Ok(Sent { frames: result.frames, time: result.time, cpu: share.min(1.0) })
}

/// Follows the generator until its time is over, it ends by itself or the job is stopped.
fn supervise(job: &Job, device: &Device, watch: &Watch, ended: impl Fn() -> bool) -> Result<()> {
    let mut begun = None;
    loop {
        let sofar = parse_sofar(&device.read()?).unwrap_or(0);
        job.sent.store(sofar, Ordering::Relaxed);
        if sofar > 0 {
            begun.get_or_insert_with(Instant::now);
        }
        let over = begun.map_or(watch.elapsed() > START_LIMIT, |begun: Instant| begun.elapsed() >= job.time);
        if over || job.stop.raised() || ended() {
            return Ok(());
        }
        std::thread::sleep(STEP);
    }
}

/// An interface in the hands of the generator's thread of one core; dropping it takes it back.
struct Device {
    thread: PathBuf,
    file: PathBuf,
}

impl Device {
    fn add(job: &Job) -> Result<Self> {
        let directory = Path::new(DIRECTORY);
        let thread = directory.join(format!("kpktgend_{}", job.core));
        write(&thread, "rem_device_all")?;
        write(&thread, &format!("add_device {}", job.interface))?;
        Ok(Device { thread, file: directory.join(job.interface) })
    }

    fn tell(&self, command: &str) -> Result<()> {
        // The file says more than the error number.
        write(&self.file, command).map_err(|error| {
            let said = self.read().ok().and_then(|text| Some(text.split_once("Result: ")?.1.to_owned()));
            bad(format!("{error} ({})", one_line(&said.unwrap_or_default())))
        })
    }

    fn read(&self) -> Result<String> {
        fs::read_to_string(&self.file).map_err(|e| bad(format!("read {}: {e}", self.file.display())))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = write(&self.thread, "rem_device_all");
    }
}

/// What the interface is told before the start: the frame of the job, taken apart.
fn commands(job: &Job) -> Result<Vec<String>> {
    let frame = job.frames.first().ok_or_else(|| bad("no frame to send"))?;
    let packet = SlicedPacket::from_ethernet(frame).map_err(|e| bad(format!("frame: {e}")))?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (&packet.net, &packet.transport) else {
        return Err(bad("the frame to send is not UDP over IPv4"));
    };
    let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
    let mac = |at: usize| {
        let bytes = frame.get(at..at + 6).unwrap_or_default();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
    };
    if !job.macs.built() {
        return Err(bad("it sends frames of one source and destination here; use socket load"));
    }
    // A count of 0 is no end. A veth takes every skb for itself, so none may be sent twice (clone_skb, burst).
    let mut commands = vec![format!("count {}", job.count.unwrap_or(0)), "clone_skb 0".into(), "burst 1".into()];
    commands.push(format!("pkt_size {}", frame.len()));
    commands.push(job.rate_pps.map_or("delay 0".into(), |rate| format!("ratep {}", rate.round().max(1.0))));
    commands.extend([format!("dst_mac {}", mac(0)), format!("src_mac {}", mac(6))]);
    for (name, address) in [("dst", destination), ("src", source)] {
        commands.extend(["min", "max"].map(|end| format!("{name}_{end} {address}")));
    }
    for (name, port) in [("udp_dst", udp.destination_port()), ("udp_src", udp.source_port())] {
        commands.extend(["min", "max"].map(|end| format!("{name}_{end} {port}")));
    }
    Ok(commands)
}

/// What the generator says at its end.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    frames: u64,
    errors: u64,
    time: Duration,
}

/// Reads `Result: OK: 15430(c15405+d25) usec, 100000 (60byte,0frags)` and the `errors: N` after it.
fn parse_result(text: &str) -> Option<Outcome> {
    let (_, result) = text.split_once("Result: OK: ")?;
    let (micros, rest) = result.split_once('(')?;
    let (_, rest) = rest.split_once(" usec, ")?;
    let errors = rest.split_once("errors: ").and_then(|(_, errors)| number(errors));
    let time = Duration::from_micros(micros.trim().parse().ok()?);
    Some(Outcome { frames: number(rest)?, errors: errors.unwrap_or(0), time })
}

/// Reads the N of `pkts-sofar: N  errors: M`.
fn parse_sofar(text: &str) -> Option<u64> {
    number(text.split_once("pkts-sofar:")?.1)
}

fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Seconds that the generator's threads of a core have run. Every namespace has one of the same name: all but one idle.
fn kernel_thread_time(core: usize) -> f64 {
    let head = format!("(kpktgend_{core}) ");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    // Behind the name: state is field 3, time in the kernel field 15 (proc_pid_stat(5)).
    let ticks = stats.filter_map(|stat| stat.split_once(&head)?.1.split(' ').nth(15 - 3)?.parse::<u64>().ok());
    ticks.sum::<u64>() as f64 / TICKS_PER_SECOND
}

fn control() -> PathBuf {
    Path::new(DIRECTORY).join("pgctrl")
}

fn write(file: &Path, command: &str) -> Result<()> {
    // In one write. The kernel takes the last byte off the commands of pgctrl, whatever it is.
    fs::write(file, format!("{command}\n")).map_err(|e| bad(format!("'{command}' to {}: {e}", file.display())))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn bad(why: impl std::fmt::Display) -> Error {
    fault(Load::Pktgen, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Macs, frame};
    use crate::stop::Stop;

    /// As the kernel writes it (net/core/pktgen.c, `pktgen_if_show` and `show_results`).
    const ENDED: &str = "Params: count 0  min_pkt_size: 60  max_pkt_size: 60\n     dst_min: 198.19.0.1\n\
        Current:\n     pkts-sofar: 100000  errors: 3\n     started: 1us  stopped: 2us idle: 25us\n\
        Result: OK: 15430(c15405+d25) usec, 100000 (60byte,0frags)\n  6480562pps 3110Mb/sec (3110669760bps) errors: 3\n";

    fn job(rate_pps: Option<f64>) -> Job {
        Job {
            netns: String::new(),
            core: 1,
            interface: "a0",
            index: 2,
            frames: vec![frame::build([2, 0, 0, 0, 0, 7], 512)],
            rate_pps,
            macs: Macs::default(),
            time: Duration::from_secs(1),
            count: None,
            stop: Stop::default(),
            sent: Default::default(),
        }
    }

    #[test]
    fn results_and_progress_are_read() {
        let outcome = Outcome { frames: 100_000, errors: 3, time: Duration::from_micros(15_430) };
        assert_eq!((parse_result(ENDED), parse_sofar(ENDED)), (Some(outcome), Some(100_000)));
        let idle = "Current:\n     pkts-sofar: 0  errors: 0\nResult: Idle\n";
        assert_eq!((parse_result(idle), parse_sofar(idle)), (None, Some(0)));
        assert_eq!((parse_result("Result: OK: count=0"), parse_sofar("")), (None, None));
    }

    #[test]
    fn the_commands_describe_the_frame() {
        let text = commands(&job(None)).unwrap().join("\n");
        for line in ["pkt_size 512", "delay 0", "dst_mac 02:00:00:00:00:07", "src_mac 02:53:57:42:00:01"] {
            assert!(text.lines().any(|found| found == line), "no {line} in:\n{text}");
        }
        assert!(text.contains("dst_min 198.19.0.1\ndst_max 198.19.0.1\nsrc_min 198.18.0.1\n"), "{text}");
        assert!(text.ends_with("udp_dst_min 9\nudp_dst_max 9\nudp_src_min 9\nudp_src_max 9"), "{text}");
        let paced = commands(&job(Some(1_500_000.0))).unwrap();
        assert!(paced.contains(&"ratep 1500000".to_owned()) && !paced.contains(&"delay 0".to_owned()), "{paced:?}");
    }

    #[test]
    fn a_frame_that_it_cannot_make_is_refused() {
        let mut arp = job(None);
        arp.frames[0][12..14].copy_from_slice(&[8, 6]);
        assert!(commands(&arp).unwrap_err().to_string().contains("UDP over IPv4"));
    }
}
