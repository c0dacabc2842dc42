//! The answer: steps and where they lead, as they travel and as `--output json` prints them.

use serde::{Deserialize, Serialize};

/// Answer to `explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What was looked at, in order.
    pub steps: Vec<Step>,
    /// What becomes of the connection.
    pub verdict: Verdict,
    /// The same in one line.
    pub result: String,
    /// Addresses and ports of the backends that may get it.
    pub backends: Vec<String>,
}

impl Explanation {
    /// An answer without a backend.
    pub(super) fn new(steps: Vec<Step>, verdict: Verdict, result: String) -> Self {
        Self {
            steps,
            verdict,
            result,
            backends: Vec::new(),
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is about.
    pub topic: Topic,
    /// Table and key, or where else.
    pub looked_at: String,
    /// What is there.
    pub found: String,
    /// What follows.
    pub follows: String,
    /// The Kubernetes object that is the cause.
    pub object: Option<String>,
    /// The tables are not what the agent wants.
    pub differs: bool,
}

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Who sends.
    Client,
    /// What is asked for.
    Service,
    /// The address and port.
    Frontend,
    /// A connection that is there already.
    Connection,
    /// Where the choice is made.
    Where,
    /// Who may come.
    SourceRanges,
    /// Who is chosen from.
    Pool,
    /// A client's backend.
    Affinity,
    /// The chosen backend.
    Choice,
    /// The source address.
    Source,
    /// Replies past this node.
    DirectReturn,
    /// What leaves the cluster.
    Egress,
    /// Who may send what to whom.
    Policy,
    /// The way to a pod.
    FastPath,
    /// What the tables hold beside what is wanted.
    Tables,
}

impl Topic {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Service => "Service",
            Self::Frontend => "frontend",
            Self::Connection => "existing connection",
            Self::Where => "where",
            Self::SourceRanges => "source ranges",
            Self::Pool => "pool",
            Self::Affinity => "affinity",
            Self::Choice => "choice",
            Self::Source => "source address",
            Self::DirectReturn => "direct return",
            Self::Egress => "leaving the cluster",
            Self::Policy => "network policy",
            Self::FastPath => "fast path",
            Self::Tables => "tables",
        }
    }
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It goes to a backend.
    Balanced,
    /// It is no business of the service proxy.
    Untouched,
    /// It leaves the cluster under the node's address.
    Masqueraded,
    /// The client is told at once.
    Rejected,
    /// The client is not told.
    Dropped,
}

impl Verdict {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Untouched => "untouched",
            Self::Masqueraded => "masqueraded",
            Self::Rejected => "rejected",
            Self::Dropped => "dropped",
        }
    }
}

impl Step {
    pub(super) fn new(
        topic: Topic,
        looked_at: impl Into<String>,
        found: impl Into<String>,
        follows: impl Into<String>,
    ) -> Self {
        Self {
            topic,
            looked_at: looked_at.into(),
            found: found.into(),
            follows: follows.into(),
            object: None,
            differs: false,
        }
    }

    /// Names the cause.
    #[must_use]
    pub(super) fn because_of(mut self, object: Option<impl ToString>) -> Self {
        self.object = object.map(|object| object.to_string());
        self
    }

    /// Marks it as what should not be.
    #[must_use]
    pub(super) fn differing(mut self) -> Self {
        self.differs = true;
        self
    }
}
