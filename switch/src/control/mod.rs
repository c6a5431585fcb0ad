//! The control thread's side of the switch: the only writer of configuration.

pub mod server;
