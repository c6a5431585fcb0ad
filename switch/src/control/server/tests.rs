//! The server against real Unix sockets: well-behaved clients, and every kind of bad one.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as Client;
use std::path::PathBuf;

use ctl::mac::Mac;
use ctl::protocol::{ConfigSection, FdbEntry, FdbKind};
use mio::{Events, Poll};
use serde_json::{Value, json};

use super::*;

const FIRST: usize = 100;

/// A handler with one big table, one request that takes a while, and a count of what it was asked.
struct Fake {
    entries: usize,
    handled: usize,
    wait_turns: usize,
}

/// Counts down its entries like a scan of the forwarding table.
struct Dump {
    next: usize,
    end: usize,
}

impl ResponseStream for Dump {
    fn next_chunk(&mut self, out: &mut Vec<Item>, context: &ChunkContext) -> Progress {
        for _ in 0..context.items_max.min(self.end - self.next) {
            out.push(Item::Fdb(entry(self.next)));
            self.next += 1;
        }
        if self.next == self.end { Progress::Done(Done { limit: Some(7), ..Done::default() }) } else { Progress::More }
    }
}

/// Has nothing to say for some turns.
struct Waiting(usize);

impl ResponseStream for Waiting {
    fn next_chunk(&mut self, _: &mut Vec<Item>, _: &ChunkContext) -> Progress {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Progress::Wait
            }
            None => Progress::Failed(ErrorBody::failed("the worker did not answer")),
        }
    }
}

impl Handler for Fake {
    fn handle(&mut self, request: Request) -> Reply {
        self.handled += 1;
        match request {
            Request::ShowFdb(_) => Reply::Stream(Box::new(Dump { next: 0, end: self.entries })),
            Request::Reload {} => Reply::Stream(Box::new(Waiting(self.wait_turns))),
            Request::ShowConfig {} => {
                let values = json!({"text": "x".repeat(1000)}).as_object().unwrap().clone();
                let section = ConfigSection { section: "switch".into(), repeated: false, values };
                Reply::Done(vec![Item::Config(section)], Done::default())
            }
            Request::DelPort { port } => Reply::Error(ErrorBody::refused(format!("no port {port}"))),
            _ => Reply::Done(Vec::new(), Done::message("ok")),
        }
    }
}

fn entry(number: usize) -> FdbEntry {
    let [.., a, b, c] = (number as u64).to_be_bytes();
    FdbEntry {
        mac: Mac([2, 0, 0, a, b, c]),
        bridge: "pods".into(),
        vlan: 0,
        port: "web0".into(),
        kind: FdbKind::Dynamic,
        sticky: false,
        waiting: false,
        age_seconds: 1,
    }
}

/// A server in a poll of its own, turned by hand with a clock of its own.
struct Rig {
    server: Server,
    poll: Poll,
    handler: Fake,
    now: Instant,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let poll = Poll::new().unwrap();
        let mut server = Server::bind(&path, 0o660, None).unwrap();
        server.register(poll.registry(), Token(FIRST)).unwrap();
        let handler = Fake { entries: 100_000, handled: 0, wait_turns: 3 };
        Rig { server, poll, handler, now: Instant::now(), path, _dir: dir }
    }

    /// A client whose reads never wait, so that a test can turn the server between them.
    fn connect(&self) -> Client {
        let client = Client::connect(&self.path).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    /// One turn of the control loop, without sleeping.
    fn turn(&mut self) -> Option<Duration> {
        let mut events = Events::with_capacity(128);
        self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        for event in &events {
            assert!(self.server.owns(event.token()));
            self.server.on_event(event.token());
        }
        self.server.tick(self.now, &mut self.handler)
    }

    /// Turns until the server has nothing more to do at once.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.turn() != Some(Duration::ZERO) {
                return;
            }
        }
        panic!("the server never rests");
    }

    /// Sends a line, turns, and reads what came back until the answer ends or the server hangs up.
    fn ask(&mut self, client: &mut Client, line: &str) -> Vec<Value> {
        client.write_all(line.as_bytes()).unwrap();
        client.write_all(b"\n").unwrap();
        self.answer(client)
    }

    fn answer(&mut self, client: &mut Client) -> Vec<Value> {
        let mut bytes = Vec::new();
        for _ in 0..10_000 {
            self.turn();
            let over = drain(client, &mut bytes);
            let lines: Vec<Value> =
                bytes.split(|&b| b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
            let complete = bytes.ends_with(b"\n") && lines.last().is_some_and(|l| l.get("item").is_none());
            if complete || over {
                return lines;
            }
        }
        panic!("no answer");
    }
}

/// Reads all there is; true at the end of the stream.
fn drain(client: &mut Client, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return true,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

const PING: &str = r#"{"version":1,"id":9,"request":{"version":{}}}"#;
const DUMP: &str = r#"{"version":1,"id":3,"request":{"show-fdb":{}}}"#;

fn pong() -> Vec<Value> {
    vec![json!({"id": 9, "done": {"items": 0, "message": "ok"}})]
}

#[test]
fn answers_items_errors_and_the_end() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    assert_eq!(rig.ask(&mut client, PING), pong());
    let refused = rig.ask(&mut client, r#"{"version":1,"id":4,"request":{"del-port":{"port":"x"}}}"#);
    assert_eq!(refused, [json!({"id": 4, "error": {"code": "refused", "message": "no port x"}})]);
    let config = rig.ask(&mut client, r#"{"version":1,"id":5,"request":{"show-config":{}}}"#);
    assert_eq!(config[0]["item"]["section"], "switch");
    assert_eq!(config[1], json!({"id": 5, "done": {"items": 1}}));
    assert_eq!(rig.turn(), None, "an idle client must not keep the loop awake");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    // One write: a Unix socket takes few small ones.
    let line = |id| format!("{{\"version\":1,\"id\":{id},\"request\":{{\"version\":{{}}}}}}\n");
    client.write_all((1..=500).map(line).collect::<String>().as_bytes()).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..1_000 {
        rig.turn();
        drain(&mut client, &mut bytes);
    }
    let ids: Vec<u64> =
        bytes.lines().map(|l| serde_json::from_str::<Value>(&l.unwrap()).unwrap()["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=500).collect::<Vec<u64>>());
}

#[test]
fn bad_lines_are_refused_and_the_client_goes_on() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    let bad: [(&[u8], u64, &str, &str); 8] = [
        (b"hello", 0, "usage", "not understood"),
        (b"\xff\xfe", 0, "usage", "not UTF-8 (byte 0)"),
        (b"[]", 0, "usage", "not understood"),
        (br#"{"version":1,"id":2,"request":{"show-fdb":{"brige":"x"}}}"#, 2, "usage", "unknown field `brige`"),
        (br#"{"version":1,"id":2,"request":{"dance":{}}}"#, 2, "usage", "unknown variant `dance`"),
        (br#"{"version":9,"id":2,"request":{"dance":{}}}"#, 2, "version", "protocol version 9, this switchd 1"),
        (br#"{"version":1,"id":2,"request":{"show-fdb":{"vlan":4095}}}"#, 2, "usage", "VLAN 4095 does not exist"),
        (br#"{"version":1,"id":2,"more":1,"request":{"reload":{}}}"#, 0, "usage", "unknown field `more`"),
    ];
    for (line, id, code, words) in bad {
        client.write_all(line).unwrap();
        client.write_all(b"\n").unwrap();
        let answer = rig.answer(&mut client);
        assert_eq!((answer.len(), &answer[0]["id"], &answer[0]["error"]["code"]), (1, &json!(id), &json!(code)));
        assert!(answer[0]["error"]["message"].as_str().unwrap().contains(words), "{}", answer[0]);
    }
    assert_eq!(rig.handler.handled, 0);
    client.write_all(b"\n  \r\n").unwrap();
    assert_eq!(rig.ask(&mut client, PING), pong());
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    let answer = rig.ask(&mut client, &"[".repeat(60_000));
    assert_eq!(answer[0]["error"]["code"], "usage");
    assert_eq!(rig.ask(&mut client, PING), pong());
}

#[test]
fn a_huge_line_gets_one_error_and_the_door() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    let huge = vec![b'x'; 1 << 20];
    let mut sent = 0;
    let mut bytes = Vec::new();
    let over = (0..1000).any(|_| {
        match client.write(&huge[sent..]) {
            Ok(n) => sent += n,
            Err(e) => assert!(matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe), "{e}"),
        }
        rig.turn();
        drain(&mut client, &mut bytes)
    });
    assert!(over);
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(answer["id"], 0);
    assert!(answer["error"]["message"].as_str().unwrap().starts_with("a line is longer than 65536 bytes"));
    assert!(sent < huge.len(), "the server read on");
    assert_eq!(rig.server.clients(), 0);
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    write!(client, "{PING}\n{PING}").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    rig.settle();
    let mut bytes = Vec::new();
    assert!(drain(&mut client, &mut bytes), "the server hangs up when it has answered");
    assert_eq!(String::from_utf8(bytes).unwrap().lines().count(), 2);
    assert_eq!(rig.server.clients(), 0);
}

#[test]
fn a_client_that_leaves_amid_a_dump_takes_nothing_along() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    writeln!(client, "{DUMP}").unwrap();
    rig.turn();
    rig.turn();
    drop(client);
    rig.settle();
    assert_eq!((rig.server.clients(), rig.server.owes_answers()), (0, false));
}

#[test]
fn a_dump_streams_while_others_are_answered_at_once() {
    let mut rig = Rig::new();
    let mut big = rig.connect();
    let mut quick = rig.connect();
    writeln!(big, "{DUMP}").unwrap();
    let mut bytes = Vec::new();
    let (mut answered, mut turns) = (0, 0);
    while !bytes.ends_with(b"}}\n") || !String::from_utf8_lossy(&bytes[bytes.len() - 80..]).contains("done") {
        writeln!(quick, "{PING}").unwrap();
        rig.turn();
        rig.turn();
        let mut reply = Vec::new();
        drain(&mut quick, &mut reply);
        answered += usize::from(!reply.is_empty());
        turns += 1;
        drain(&mut big, &mut bytes);
        assert!(turns < 10_000);
    }
    assert_eq!(answered, turns, "a quick request waited for the dump");
    assert!(turns > 50, "the dump came in {turns} pieces only");
    let lines: Vec<Value> = bytes.lines().map(|l| serde_json::from_str(&l.unwrap()).unwrap()).collect();
    assert_eq!(lines.len(), 100_001);
    assert_eq!(lines[0]["item"], serde_json::to_value(entry(0)).unwrap());
    assert_eq!(lines[99_999]["item"]["mac"], entry(99_999).mac.to_string());
    assert_eq!(lines[100_000]["done"], json!({"items": 100_000, "limit": 7}));
}

#[test]
fn a_slow_reader_costs_a_bounded_buffer_and_is_dropped_in_the_end() {
    let mut rig = Rig::new();
    let mut slow = rig.connect();
    writeln!(slow, "{DUMP}").unwrap();
    rig.settle();
    let held = rig.server.clients[0].as_ref().unwrap().held();
    assert!(held < 256 * 1024, "{held} bytes kept for a slow reader");
    // Others do not notice.
    let mut quick = rig.connect();
    assert_eq!(rig.ask(&mut quick, PING), pong());
    // Reading a little buys time; reading nothing does not.
    rig.now += Duration::from_secs(29);
    let mut some = vec![0; 300_000];
    assert!(slow.read(&mut some).unwrap() > 0);
    rig.settle();
    rig.now += Duration::from_secs(29);
    rig.settle();
    assert_eq!(rig.server.clients(), 2);
    rig.now += Duration::from_secs(2);
    rig.settle();
    assert_eq!(rig.server.clients(), 1);
    assert_eq!(rig.ask(&mut quick, PING), pong());
}

#[test]
fn half_a_request_is_not_waited_for_for_ever() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    let mut silent = rig.connect();
    client.write_all(b"{\"version\":").unwrap();
    rig.settle();
    rig.now += Duration::from_secs(20);
    client.write_all(b"1,").unwrap();
    assert!(rig.turn().is_some());
    rig.now += Duration::from_secs(11);
    rig.settle();
    // The drip is gone, the silent one may stay.
    assert_eq!(rig.server.clients(), 1);
    assert_eq!(rig.ask(&mut silent, PING), pong());
}

#[test]
fn the_65th_client_is_refused_unless_somebody_is_idle() {
    let mut rig = Rig::new();
    let mut clients: Vec<Client> = (0..70).map(|_| rig.connect()).collect();
    rig.settle();
    assert_eq!(rig.server.clients(), CLIENTS_MAX);
    for refused in &mut clients[64..] {
        let mut bytes = Vec::new();
        assert!(drain(refused, &mut bytes));
        let line: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(line["error"]["message"], "64 clients are connected already: close one and try again");
    }
    for client in &mut clients[1..64] {
        assert_eq!(rig.ask(client, PING), pong());
    }
    rig.now += Duration::from_secs(4);
    for client in &mut clients[1..64] {
        assert_eq!(rig.ask(client, PING), pong());
    }
    rig.now += Duration::from_secs(2);
    // Client 0 has never spoken: it makes room, and only for one.
    let mut next = rig.connect();
    assert_eq!(rig.ask(&mut next, PING), pong());
    assert!(drain(&mut clients[0], &mut Vec::new()));
    let mut another = rig.connect();
    rig.settle();
    let mut bytes = Vec::new();
    assert!(drain(&mut another, &mut bytes) && !bytes.is_empty());
    // One that leaves makes room at once.
    drop(clients.swap_remove(1));
    rig.settle();
    let mut last = rig.connect();
    assert_eq!(rig.ask(&mut last, PING), pong());
}

#[test]
fn a_waiting_answer_is_asked_again_without_spinning() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    client.write_all(b"{\"version\":1,\"id\":1,\"request\":{\"reload\":{}}}\n").unwrap();
    let mut sleeps = 0;
    let mut bytes = Vec::new();
    while bytes.is_empty() {
        let sleep = rig.turn();
        if sleep.is_some_and(|d| d > Duration::ZERO) {
            sleeps += 1;
            rig.now += sleep.unwrap();
        }
        drain(&mut client, &mut bytes);
        assert!(sleeps < 10);
    }
    assert_eq!(sleeps, 3);
    assert!(String::from_utf8(bytes).unwrap().contains("the worker did not answer"));
}

#[test]
fn seeded_garbage_from_many_clients_harms_nobody() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let mut rig = Rig::new();
    rig.handler.entries = 300;
    let mut random = StdRng::seed_from_u64(1);
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..3_000 {
        if clients.len() < 40 && random.random_bool(0.3) {
            clients.push(rig.connect());
        }
        if !clients.is_empty() {
            let index = random.random_range(0..clients.len());
            let client = &mut clients[index];
            match random.random_range(0..6) {
                0 => drop(client.write(DUMP.as_bytes())),
                1 => drop(client.write(b"\n")),
                2 => {
                    drop(client.write(&(0..random.random_range(0..3000)).map(|_| random.random()).collect::<Vec<u8>>()))
                }
                3 => drop(drain(client, &mut Vec::new())),
                4 => drop(client.shutdown(Shutdown::Write)),
                _ => drop(clients.swap_remove(index)),
            }
        }
        rig.turn();
        assert!(rig.server.clients() <= CLIENTS_MAX);
    }
    drop(clients);
    rig.settle();
    assert_eq!(rig.server.clients(), 0);
    let mut client = rig.connect();
    assert_eq!(rig.ask(&mut client, PING), pong());
}

#[test]
fn the_blocking_client_talks_to_the_server() {
    let mut rig = Rig::new();
    let path = rig.path.clone();
    let asking = std::thread::spawn(move || {
        let mut client = ctl::client::Client::connect(&path, Duration::from_secs(20)).unwrap();
        let (entries, done) = client.collect::<FdbEntry>(Request::ShowFdb(Default::default())).unwrap();
        let refused = client.call(Request::DelPort { port: "x".into() }).unwrap_err();
        (entries.len(), done.items, refused.to_string())
    });
    let until = Instant::now() + Duration::from_secs(20);
    while !asking.is_finished() && Instant::now() < until {
        rig.turn();
    }
    assert_eq!(asking.join().unwrap(), (100_000, 100_000, "no port x".to_owned()));
}

#[test]
fn the_socket_file_goes_with_the_server() {
    let rig = Rig::new();
    assert!(rig.path.exists());
    let (server, path) = (rig.server, rig.path);
    drop(server);
    assert!(!path.exists());
}
