//! State shared by the workers and the control thread: the tables that decide where a frame goes.
//!
//! Nothing here reads a clock, a random source or the configuration: each is passed in.

pub mod fdb;
