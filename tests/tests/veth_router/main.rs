//! The router on the real kernel: hosts in namespaces, their tools and their raw frames, the kernel's router as an
//! oracle.

mod connectivity;
mod dhcp;
mod dhcp_clients;
mod differential;
mod fairness;
mod fragments;
mod listed;
mod malformed;
mod neighbours;
mod path_mtu;
mod random;
mod redirects;
mod slaac;
