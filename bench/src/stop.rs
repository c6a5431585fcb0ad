//! The flag that SIGINT and SIGTERM raise. Made once by `main`, polled wherever the rig waits, so that the guards of
//! [`crate::rig`] and [`crate::cmd`] run and nothing is left behind.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Shared "please end" flag; clones see the same flag. Any thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Makes a flag that SIGINT and SIGTERM raise. A second signal of either kind ends the process at once.
    ///
    /// # Errors
    /// [`Error::Io`] when the handlers cannot be installed.
    pub fn on_signals() -> Result<Self> {
        let stop = Stop::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop.0))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop.0)))
                .map_err(|e| Error::io(format!("install handler of signal {signal}"), e))?;
        }
        Ok(stop)
    }

    /// Raises the flag.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is up.
    pub fn raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once the flag is up.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.raised() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Sleeps for `time`, in short steps.
    ///
    /// # Errors
    /// [`Error::Interrupted`] as soon as the flag is up.
    pub fn sleep(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_flag_ends_a_sleep() {
        let stop = Stop::default();
        assert!(stop.sleep(Duration::from_millis(1)).is_ok());
        stop.clone().raise();
        let start = Instant::now();
        assert!(matches!(stop.sleep(Duration::from_secs(30)), Err(Error::Interrupted)));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
