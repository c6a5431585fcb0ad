//! The loop of the control thread: one `mio::Poll` over the control socket, worker events, link events, signals
//! and the next timer. It sleeps whenever nothing is due.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::server::Server;
use super::{Closer, Control, tell_service_manager};
use crate::port::SharedPool;
use crate::worker::Command;

const SIGNALS: Token = Token(0);
const CLOSER: Token = Token(1);
const WORKERS: Token = Token(2);
const LINKS: Token = Token(3);
const SERVER: Token = Token(4);

/// Events taken at once.
const EVENTS: usize = 128;

/// How long an end may wait for workers and clients before it goes on without them.
const END_PATIENCE: Duration = Duration::from_millis(1_500);

/// The loop, before it runs.
pub struct EventLoop {
    poll: Poll,
    waker: Arc<Waker>,
    signals: Option<Signals>,
}

impl EventLoop {
    /// A loop; with `signals`, it also takes SIGTERM and SIGINT (end) and SIGHUP (reload) of the process.
    ///
    /// # Errors
    /// What epoll or the signal handlers report.
    pub fn new(signals: bool) -> io::Result<EventLoop> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), CLOSER)?);
        let mut taken = None;
        if signals {
            let mut source = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
            poll.registry().register(&mut source, SIGNALS, Interest::READABLE)?;
            taken = Some(source);
        }
        Ok(EventLoop { poll, waker, signals: taken })
    }

    /// A closer that wakes this loop.
    pub fn closer(&self, pool: &Arc<SharedPool>) -> Closer {
        let waker = Arc::clone(&self.waker);
        // A loop that cannot be woken looks at the closer at its next timer.
        Closer::spawn(Arc::clone(pool), move || drop(waker.wake()))
    }

    /// Runs until a signal or a request ends the switch; then detaches every port, stops the workers and removes
    /// the socket file. The caller joins the worker threads.
    ///
    /// # Errors
    /// What epoll reports. Workers are told to stop in any case.
    pub fn run(mut self, control: &mut Control, mut server: Server) -> io::Result<()> {
        let ended = self.turns(control, &mut server);
        for worker in 0..control.shared.workers() {
            control.shared.command(worker, Command::Stop);
        }
        ended
    }

    fn turns(&mut self, control: &mut Control, server: &mut Server) -> io::Result<()> {
        server.register(self.poll.registry(), SERVER)?;
        self.watch(Some(control.shared.control_fd()), WORKERS)?;
        self.watch(control.link_source.fd(), LINKS)?;
        let mut events = Events::with_capacity(EVENTS);
        let mut deadline = None;
        loop {
            let now = Instant::now();
            let served = server.tick(now, control);
            let due = control.turn(now);
            if control.is_stopping() {
                let deadline = *deadline.get_or_insert_with(|| {
                    tell_service_manager(sd_notify::NotifyState::Stopping);
                    now + END_PATIENCE
                });
                if (control.is_over() && !server.owes_answers()) || now >= deadline {
                    return Ok(());
                }
            }
            let mut sleep = due.min(deadline.unwrap_or(due)).saturating_duration_since(now);
            if let Some(served) = served {
                sleep = sleep.min(served);
            }
            match self.poll.poll(&mut events, Some(sleep)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    SIGNALS => self.obey_signals(control),
                    token if server.owns(token) => server.on_event(token),
                    // Workers, the closer and links are looked at in every turn.
                    _ => {}
                }
            }
        }
    }

    fn obey_signals(&mut self, control: &mut Control) {
        for signal in self.signals.iter_mut().flat_map(Signals::pending) {
            match signal {
                SIGHUP => control.reload_and_log(),
                _ => control.stop(),
            }
        }
    }

    fn watch(&self, fd: Option<BorrowedFd<'_>>, token: Token) -> io::Result<()> {
        match fd {
            Some(fd) => self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE),
            None => Ok(()),
        }
    }
}
