//! Where worker threads run and before whom.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Nice value of worker threads: above everything else on a shared core. SCHED_FIFO starves the kernel
/// threads that feed the worker (measured: a third of the rate).
const NICE: i32 = -20;

/// The scheduling group of this process's session (sched(7), "The autogroup feature").
const AUTOGROUP: &str = "/proc/self/autogroup";
/// Whether the kernel groups tasks by session.
const AUTOGROUP_ENABLED: &str = "/proc/sys/kernel/sched_autogroup_enabled";

/// Pins and raises the calling thread, saying what could not be done.
pub(super) fn settle(core: usize, index: usize) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        tracing::warn!("worker {index}: cannot pin to core {core}: check the process's allowed cores (taskset -p)");
    }
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::warn!("worker {index}: cannot raise priority to nice {NICE} ({error}): grant CAP_SYS_NICE");
    }
}

/// Moves the calling thread, and threads it starts from now on, to the process's cores other than `taken`. Beside
/// a spinning worker it would get a hundredth of the core. Does nothing if no core is left.
pub fn keep_off(taken: &[usize]) {
    let Ok(mut cores) = sched_getaffinity(None) else { return };
    taken.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| cores.unset(core));
    if cores.count() > 0
        && let Err(error) = sched_setaffinity(None, &cores)
    {
        tracing::warn!("cannot keep the control thread off the workers' cores: {error}");
    }
}

/// The raised scheduling group of this process's session; dropping it puts the old value back.
pub struct SessionPriority {
    before: i32,
}

/// Raises the scheduling group of this process's session. Where the kernel groups tasks by session, nice
/// values count inside a session only: a worker at nice -20 would get half a core beside one busy
/// process of another session (measured: a tenth of the packet rate). `None` if there is nothing to
/// raise (no autogrouping) or it could not be done, which is logged. Main thread, once, at start.
pub fn raise_session() -> Option<SessionPriority> {
    let group = fs::read_to_string(AUTOGROUP).ok()?;
    if fs::read_to_string(AUTOGROUP_ENABLED).is_ok_and(|on| on.trim() == "0") {
        return None;
    }
    let before = value_to_restore(&group)?;
    if let Err(error) = fs::write(AUTOGROUP, NICE.to_string()) {
        let group = group.trim();
        tracing::warn!(
            "cannot raise this session's scheduling group ({group}) to nice {NICE}: {error}; \
            other sessions share the workers' cores evenly: set kernel.sched_autogroup_enabled = 0"
        );
        return None;
    }
    Some(SessionPriority { before })
}

impl Drop for SessionPriority {
    fn drop(&mut self) {
        if let Err(error) = fs::write(AUTOGROUP, self.before.to_string()) {
            tracing::warn!("cannot put this session's scheduling group back to nice {}: {error}", self.before);
        }
    }
}

/// What to put back at the end, from `/autogroup-25 nice 0`: the value there, but 0 for the raised one. That is what
/// a predecessor in this session left that was killed; taken as it is, the session would stay raised for ever.
fn value_to_restore(group: &str) -> Option<i32> {
    let (_, nice) = group.trim().rsplit_once(" nice ")?;
    nice.parse().ok().map(|nice| if nice == NICE { 0 } else { nice })
}

#[cfg(test)]
mod tests {
    use super::value_to_restore;

    #[test]
    fn the_nice_value_of_an_autogroup_is_its_last_word() {
        assert_eq!(value_to_restore("/autogroup-25 nice -5\n"), Some(-5));
        assert_eq!(value_to_restore("/autogroup-25\n"), None);
    }

    #[test]
    fn what_a_killed_predecessor_left_is_not_put_back() {
        assert_eq!(value_to_restore("/autogroup-25 nice -20\n"), Some(0));
    }
}
