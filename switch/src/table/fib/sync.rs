//! The atomics of the FIB, in one place.

pub(super) use std::sync::atomic::{AtomicU32, Ordering};
