//! What is said on the control socket: one JSON object a line, both ways, protocol version 1.
//!
//! A client writes `{"version":1,"id":7,"request":{"show-fdb":{"bridge":"pods"}}}`. The server answers with
//! any number of `{"id":7,"item":{...}}` lines and then exactly one of `{"id":7,"done":{...}}` and
//! `{"id":7,"error":{"code":"refused","message":"..."}}`. Requests of one client are answered in order. An
//! error whose id is 0 belongs to a line that had no readable id.
//!
//! Requests refuse unknown keys, so that a misspelt filter never means "everything". Items accept unknown
//! keys, so that an older client reads a newer switch. Used by `client` and by the switch's control thread.

use std::fmt;

use serde::{Deserialize, Serialize};

mod items;
mod requests;
mod routing;

pub use items::{
    BridgeStatus, ConfigSection, DropStatus, FdbEntry, FdbKind, HostStatus, HostValueKind, Item, PortState, PortStatus,
    VersionReport, WorkerState, WorkerStatus,
};
pub use requests::{AddFdb, AddPort, DelFdb, FdbFilter, FdbFlush, PortSettings, Request, VLAN_MAX};
pub use routing::{
    AddNeigh, AddRoute, DelNeigh, DelRoute, Flow, Hop, LeaseEntry, LoadError, LoadRoutes, NeighEntry, NeighFilter,
    NeighState, RouteAnswer, RouteEntry, RouteFilter, RouteGet, RouteHop, RouteNeighbour, RouteOrigin, RouteType,
    WEIGHT_MAX,
};

/// The version both ends must share. It changes when a request or a documented key changes meaning; new
/// commands and new item keys do not change it.
pub const PROTOCOL_VERSION: u32 = 1;

/// Where switchd listens unless its configuration says otherwise.
pub const SOCKET_DEFAULT: &str = "/run/switchd/control.sock";

/// Most characters taken over from a message of the JSON reader. The longest that quotes nothing, the list of
/// commands, is shorter.
const PARSER_TEXT_MAX: usize = 500;

/// One request as a client writes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestLine {
    /// [`PROTOCOL_VERSION`] of the client.
    pub version: u32,
    /// Number that every line of the answer carries; clients count from 1.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// The same line before its request is looked at, so that a newer client is told about versions and not
/// about a command this switch has never heard of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    version: u32,
    id: u64,
    request: serde_json::Value,
}

impl RequestLine {
    /// A request of this protocol version.
    pub fn new(id: u64, request: Request) -> RequestLine {
        RequestLine { version: PROTOCOL_VERSION, id, request }
    }

    /// Reads one line, without its newline. Total: any bytes give a request or the error line to send back.
    ///
    /// # Errors
    /// `usage` for bytes that are no well-formed request of this version or fail [`Request::check`];
    /// `version` for another protocol version. The id is 0 where the line has none.
    pub fn parse(line: &[u8]) -> Result<RequestLine, ErrorLine> {
        let text = std::str::from_utf8(line).map_err(|e| {
            ErrorLine::usage(
                0,
                format!("the request is not UTF-8 (byte {}): send one JSON object a line", e.valid_up_to()),
            )
        })?;
        let envelope: Envelope = serde_json::from_str(text).map_err(|e| {
            let shape = r#"{"version":1,"id":1,"request":{"show-fdb":{}}}"#;
            ErrorLine::usage(0, format!("the request is not understood ({}): write a line like {shape}", one_line(&e)))
        })?;
        let id = envelope.id;
        if envelope.version != PROTOCOL_VERSION {
            let theirs = envelope.version;
            let message = format!(
                "the client speaks protocol version {theirs}, this switchd {PROTOCOL_VERSION}: \
                 use the switchctl installed with this switchd"
            );
            return Err(ErrorLine { id, error: ErrorBody { code: ErrorCode::Version, message } });
        }
        let request: Request = serde_json::from_value(envelope.request)
            .map_err(|e| ErrorLine::usage(id, format!("bad request: {}", one_line(&e))))?;
        request.check().map_err(|message| ErrorLine::usage(id, message))?;
        Ok(RequestLine { version: envelope.version, id, request })
    }
}

/// What the JSON reader says, on one line of bounded length: it quotes keys and values of the request as they are,
/// with newlines and terminal escapes.
fn one_line(error: &serde_json::Error) -> String {
    let mut line = String::new();
    for (count, c) in error.to_string().chars().enumerate() {
        match c {
            _ if count == PARSER_TEXT_MAX => {
                line.push_str("...");
                break;
            }
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// One answered element: `{"id":7,"item":{...}}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ItemLine<T> {
    /// Id of the request.
    pub id: u64,
    /// The element.
    pub item: T,
}

/// The last line of a request that succeeded: `{"id":7,"done":{...}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoneLine {
    /// Id of the request.
    pub id: u64,
    /// What was done.
    pub done: Done,
}

/// The last line of a request that did not succeed: `{"id":7,"error":{...}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorLine {
    /// Id of the request, 0 where it could not be read.
    pub id: u64,
    /// Why.
    pub error: ErrorBody,
}

impl ErrorLine {
    /// A line the server could not make a request of.
    pub fn usage(id: u64, message: String) -> ErrorLine {
        ErrorLine { id, error: ErrorBody { code: ErrorCode::Usage, message } }
    }
}

/// Any line of a server, as a client reads it; exactly one of the three options is set.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ResponseLine<T> {
    /// Id of the request, 0 where the server could not read one.
    pub id: u64,
    /// One element of the answer.
    pub item: Option<T>,
    /// The answer is complete.
    pub done: Option<Done>,
    /// The request was not carried out, or not to its end.
    pub error: Option<ErrorBody>,
}

/// What a finished request reports beside its items. Absent keys say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// Items sent for this request; the server counts them.
    pub items: u64,
    /// Things changed: entries flushed, ports added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affected: Option<u64>,
    /// The most entries the table listed may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// One line for the user, such as `port web0 added to bridge pods`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Things the user should know though the request succeeded, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Done {
    /// Success with one line for the user.
    pub fn message(text: impl Into<String>) -> Done {
        Done { message: Some(text.into()), ..Done::default() }
    }
}

/// Kind of failure; decides the exit code of switchctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The switch will not: no such bridge, a limit, a conflict. Nothing changed. Exit code 1.
    Refused,
    /// The request is not well formed. Nothing changed. Exit code 2.
    Usage,
    /// Client and server speak different protocol versions. Nothing changed. Exit code 1.
    Version,
    /// The switch tried and could not, the kernel refused for instance. Exit code 1. Codes of newer
    /// servers read as this one.
    #[serde(other)]
    Failed,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorBody {
    /// Kind of failure.
    pub code: ErrorCode,
    /// One clear line: the object, what is wrong, how to mend it.
    pub message: String,
}

impl ErrorBody {
    /// The switch will not: nothing changed.
    pub fn refused(message: impl Into<String>) -> ErrorBody {
        ErrorBody { code: ErrorCode::Refused, message: message.into() }
    }

    /// The switch tried and could not.
    pub fn failed(message: impl Into<String>) -> ErrorBody {
        ErrorBody { code: ErrorCode::Failed, message: message.into() }
    }

    /// The request makes no sense.
    pub fn usage(message: impl Into<String>) -> ErrorBody {
        ErrorBody { code: ErrorCode::Usage, message: message.into() }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorCode::Refused => "refused",
            ErrorCode::Failed => "failed",
            ErrorCode::Usage => "usage",
            ErrorCode::Version => "version",
        })
    }
}
