//! Which kinds of interfaces the kernel can make: tried in a network namespace that nobody else
//! sees, and that goes with the thread.
#![expect(
    unsafe_code,
    reason = "a thread's way into a network namespace of its own is unsafe in rustix"
)]

use std::io;
use std::thread;

use rtnetlink::{Handle, LinkIpIp, LinkVeth, LinkVxlan, new_connection};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Kinds that the agent or its plugin makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// Pairs, of which a pod has one end.
    pub veth: bool,
    /// VXLAN.
    pub vxlan: bool,
    /// IP in IP.
    pub ipip: bool,
}

/// Tries. The kernel loads modules for it, where it has them.
///
/// # Errors
/// Where there can be no network namespace.
pub fn try_all() -> io::Result<Kinds> {
    let work = || {
        // SAFETY: the flags do not hold `FILES`, which is all that its contract is about.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build()?.block_on(make())
    };
    // Detached from the namespace of the others, the thread must not be used for anything else.
    thread::scope(|scope| scope.spawn(work).join()).map_err(|_| io::ErrorKind::Other)?
}

async fn make() -> io::Result<Kinds> {
    let (connection, handle, _news) = new_connection()?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let local = std::net::Ipv4Addr::LOCALHOST;
    let vxlan = LinkVxlan::new("try-vxlan", 1).local(local).port(4789);
    Ok(Kinds {
        veth: made(&handle, LinkVeth::new("try-veth", "try-peer").build()).await?,
        vxlan: made(&handle, vxlan.build()).await?,
        ipip: made(&handle, LinkIpIp::new("try-ipip").local(local).build()).await?,
    })
}

async fn made(handle: &Handle, link: netlink_packet_route::link::LinkMessage) -> io::Result<bool> {
    match handle.link().add(link).execute().await {
        Ok(()) => Ok(true),
        Err(rtnetlink::Error::NetlinkError(message))
            if message.to_io().raw_os_error() == Some(libc::EOPNOTSUPP) =>
        {
            Ok(false)
        }
        Err(rtnetlink::Error::NetlinkError(message)) => Err(message.to_io()),
        Err(other) => Err(io::Error::other(other)),
    }
}
