//! A device without Ethernet headers, whose packets a test reads.
#![expect(unsafe_code, reason = "an ioctl that rustix has no name for")]

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

use super::wait::eventually;

/// `struct ifreq` of linux/if.h: a name, and the flags behind it.
const REQUEST: usize = 40;
const NAME: usize = 16;
/// `TUNSETIFF`, `IFF_TUN`, `IFF_TAP` and `IFF_NO_PI` of linux/if_tun.h.
const SET_INTERFACE: Opcode = opcode::write::<c_int>(b'T', 202);
const PACKETS_ALONE: u16 = 0x0001 | 0x1000;
const FRAMES_ALONE: u16 = 0x0002 | 0x1000;

/// The device. It goes with this.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

impl Tun {
    /// Makes one in the network namespace of the calling thread.
    pub fn new(name: &str) -> Result<Self> {
        Self::of_kind(name, PACKETS_ALONE)
    }

    /// The same of a device that has Ethernet headers.
    pub fn with_frames(name: &str) -> Result<Self> {
        Self::of_kind(name, FRAMES_ALONE)
    }

    fn of_kind(name: &str, kind: u16) -> Result<Self> {
        ensure!(name.len() < NAME, "{name}: too long");
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nonblocking)
            .open("/dev/net/tun")
            .context("/dev/net/tun: the tests need the module tun")?;
        let mut request = [0_u8; REQUEST];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[NAME..NAME + 2].copy_from_slice(&kind.to_ne_bytes());
        // SAFETY: the command reads an `ifreq`, and the value is as long as one.
        let request = unsafe { Setter::<SET_INTERFACE, _>::new(request) };
        // SAFETY: the file is a TUN device's, and the kernel only reads from the request.
        unsafe { ioctl(&file, request) }.with_context(|| format!("{name} cannot be made"))?;
        Ok(Self { file })
    }

    /// Sends what comes in by it.
    pub fn send(&mut self, packet: &[u8]) -> Result<()> {
        self.file.write_all(packet).context("the device takes none")
    }

    /// What has left by it, if anything has.
    pub fn try_next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 1 << 16];
        match self.file.read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                Ok(Some(buffer))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The next packet that leaves by it and is `wanted`; others are skipped.
    pub fn next(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        let mut buffer = vec![0; 1 << 16];
        eventually("the packet leaves", || {
            let length = self.file.read(&mut buffer)?;
            let packet = &buffer[..length];
            Ok(wanted(packet).then(|| packet.to_vec()))
        })
    }
}
