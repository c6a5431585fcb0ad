//! The port layer of the switch with nothing between its ports: what comes in on one goes out of the other, unread. The
//! rate of `switchd` over the rate of this is what its stages cost. Runs as a process of its own (`swbench port-loop`).

use super::Settings;
use crate::cmd::{Process, cmd};
use crate::error::{Error, Result};
use crate::rig::{HOST_A_IF, HOST_B_IF, Rig};
use std::sync::Arc;
use switch::limits::{FILL_MAX, FRAMES_DEFAULT};
use switch::port::afxdp::AfxdpFactory;
use switch::port::{CONTAINER_GRO, FramePool, Frames, Port, PortFactory, PortSpec};
use switch::worker::raise_session;

/// Starts the loop between the host ends.
///
/// # Errors
/// [`Error::Io`] when this program cannot be found, [`Error::Command`] when it cannot be started.
pub fn start(rig: &Rig, settings: &Settings) -> Result<Vec<Process>> {
    let exe = std::env::current_exe().map_err(|e| Error::io("find this program", e))?;
    let core = settings.device_core.to_string();
    let words = [exe.display().to_string(), "port-loop".into(), HOST_A_IF.into(), HOST_B_IF.into(), core];
    Ok(vec![cmd(words).in_netns(&rig.h()).spawn(&rig.dir().join("port-loop.log"))?])
}

/// Forwards between two interfaces of the current namespace on `core` until the process is killed.
///
/// # Errors
/// [`Error::Device`] when an interface cannot be attached or stops working.
pub fn run(interfaces: [&str; 2], core: usize) -> Result<()> {
    let fail = |why: String| Error::Device { device: "loop", why };
    let (mut factory, shared) = AfxdpFactory::new(FRAMES_DEFAULT, &[core]).map_err(|e| fail(e.to_string()))?;
    let merges = factory.features().iter().any(|feature| feature.name == CONTAINER_GRO && feature.present);
    let mut opened = Vec::new();
    for interface in interfaces {
        let index = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))
            .map_err(|e| Error::io(format!("read the index of {interface}"), e))?;
        let ifindex = index.trim().parse().map_err(|_| fail(format!("{interface}: no index in '{index}'")))?;
        let spec = PortSpec { interface: interface.into(), ifindex, fill_target: FILL_MAX, patient: true };
        let mut port = factory.open(&spec).map_err(|e| fail(e.to_string()))?;
        if merges {
            let merged = port.attachment.merge_at_container(&[core]);
            merged.map_err(|e| Error::io(format!("have the far end of {interface} receive in batches"), e))?;
        }
        opened.push(port);
    }
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let _priority = raise_session();
    let nice = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -20);
    nice.map_err(|e| Error::io("raise the priority", std::io::Error::from(e)))?;

    let mut pool = FramePool::new(Arc::clone(&shared));
    let mut frames = Frames::new();
    let mut queues: Vec<Box<dyn Port>> = opened.iter_mut().map(|port| port.queues.remove(0)).collect();
    let [first, second] = queues.as_mut_slice() else { return Err(fail("it takes two interfaces".into())) };
    loop {
        forward(&mut pool, &mut frames, &mut **first, &mut **second);
        forward(&mut pool, &mut frames, &mut **second, &mut **first);
        for port in [&mut *first, &mut *second] {
            port.service(&mut pool).map_err(|e| fail(e.to_string()))?;
        }
    }
}

fn forward(pool: &mut FramePool, frames: &mut Frames, from: &mut dyn Port, to: &mut dyn Port) {
    from.rx(pool, frames);
    to.tx(pool, frames);
    frames.drain(..).for_each(|frame| pool.free(frame));
}
