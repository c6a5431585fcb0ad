//! How soon idle cores resume while packets flow. A container that waits for an answer has its core sleep meanwhile,
//! and waking that core can take longer than all that the switch does.
//!
//! While packets flow the kernel is asked (PM QoS, Documentation/power/pm_qos_interface.rst: an open
//! /dev/cpu_dma_latency) for idle states that end within so many microseconds. It ends the request with the process,
//! however that ends. Only a kernel that chooses among idle states (cpuidle) heeds it.
//!
//! How many depends on the machine, unless `resume_latency_us` says. A guest's halted core has to be woken by the
//! hypervisor, so there it is 0: idle cores poll. On bare metal cores go on sleeping, but not in states that take
//! longer to leave than a round trip does. Control thread.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::receive::TRAFFIC_PPS;
use crate::config::ResumeLatency;

/// The kernel's end of the request.
const DEVICE: &str = "/dev/cpu_dma_latency";

/// Where the kernel says what the processor is.
const CPUINFO: &str = "/proc/cpuinfo";

/// Where the kernel says by which driver it chooses among idle states.
const DRIVER: &str = "/sys/devices/system/cpu/cpuidle/current_driver";

/// What `auto` asks for in a virtual machine.
const GUEST_US: u32 = 0;

/// What `auto` asks for on bare metal: C1 and C1E may be used, deeper states, which take longer to leave
/// (drivers/idle/intel_idle.c), may not.
const METAL_US: u32 = 10;

/// Time between looks. A look adds one counter of each worker up.
const LOOK: Duration = Duration::from_millis(100);

/// Looks in a row that find traffic before it counts: a page fetched now and then is none.
const BUSY_LOOKS: u8 = 3;

/// How long without traffic until cores may sleep as before.
const QUIET: Duration = Duration::from_secs(1);

/// The request, held or not.
pub struct Resume {
    /// What to ask for; `None` when nothing is, or no longer since the kernel refused.
    latency_us: Option<u32>,
    /// Nobody asked for it, so a refusal is no fault.
    auto: bool,
    device: PathBuf,
    held: Option<File>,
    /// Looks in a row that found traffic, as far as that matters.
    busy_looks: u8,
    busy: Option<Instant>,
    /// Packets so far, as of the last look.
    packets: u64,
    looked: Instant,
}

impl Resume {
    /// Asks for nothing yet. Nothing has been moved at `epoch`.
    pub fn new(wanted: ResumeLatency, epoch: Instant) -> Resume {
        let mut resume = Resume::with_device(wanted, epoch, Path::new(DEVICE));
        if resume.latency_us.is_some() && !chooses(fs::read_to_string(DRIVER)) {
            resume.without_effect("the kernel has no driver for idle states (cpuidle)");
        }
        resume
    }

    fn with_device(wanted: ResumeLatency, epoch: Instant, device: &Path) -> Resume {
        let latency_us = match wanted {
            ResumeLatency::Off => None,
            ResumeLatency::Us(latency_us) => Some(latency_us),
            // Only the first lines are read: later ones, of other cores, take the kernel time to write.
            ResumeLatency::Auto => Some(automatic(File::open(CPUINFO).map(BufReader::new))),
        };
        Resume {
            latency_us,
            auto: wanted == ResumeLatency::Auto,
            device: device.to_path_buf(),
            held: None,
            busy_looks: 0,
            busy: None,
            packets: 0,
            looked: epoch,
        }
    }

    /// Looks, if it is time to, at how many packets all workers have `received` so far, and makes or ends the request.
    /// Answers when to look again; `None`: never.
    pub fn look(&mut self, received: impl FnOnce() -> u64, now: Instant) -> Option<Instant> {
        let latency_us = self.latency_us?;
        let passed = now.saturating_duration_since(self.looked);
        if passed >= LOOK {
            let packets = received();
            let pps = packets.saturating_sub(self.packets) * 1000 / passed.as_millis() as u64;
            (self.packets, self.looked) = (packets, now);
            self.sample(latency_us, pps, now);
        }
        self.latency_us.map(|_| self.looked + LOOK)
    }

    /// Microseconds within which idle cores are asked to resume now; `None` while that is left to the host.
    pub fn held_us(&self) -> Option<u32> {
        self.latency_us.filter(|_| self.held.is_some())
    }

    fn sample(&mut self, latency_us: u32, pps: u64, now: Instant) {
        self.busy_looks = if pps >= TRAFFIC_PPS { self.busy_looks.saturating_add(1) } else { 0 };
        if self.busy_looks >= BUSY_LOOKS {
            self.busy = Some(now);
        }
        let wanted = self.busy.is_some_and(|at| now.saturating_duration_since(at) < QUIET);
        if wanted == self.held.is_some() {
            return;
        }
        if !wanted {
            self.held = None;
            tracing::debug!("idle cores sleep as they like again");
            return;
        }
        match request(&self.device, latency_us) {
            Ok(file) => {
                self.held = Some(file);
                tracing::debug!("idle cores resume within {latency_us} us ({pps} pps)");
            }
            // Short of descriptors or memory, perhaps: asked again with the next look.
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                tracing::debug!("{}: {error}", self.device.display());
            }
            Err(error) => {
                let mend = "run switchd as root, or let its user write that file";
                self.without_effect(&format!("{}: {error}: {mend}", self.device.display()));
            }
        }
    }

    /// Asks for nothing from now on, since asking would not help, and says why.
    fn without_effect(&mut self, why: &str) {
        self.latency_us = None;
        if self.auto {
            tracing::info!("round trips wait for idle cores to wake: {why}");
        } else {
            tracing::warn!("resume_latency_us is without effect: {why}");
        }
    }
}

/// False if the kernel says that it has no choice of idle states: a core without work then always halts.
fn chooses(driver: io::Result<String>) -> bool {
    match driver {
        Ok(name) => name.trim() != "none",
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// What suits the machine that `cpuinfo`, the text of /proc/cpuinfo, describes. Where it cannot be read, nothing
/// speaks for a guest.
fn automatic(cpuinfo: io::Result<impl BufRead>) -> u32 {
    let mut lines = cpuinfo.into_iter().flat_map(|text| text.lines().map_while(Result::ok));
    let flags = lines.find(|line| line.starts_with("flags"));
    let guest = flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    if guest { GUEST_US } else { METAL_US }
}

/// The request stands while the file is open.
fn request(device: &Path, latency_us: u32) -> io::Result<File> {
    let mut file = File::options().write(true).open(device)?;
    // As a signed 32-bit number in native order; larger ones than it holds mean no limit.
    file.write_all(&i32::try_from(latency_us).unwrap_or(i32::MAX).to_ne_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Packets in the time of one look that are just traffic.
    const TRAFFIC: u64 = TRAFFIC_PPS / 10;

    const GUEST: &str = "processor\t: 0\nmodel name\t: some\nflags\t\t: fpu hypervisor lahf_lm\nbugs\t\t:\n";
    const METAL: &str = "processor\t: 0\nmodel name\t: hypervisor\nflags\t\t: fpu lahf_lm\nvmx flags\t: vnmi\n";

    /// A request to a file that stands for the device, with a clock and a counter of its own.
    struct Bench {
        resume: Resume,
        now: Instant,
        received: u64,
    }

    impl Bench {
        fn new(name: &str, wanted: ResumeLatency) -> Bench {
            let path = std::env::temp_dir().join(format!("switchd-resume-{name}-{}", std::process::id()));
            std::fs::write(&path, b"").unwrap();
            let now = Instant::now();
            Bench { resume: Resume::with_device(wanted, now, &path), now, received: 0 }
        }

        /// `looks` looks with so many packets before each; whether the request stands after the last.
        fn look(&mut self, looks: usize, packets: u64) -> bool {
            for _ in 0..looks {
                self.now += LOOK;
                self.received += packets;
                self.resume.look(|| self.received, self.now);
            }
            self.resume.held_us().is_some()
        }

        fn written(&self) -> Vec<u8> {
            std::fs::read(&self.resume.device).unwrap()
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            // A test that took the file away has nothing left to remove.
            let _ = std::fs::remove_file(&self.resume.device);
        }
    }

    #[test]
    fn traffic_makes_the_request_and_a_second_of_quiet_ends_it() {
        let mut bench = Bench::new("request", ResumeLatency::Us(7));
        assert!(!bench.look(20, TRAFFIC - 1), "a little traffic is none");
        assert!(!bench.look(2, TRAFFIC) && !bench.look(1, 0) && !bench.look(2, TRAFFIC), "nor are short bursts");
        assert!(bench.look(1, TRAFFIC), "three looks in a row that find traffic");
        assert_eq!((bench.written(), bench.resume.held_us()), (7i32.to_ne_bytes().to_vec(), Some(7)));
        assert!(bench.look(9, 0), "a pause is no end");
        assert!(!bench.look(1, 0));
        assert!(bench.look(3, TRAFFIC), "and again");
    }

    #[test]
    fn looks_are_a_tenth_of_a_second_apart() {
        let mut bench = Bench::new("looks", ResumeLatency::Us(7));
        let start = bench.now;
        assert_eq!(bench.resume.look(|| unreachable!("not due"), start), Some(start + LOOK));
        assert_eq!(bench.resume.look(|| 1, start + LOOK), Some(start + 2 * LOOK));
        // A control thread that is held up for a second takes the packets of that second for what they are.
        for second in 1..5 {
            bench.resume.look(|| 1 + second * (TRAFFIC_PPS - 1), start + (1 + 10 * second as u32) * LOOK);
            assert_eq!(bench.resume.held_us(), None);
        }
    }

    #[test]
    fn nothing_is_asked_for_when_it_is_off() {
        let mut bench = Bench::new("off", ResumeLatency::Off);
        assert!(!bench.look(3, 1_000_000) && bench.written().is_empty());
        assert_eq!(bench.resume.look(|| unreachable!("never"), bench.now + QUIET), None, "no reason to wake up");
    }

    #[test]
    fn a_guest_polls_and_bare_metal_sleeps_lightly() {
        let automatic = |text: &'static str| super::automatic(Ok(text.as_bytes()));
        assert_eq!([GUEST, METAL, ""].map(automatic), [0, 10, 10]);
        assert_eq!(super::automatic(Err::<&[u8], _>(io::Error::from(io::ErrorKind::NotFound))), 10);
        let mut bench = Bench::new("auto", ResumeLatency::Auto);
        assert!(bench.look(3, TRAFFIC));
        let here = super::automatic(File::open(CPUINFO).map(BufReader::new));
        assert_eq!((bench.resume.held_us(), bench.written()), (Some(here), (here as i32).to_ne_bytes().to_vec()));
    }

    #[test]
    fn a_kernel_without_a_choice_of_idle_states_is_not_asked() {
        let error = |kind| Err(io::Error::from(kind));
        assert!(chooses(Ok("haltpoll\n".into())) && !chooses(Ok("none\n".into())));
        assert!(!chooses(error(io::ErrorKind::NotFound)), "a kernel without cpuidle");
        assert!(chooses(error(io::ErrorKind::PermissionDenied)), "not known");
    }

    /// What is logged when the device is not there: at first, and by all later looks.
    fn refusal(name: &str, wanted: ResumeLatency) -> (String, String) {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl Write for Log {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(text)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut bench, log) = (Bench::new(name, wanted), Log::default());
        std::fs::remove_file(&bench.resume.device).unwrap();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let said = || String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            assert!(!bench.look(3, TRAFFIC));
            let first = said();
            std::fs::write(&bench.resume.device, b"").unwrap();
            assert!(!bench.look(20, TRAFFIC) && bench.written().is_empty(), "refused once, left alone");
            (first, said())
        })
    }

    #[test]
    fn a_refusal_is_said_once_and_is_a_warning_only_to_who_asked() {
        let (first, later) = refusal("refused", ResumeLatency::Us(0));
        assert!(first.contains(" WARN ") && first.contains("resume_latency_us is without effect"), "{first}");
        assert_eq!((first.lines().count(), later.as_str()), (1, ""));
        let (first, later) = refusal("refused-quietly", ResumeLatency::Auto);
        assert!(first.contains(" INFO ") && first.contains("No such file"), "{first}");
        assert_eq!((first.lines().count(), later.as_str()), (1, ""));
    }
}
