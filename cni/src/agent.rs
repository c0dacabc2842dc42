//! Asks the agent to put a pod's rules in place, and waits.
//!
//! `POST /v1/pod-interface` on the agent's Unix socket, HTTP/1.0, so that an answer ends with its
//! connection. 200 means that the interface has its programs and the pod its rules; anything else
//! has a [`Refusal`], which says whether asking again may help.

use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::AgentAt;
use crate::error::{CniError, Code};

/// The version of these messages.
const VERSION: u32 = 1;
/// Between two questions; a Pod that the agent has not heard of yet comes within that.
const PAUSE: Duration = Duration::from_millis(100);

/// "Program this pod's interface."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    version: u32,
    namespace: String,
    name: String,
    interface: String,
    index: u32,
    addresses: Vec<IpAddr>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    retry: bool,
    message: String,
}

impl Program {
    /// A question.
    pub fn new(
        pod: &crate::environment::Pod,
        interface: &str,
        index: u32,
        addresses: &[IpAddr],
    ) -> Self {
        Self {
            version: VERSION,
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            interface: interface.to_owned(),
            index,
            addresses: addresses.to_vec(),
        }
    }
}

/// A question that is on its way.
#[derive(Debug)]
pub struct Asked<'a> {
    agent: &'a AgentAt,
    program: Program,
    body: Vec<u8>,
    deadline: Instant,
    first: io::Result<UnixStream>,
}

/// Asks, and does not wait: there is more to do meanwhile.
///
/// # Errors
/// Where the question cannot be written down.
pub fn ask(agent: &AgentAt, program: Program) -> Result<Asked<'_>, CniError> {
    let body = serde_json::to_vec(&program).map_err(|error| {
        CniError::new(Code::AgentRefused, "the question cannot be written", error)
    })?;
    Ok(Asked {
        agent,
        program,
        deadline: Instant::now() + agent.wait,
        first: send(&agent.socket, &body, agent.wait.max(PAUSE)),
        body,
    })
}

impl Asked<'_> {
    /// Returns when the pod's rules are in place, and asks again until they are.
    ///
    /// # Errors
    /// [`Code::TryAgain`] where they are not within the time, [`Code::AgentRefused`] where they will
    /// never be.
    pub fn answer(self) -> Result<(), CniError> {
        let Self {
            agent: AgentAt { socket, wait },
            program,
            body,
            deadline,
            first,
        } = self;
        let mut answer = first.and_then(receive);
        loop {
            let why = match answer {
                Ok((200, _)) => return Ok(()),
                Ok((code, answer)) => match serde_json::from_str::<Refusal>(&answer) {
                    Ok(Refusal {
                        retry: true,
                        message,
                    }) => message,
                    Ok(Refusal { message, .. }) => return Err(refused(socket, &message)),
                    Err(_) => {
                        return Err(refused(socket, &format!("HTTP status {code}: {answer}")));
                    }
                },
                Err(error) => error.to_string(),
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(CniError::new(
                    Code::TryAgain,
                    format!(
                        "the rules of Pod {}/{} are not in place after {} s",
                        program.namespace,
                        program.name,
                        wait.as_secs()
                    ),
                    format!("agent at {}: {why}", socket.display()),
                ));
            }
            thread::sleep(PAUSE);
            let left = deadline.saturating_duration_since(Instant::now());
            answer = send(socket, &body, left.max(PAUSE)).and_then(receive);
        }
    }
}

/// Whether somebody listens.
///
/// # Errors
/// Where nobody does.
pub fn reach(socket: &Path) -> io::Result<()> {
    UnixStream::connect(socket).map(drop)
}

fn send(socket: &Path, body: &[u8], patience: Duration) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let head = format!(
        "POST /v1/pod-interface HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    Ok(stream)
}

fn receive(mut stream: UnixStream) -> io::Result<(u16, String)> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| io::Error::other("the answer is no HTTP"))?;
    Ok((code, body.to_owned()))
}

fn refused(socket: &Path, why: &str) -> CniError {
    CniError::new(
        Code::AgentRefused,
        format!("the agent at {} does not take the pod", socket.display()),
        format!("{why}; are agent and plugin of one version?"),
    )
}
