//! `fairlead-confgen status`: what the running process says of itself.

mod table;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::table::table;
use super::model::{Output, print};
use super::settings::{DEFAULT_CONFIG, read};
use crate::config;

/// The process answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Configuration file, which says where the process listens
    /// [default: /etc/fairlead/confgen.toml, and without it the default of status.listen]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the process listens, in place of what the configuration says
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Status {
    pub(super) async fn run(self) -> Result<()> {
        let address = match self.address {
            Some(address) => address,
            None => configured(self.config.as_deref())?,
        };
        let address = reachable(address);
        let asked = tokio::time::timeout(TIMEOUT, get(address)).await;
        let asked = asked.unwrap_or_else(|_| bail!("no answer within {TIMEOUT:?}"));
        let body = asked.with_context(|| {
            format!(
                "http://{address}/status: nobody answers; start `fairlead-confgen run`, or name \
                 another place with --address"
            )
        })?;
        let text = match self.output {
            Output::Json => {
                let value: Value = serde_json::from_str(&body).context("the answer is no JSON")?;
                format!("{value:#}\n")
            }
            Output::Table => {
                let told = serde_json::from_str(&body);
                table(&told.context("the answer is not of this build's `run`")?)
            }
        };
        print(&text)
    }
}

/// Where the process listens by its configuration. Without a file at the default place, it was
/// started with another, or by an original's flags: the default address is tried.
fn configured(config: Option<&Path>) -> Result<SocketAddr> {
    let path = match config {
        Some(path) => path,
        None if !Path::new(DEFAULT_CONFIG).exists() => {
            let default = config::Status::default().listen;
            return default.parse().context("the default address is none");
        }
        None => Path::new(DEFAULT_CONFIG),
    };
    let settings = read(path).context("name where the process listens with --address")?;
    settings.status.with_context(|| {
        format!(
            "{}: status.listen is empty, so the process tells nothing; set it, or name where it \
             listens with --address",
            path.display()
        )
    })
}

/// Where one reaches who listens on every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn get(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // Of HTTP/1.0 there are no chunks in the answer (RFC 9112 §7.1).
    let request = format!("GET /status HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!("it answers {status}, and is not `fairlead-confgen run`");
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{get, reachable};

    #[tokio::test]
    async fn whoever_listens_on_all_addresses_is_asked_on_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:9", "127.0.0.1:9"),
            ("[::]:9", "[::1]:9"),
            ("10.0.0.1:9", "10.0.0.1:9"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn nobody_who_listens_is_told_with_what_to_do() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        assert!(get(address).await.is_err());
        let status = super::Status {
            config: None,
            address: Some(address),
            output: super::Output::Table,
        };
        let told = format!("{:#}", status.run().await.unwrap_err());
        assert!(told.contains(&format!("http://{address}/status")), "{told}");
        assert!(told.contains("start `fairlead-confgen run`"), "{told}");
        let error = super::Status {
            config: Some("/nowhere".into()),
            address: None,
            output: super::Output::Table,
        };
        let told = format!("{:#}", error.run().await.unwrap_err());
        assert!(
            told.contains("--config") && told.contains("--address"),
            "{told}"
        );
    }

    #[test]
    fn without_a_file_the_default_address_is_asked() {
        // Nothing is installed where tests run.
        assert!(!std::path::Path::new(super::DEFAULT_CONFIG).exists());
        let address = super::configured(None).unwrap();
        assert_eq!(address.to_string(), "127.0.0.1:9115");
        let silent = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(silent.path(), "[endpoints]\n[status]\nlisten = ''\n").unwrap();
        let told = super::configured(Some(silent.path())).unwrap_err();
        assert!(told.to_string().contains("--address"), "{told}");
    }
}
