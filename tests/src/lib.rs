//! What the tests of the whole switch share: frames, a reference switch, a one-worker lab, a simulator, fuzz targets.
//!
//! Only `net` touches the kernel's network, in namespaces of its own; the rest runs on the calling thread.

pub mod frames;
pub mod fuzz;
pub mod lab;
pub mod net;
pub mod reference;
pub mod router_lab;
pub mod sim;
