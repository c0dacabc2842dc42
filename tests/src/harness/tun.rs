//! A device without Ethernet headers, whose packets a test reads.
#![expect(unsafe_code, reason = "an ioctl that rustix has no name for")]

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

use super::wait::eventually;

/// `struct ifreq` of linux/if.h: a name, and the flags behind it.
const REQUEST: usize = 40;
const NAME: usize = 16;
/// `TUNSETIFF`, `IFF_TUN` and `IFF_NO_PI` of linux/if_tun.h.
const SET_INTERFACE: Opcode = opcode::write::<c_int>(b'T', 202);
const PACKETS_ALONE: u16 = 0x0001 | 0x1000;

/// The device. It goes with this.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

impl Tun {
    /// Makes one in the network namespace of the calling thread.
    pub fn new(name: &str) -> Result<Self> {
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
        request[NAME..NAME + 2].copy_from_slice(&PACKETS_ALONE.to_ne_bytes());
        // SAFETY: the command reads an `ifreq`, and the value is as long as one.
        let request = unsafe { Setter::<SET_INTERFACE, _>::new(request) };
        // SAFETY: the file is a TUN device's, and the kernel only reads from the request.
        unsafe { ioctl(&file, request) }.with_context(|| format!("{name} cannot be made"))?;
        Ok(Self { file })
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
