//! Tests with options of their own: one file each, with its options and what it makes of them.

pub mod disturb;
pub mod idle;
pub mod tcp;
