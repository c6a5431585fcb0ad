//! The router on the real kernel: hosts in namespaces, their tools and their raw frames, the kernel's router as an oracle.

mod connectivity;
mod path_mtu;
mod redirects;
