//! Containers that send their own traffic with an 802.1Q tag, default offloads and all.
//!
//! A small eBPF program at both hooks of `eth0` does what a VLAN interface would do, so that the kernel need not have
//! those. Any thread.

use super::process::{Output, installed, must_with_input, output};
use super::{Container, Lab, Namespace, skipped};

/// The program; `CONTROL` is left to the compiler's command line.
const SOURCE: &str = include_str!("tag.bpf.c");

/// The classic program that lets every frame pass: tells whether the kernel takes programs at a hook at all.
const PASS_ALL: &str = "1,6 0 0 0,";

/// True where containers can be made to tag. Otherwise a line says what is missing for `part` of the test.
pub fn can_tag(test: &str, part: &str, lab: &Lab) -> bool {
    if let Some(program) = ["clang", "tc"].into_iter().find(|program| !installed(program)) {
        skipped(test, &format!("{part} needs {program}, which is not installed"));
        return false;
    }
    let hook = tc(lab.host(), &["qdisc", "add", "dev", "lo", "clsact"]);
    let filter = ["filter", "add", "dev", "lo", "egress", "bpf", "da", "bytecode", PASS_ALL];
    let refused = [hook, tc(lab.host(), &filter)].into_iter().find(|done| done.code != 0);
    if let Some(refused) = &refused {
        let said = refused.stderr.trim().replace('\n', " ");
        skipped(test, &format!("{part} needs a kernel with clsact and cls_bpf (tc says: {said})"));
    }
    refused.is_none()
}

/// From now on everything the container's stack sends has a tag with these 16 bits, and it takes only what comes
/// back with the same VLAN id. With VLAN id 0 it takes what comes back without a tag.
///
/// # Panics
/// When the program does not compile or the kernel refuses it; ask [`can_tag`] first.
pub fn tag_all(container: &Container, control: u16, lab: &Lab) {
    let object = lab.files().join(format!("tag-{control}.o"));
    let object = object.to_str().expect("a path in ASCII");
    let define = format!("-DCONTROL={control}");
    must_with_input("clang", &["-O2", "-Wall", "-target", "bpf", &define, "-x", "c", "-", "-c", "-o", object], SOURCE);
    let place = |hook, section| ["filter", "add", "dev", "eth0", hook, "bpf", "da", "obj", object, "sec", section];
    let commands: [&[&str]; 3] =
        [&["qdisc", "add", "dev", "eth0", "clsact"], &place("egress", "sending"), &place("ingress", "receiving")];
    for command in commands {
        let done = tc(container.space(), command);
        assert!(done.code == 0, "tc {} behind {}: {}", command.join(" "), container.host_end(), done.stderr.trim());
    }
}

fn tc(space: &Namespace, arguments: &[&str]) -> Output {
    output(space.command("tc").args(arguments))
}
