//! `/v1/flows`: what is kept, and on request what comes, one JSON object a line.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use futures::{Stream, StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot};

use super::collect::Watched;
use crate::flows::filter::Filter;
use crate::flows::log::Question;
use crate::flows::record::{Following, Line, Lost};

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Whether it wants what comes, too.
    pub follow: bool,
    /// The newest so many of those that are kept; all where absent.
    pub last: Option<usize>,
    /// Those of the last so many seconds.
    pub since_seconds: Option<f64>,
    /// Which.
    pub filter: Filter,
}

/// The question, as JSON.
#[derive(Debug, Deserialize)]
pub(super) struct InQuery {
    ask: String,
}

pub(super) async fn flows(
    State(watched): State<Watched>,
    Query(query): Query<InQuery>,
) -> Result<Body, (StatusCode, String)> {
    let asked: Asked = serde_json::from_str(&query.ask)
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let (answer, answered) = oneshot::channel();
    let question = Question {
        follow: asked.follow,
        allowed: asked.filter.wants_allowed(),
        answer,
    };
    let gone = || {
        let text = "the flows are not read any more; the agent is stopping".to_owned();
        (StatusCode::SERVICE_UNAVAILABLE, text)
    };
    let sent = watched.flows.send(question).await;
    sent.map_err(|_| gone())?;
    let answer = answered.await.map_err(|_| gone())?;
    let now = Timestamp::now();
    let mut first = chosen(&answer.kept, &asked, now);
    let Some(live) = answer.live else {
        return Ok(Body::from(first));
    };
    // The programs tell of what passes, and the channel is open: whoever waits for this line misses
    // nothing of what it does next.
    first += &written(&Line::Following(Following {
        following: format!("{now:.3}"),
    }));
    let first = stream::iter([Ok::<_, Infallible>(first)]);
    let live = follow(live, asked.filter, answer.asking);
    Ok(Body::from_stream(first.chain(live.map(Ok))))
}

/// Of what is kept, what is asked for.
pub(super) fn chosen(kept: &[Arc<Line>], asked: &Asked, now: Timestamp) -> String {
    let since = asked.since_seconds.map(|seconds| {
        let ago = SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX);
        now.saturating_sub(ago).unwrap_or(Timestamp::MIN)
    });
    let is_late = |line: &Line| match (line, since) {
        (Line::Flow(flow), Some(since)) => {
            let time: Result<Timestamp, _> = flow.time.parse();
            time.is_ok_and(|time| time >= since)
        }
        (Line::Flow(_) | Line::Lost(_) | Line::Following(_), _) => true,
    };
    let lines = kept
        .iter()
        .filter(|line| wants(&asked.filter, line) && is_late(line));
    let lines: Vec<&Arc<Line>> = lines.collect();
    let last = asked.last.unwrap_or(lines.len()).min(lines.len());
    lines[lines.len() - last..]
        .iter()
        .map(|line| written(line))
        .collect()
}

fn wants(filter: &Filter, line: &Line) -> bool {
    match line {
        Line::Flow(flow) => filter.wants(flow),
        Line::Lost(_) | Line::Following(_) => true,
    }
}

fn written(line: &Line) -> String {
    let json = serde_json::to_string(line).expect("a record is made of texts and numbers");
    json + "\n"
}

/// What comes. `asking` is held as long as the client reads.
fn follow(
    live: broadcast::Receiver<Arc<Line>>,
    filter: Filter,
    asking: Option<Arc<()>>,
) -> impl Stream<Item = String> {
    stream::unfold((live, filter, asking), |(mut live, filter, asking)| async {
        loop {
            let text = match live.recv().await {
                Ok(line) if wants(&filter, &line) => written(&line),
                Ok(_) => continue,
                Err(RecvError::Lagged(lost)) => written(&Line::Lost(Lost { lost })),
                Err(RecvError::Closed) => return None,
            };
            return Some((text, (live, filter, asking)));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(second: u32, verdict: &str) -> Arc<Line> {
        let json = format!(
            r#"{{"time":"2026-01-01T00:00:{second:02}.000Z","verdict":"{verdict}","reason":"x","hook":"uplink",
            "interface":"eth0","protocol":"tcp","source":{{"address":"192.0.2.1"}},
            "destination":{{"address":"192.0.2.2"}},"suppressed":0}}"#
        );
        Arc::new(serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn of_what_is_kept_the_newest_that_are_wanted_are_chosen() {
        let kept = [
            flow(1, "dropped"),
            flow(2, "allowed"),
            flow(3, "dropped"),
            Arc::new(Line::Lost(Lost { lost: 5 })),
            flow(4, "dropped"),
        ];
        let dropped = Filter {
            verdict: Some(crate::flows::record::Verdict::Dropped),
            ..Filter::default()
        };
        let now: Timestamp = "2026-01-01T00:00:05Z".parse().unwrap();
        let check = |asked: Asked, expected: &[&str]| {
            let text = chosen(&kept, &asked, now);
            let found: Vec<String> = text
                .lines()
                .map(|line| match serde_json::from_str(line).unwrap() {
                    Line::Flow(flow) => flow.time[17..19].to_owned(),
                    Line::Lost(Lost { lost }) => format!("lost {lost}"),
                    Line::Following(found) => panic!("{found:?} is kept"),
                })
                .collect();
            assert_eq!(found, expected, "{asked:?}");
        };
        let all = Asked::default();
        check(all.clone(), &["01", "02", "03", "lost 5", "04"]);
        let of_drops = Asked {
            filter: dropped,
            ..all.clone()
        };
        check(of_drops.clone(), &["01", "03", "lost 5", "04"]);
        check(
            Asked {
                last: Some(1),
                ..of_drops
            },
            &["04"],
        );
        check(
            Asked {
                since_seconds: Some(2.5),
                ..all.clone()
            },
            &["03", "lost 5", "04"],
        );
        check(
            Asked {
                last: Some(0),
                ..all
            },
            &[],
        );
    }
}
