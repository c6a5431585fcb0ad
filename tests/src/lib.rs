//! What the tests of the whole switch share: frames, a reference switch, a one-worker lab, a simulator.
//!
//! Nothing here touches the kernel's network; everything runs on the calling thread.

pub mod frames;
pub mod lab;
pub mod reference;
pub mod sim;
