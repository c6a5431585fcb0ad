//! What the benches share that measure one of the switch's tables beside those that others would take.

pub mod report;
pub mod yardstick;
