//! How soon idle cores resume while packets flow. A container that waits for an answer has its core sleep meanwhile,
//! and waking that core can take longer than all that the switch does.
//!
//! With `resume_latency_us` the kernel is asked (PM QoS, Documentation/power/pm_qos_interface.rst: an open
//! /dev/cpu_dma_latency) for idle states that end within so many microseconds, from the first look that finds
//! traffic to a second after the last. 0 keeps idle cores polling. The kernel ends the request with the process,
//! however that ends. Control thread.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::receive::TRAFFIC_PPS;

/// The kernel's end of the request.
const DEVICE: &str = "/dev/cpu_dma_latency";

/// How long without traffic until cores may sleep as before.
const QUIET: Duration = Duration::from_secs(1);

/// The request, held or not.
pub struct Resume {
    latency_us: Option<u32>,
    device: PathBuf,
    held: Option<File>,
    busy: Option<Instant>,
    /// The kernel refused: asking again would not help.
    refused: bool,
}

impl Resume {
    /// Asks for nothing yet; never does without `latency_us`.
    pub fn new(latency_us: Option<u32>) -> Resume {
        Resume::with_device(latency_us, Path::new(DEVICE))
    }

    fn with_device(latency_us: Option<u32>, device: &Path) -> Resume {
        Resume { latency_us, device: device.to_path_buf(), held: None, busy: None, refused: false }
    }

    /// The ports receive `pps` packets a second in all: makes or ends the request.
    pub fn sample(&mut self, pps: u64, now: Instant) {
        let Some(latency_us) = self.latency_us.filter(|_| !self.refused) else { return };
        if pps >= TRAFFIC_PPS {
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
                self.refused = true;
                let (device, mend) = (self.device.display(), "run switchd as root, or let its user write that file");
                tracing::warn!("resume_latency_us is without effect: {device}: {error}: {mend}");
            }
        }
    }

    /// True while the request stands.
    #[cfg(test)]
    fn is_held(&self) -> bool {
        self.held.is_some()
    }
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

    /// A file that stands for the device, and what was written to it.
    fn device(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("switchd-resume-{name}-{}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        path
    }

    #[test]
    fn traffic_makes_the_request_and_a_second_of_quiet_ends_it() {
        let (path, start) = (device("request"), Instant::now());
        let mut resume = Resume::with_device(Some(7), &path);
        let at = |millis| start + Duration::from_millis(millis);
        resume.sample(TRAFFIC_PPS - 1, at(0));
        assert!(!resume.is_held(), "a little traffic is none");
        resume.sample(TRAFFIC_PPS, at(100));
        assert!(resume.is_held());
        assert_eq!(std::fs::read(&path).unwrap(), 7i32.to_ne_bytes());
        resume.sample(0, at(1_000));
        assert!(resume.is_held(), "a pause is no end");
        resume.sample(0, at(1_100));
        assert!(!resume.is_held());
        resume.sample(TRAFFIC_PPS, at(1_200));
        assert!(resume.is_held(), "and again");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn nothing_is_asked_for_unless_configured_or_after_a_refusal() {
        let (path, now) = (device("none"), Instant::now());
        let mut resume = Resume::with_device(None, &path);
        resume.sample(1_000_000, now);
        assert!(!resume.is_held() && std::fs::read(&path).unwrap().is_empty());
        std::fs::remove_file(&path).unwrap();
        let mut resume = Resume::with_device(Some(0), &path);
        resume.sample(1_000_000, now);
        std::fs::write(&path, b"").unwrap();
        resume.sample(1_000_000, now);
        assert!(!resume.is_held(), "refused once, left alone");
        std::fs::remove_file(&path).unwrap();
    }
}
