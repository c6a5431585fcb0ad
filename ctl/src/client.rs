//! The asking end: a blocking client of the control socket, for switchctl and for tests. Any thread.

use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::codec::{LineBuffer, LineTooLong, RESPONSE_MAX, write_line};
use crate::protocol::{Done, ErrorBody, Request, RequestLine, ResponseLine};

/// How long a client waits for the next bytes before it gives up.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Why a request brought no answer, or no complete one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket there, or nobody behind it.
    #[error("no switchd answers at {0}: start it with switchd --config FILE or name its socket with --socket")]
    NotRunning(PathBuf),
    /// The socket's mode does not let this user in.
    #[error("no permission to use {path}: become a member of group {group}, or run as root")]
    Permission {
        /// Socket path.
        path: PathBuf,
        /// Group that owns the socket, by name where it has one.
        group: String,
    },
    /// The server said no; its message names the object and the mend.
    #[error("{0}")]
    Server(ErrorBody),
    /// The server closed the connection before the answer was complete.
    #[error("switchd at {0} closed the connection before the answer was complete: see its log")]
    Closed(PathBuf),
    /// Nothing came for the time given.
    #[error("switchd at {path} did not answer within {seconds} s: see whether it is stopped or overloaded")]
    Timeout {
        /// Socket path.
        path: PathBuf,
        /// The time given, in seconds.
        seconds: u64,
    },
    /// What came is no line of the protocol.
    #[error("{path} sent what this switchctl cannot read ({problem}): install switchctl and switchd of one version")]
    Garbled {
        /// Socket path.
        path: PathBuf,
        /// What the reader reports.
        problem: String,
    },
    /// Any other failure of the socket.
    #[error("talking to switchd at {path} failed: {source}")]
    Io {
        /// Socket path.
        path: PathBuf,
        /// What the system reports.
        source: io::Error,
    },
}

impl ClientError {
    /// True where a fresh connection may succeed: the server restarted or was not there yet.
    pub fn is_gone(&self) -> bool {
        matches!(self, ClientError::NotRunning(_) | ClientError::Closed(_))
    }
}

/// One connection to switchd; requests go one after the other.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    lines: LineBuffer,
    /// Id of the last request.
    id: u64,
    path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// Connects to the socket at `path`; `timeout` bounds every later wait.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`], [`ClientError::Permission`] or [`ClientError::Io`].
    pub fn connect(path: &Path, timeout: Duration) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(path).map_err(|e| connect_error(path, e))?;
        let limit = Some(timeout.max(Duration::from_millis(1)));
        let set = stream.set_read_timeout(limit).and_then(|()| stream.set_write_timeout(limit));
        set.map_err(|source| ClientError::Io { path: path.to_owned(), source })?;
        Ok(Client { stream, lines: LineBuffer::new(RESPONSE_MAX), id: 0, path: path.to_owned(), timeout })
    }

    /// Sends a request; its items come from the iterator as they arrive.
    ///
    /// # Errors
    /// [`ClientError::Timeout`], [`ClientError::Io`]. What the server answers comes from the iterator.
    pub fn request<T: DeserializeOwned>(&mut self, request: Request) -> Result<Items<'_, T>, ClientError> {
        self.id += 1;
        let mut line = Vec::new();
        write_line(&mut line, &RequestLine::new(self.id, request)).map_err(|e| self.garbled(e.to_string()))?;
        match self.stream.write_all(&line) {
            // A server that refuses a client says why and hangs up: read that first.
            Err(e) if !is_hang_up(&e) => Err(self.io_error(e)),
            _ => Ok(Items { client: self, done: None, over: false, item: PhantomData }),
        }
    }

    /// Sends a request that is answered without items, or whose items do not matter.
    ///
    /// # Errors
    /// As [`request`](Self::request), and what the server answers.
    pub fn call(&mut self, request: Request) -> Result<Done, ClientError> {
        Ok(self.collect::<serde_json::Value>(request)?.1)
    }

    /// Sends a request and waits for all its items.
    ///
    /// # Errors
    /// As [`request`](Self::request), and what the server answers.
    pub fn collect<T: DeserializeOwned>(&mut self, request: Request) -> Result<(Vec<T>, Done), ClientError> {
        let mut items = self.request(request)?;
        let mut all = Vec::new();
        for item in &mut items {
            all.push(item?);
        }
        Ok((all, items.into_done()))
    }

    /// The next line that answers the request `self.id`.
    fn next_response<T: DeserializeOwned>(&mut self) -> Result<ResponseLine<T>, ClientError> {
        loop {
            let line = match self.lines.next_line() {
                Ok(line) => line,
                Err(e @ LineTooLong { .. }) => return Err(self.garbled(e.to_string())),
            };
            let Some(line) = line else {
                self.fill()?;
                continue;
            };
            let problem = match serde_json::from_slice::<ResponseLine<T>>(line) {
                Ok(response) if response.id == self.id || response.id == 0 => return Ok(response),
                Ok(_) => continue,
                Err(e) => e.to_string(),
            };
            // Items of an earlier answer that was not read to its end may be of another kind.
            match serde_json::from_slice::<ResponseLine<serde::de::IgnoredAny>>(line) {
                Ok(other) if other.id != self.id && other.id != 0 => {}
                _ => return Err(self.garbled(problem)),
            }
        }
    }

    fn fill(&mut self) -> Result<(), ClientError> {
        loop {
            match self.lines.fill(&mut self.stream) {
                Ok(0) => return Err(ClientError::Closed(self.path.clone())),
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_hang_up(&e) => return Err(ClientError::Closed(self.path.clone())),
                Err(e) => return Err(self.io_error(e)),
            }
        }
    }

    fn io_error(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ClientError::Timeout { path, seconds: self.timeout.as_secs() }
            }
            _ => ClientError::Io { path, source },
        }
    }

    fn garbled(&self, problem: String) -> ClientError {
        ClientError::Garbled { path: self.path.clone(), problem }
    }
}

/// The items of one answer, in the order of the server. After the last one [`done`](Self::done) is set; after an
/// error the iterator ends.
#[derive(Debug)]
pub struct Items<'a, T> {
    client: &'a mut Client,
    done: Option<Done>,
    over: bool,
    item: PhantomData<T>,
}

impl<T> Items<'_, T> {
    /// The server's summary, once the iterator has ended without an error.
    pub fn done(&self) -> Option<&Done> {
        self.done.as_ref()
    }

    /// The same, by value; empty before the end.
    pub fn into_done(self) -> Done {
        self.done.unwrap_or_default()
    }
}

impl<T: DeserializeOwned> Iterator for Items<'_, T> {
    type Item = Result<T, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let response = match self.client.next_response::<T>() {
            Ok(ResponseLine { item: Some(item), .. }) => return Some(Ok(item)),
            other => other,
        };
        self.over = true;
        match response {
            Ok(ResponseLine { error: Some(error), .. }) => Some(Err(ClientError::Server(error))),
            Ok(ResponseLine { done: Some(done), .. }) => {
                self.done = Some(done);
                None
            }
            Ok(_) => Some(Err(self.client.garbled("a line with neither item, done nor error".to_owned()))),
            Err(e) => Some(Err(e)),
        }
    }
}

fn is_hang_up(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn connect_error(path: &Path, source: io::Error) -> ClientError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(path),
        io::ErrorKind::PermissionDenied => {
            let group = match std::fs::symlink_metadata(&path) {
                Ok(file) => group_name(file.gid(), &std::fs::read_to_string("/etc/group").unwrap_or_default()),
                Err(_) => "root".to_owned(),
            };
            ClientError::Permission { path, group }
        }
        _ => ClientError::Io { path, source },
    }
}

/// The name of group `gid` in `table` (the text of /etc/group, group(5)), or its number.
fn group_name(gid: u32, table: &str) -> String {
    let named = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| gid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Serves one connection: answers every request line with the next of `answers`, then hangs up.
    fn server(dir: &Path, answers: &'static [&'static str]) -> PathBuf {
        let path = dir.join("s.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
            for answer in answers {
                requests.next();
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        path
    }

    fn client(answers: &'static [&'static str]) -> (tempfile::TempDir, Client) {
        let dir = tempfile::tempdir().unwrap();
        let path = server(dir.path(), answers);
        let client = Client::connect(&path, Duration::from_millis(300)).unwrap();
        (dir, client)
    }

    #[test]
    fn items_then_done() {
        let (_dir, mut client) =
            client(&["{\"id\":1,\"item\":5}\n{\"id\":1,\"item\":6}\n{\"id\":1,\"done\":{\"limit\":9}}\n"]);
        let (items, done) = client.collect::<u32>(Request::ShowBridges {}).unwrap();
        assert_eq!(items, [5, 6]);
        assert_eq!(done.limit, Some(9));
    }

    #[test]
    fn an_answer_left_early_does_not_spoil_the_next() {
        let (_dir, mut client) = client(&[
            "{\"id\":1,\"item\":5}\n{\"id\":1,\"item\":6}\n",
            "{\"id\":1,\"done\":{}}\n{\"id\":2,\"item\":\"a\"}\n{\"id\":2,\"done\":{}}\n",
        ]);
        assert_eq!(client.request::<u32>(Request::ShowBridges {}).unwrap().next().unwrap().unwrap(), 5);
        assert_eq!(client.collect::<String>(Request::ShowPorts { port: None }).unwrap().0, ["a"]);
    }

    #[test]
    fn every_failure_is_one_clear_line() {
        let missing = Client::connect(Path::new("/nonexistent/x.sock"), TIMEOUT_DEFAULT).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "no switchd answers at /nonexistent/x.sock: start it with switchd --config FILE or name its socket with --socket"
        );
        let (_dir, mut refused) =
            client(&["{\"id\":1,\"error\":{\"code\":\"refused\",\"message\":\"no bridge red\"}}\n"]);
        assert_eq!(refused.call(Request::Reload {}).unwrap_err().to_string(), "no bridge red");
        let (_dir, mut closed) = client(&["{\"id\":1,\"item\":5}\n"]);
        assert!(matches!(closed.collect::<u32>(Request::Reload {}), Err(ClientError::Closed(_))));
        let (_dir, mut garbled) = client(&["hello\n"]);
        assert!(matches!(garbled.call(Request::Reload {}), Err(ClientError::Garbled { .. })));
        let (_dir, mut empty) = client(&["{\"id\":1}\n"]);
        assert!(matches!(empty.call(Request::Reload {}), Err(ClientError::Garbled { .. })));
        let (_dir, mut other) = client(&["{\"id\":1,\"item\":\"text\"}\n"]);
        assert!(matches!(other.collect::<u32>(Request::Reload {}), Err(ClientError::Garbled { .. })));
    }

    #[test]
    fn a_server_that_says_nothing_times_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect(&path, Duration::from_millis(50)).unwrap();
        assert!(matches!(client.call(Request::Reload {}), Err(ClientError::Timeout { .. })));
    }

    #[test]
    fn a_refusal_before_the_request_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect(&path, Duration::from_secs(5)).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"{\"id\":0,\"error\":{\"code\":\"refused\",\"message\":\"full\"}}\n").unwrap();
        drop(stream);
        assert_eq!(client.call(Request::Reload {}).unwrap_err().to_string(), "full");
    }

    #[test]
    fn groups_by_name_or_number() {
        let table = "root:x:0:\nbroken\nnetdev:x:106:alice,bob\n";
        assert_eq!(group_name(106, table), "netdev");
        assert_eq!(group_name(7, table), "7");
    }
}
