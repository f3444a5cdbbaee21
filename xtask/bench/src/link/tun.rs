//! A TUN device: this program reads what the kernel routes into it, and the kernel receives what it writes.

use super::namespace::Namespace;
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{self, Opcode, Setter};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

/// `TUNSETIFF` of `linux/if_tun.h`: names the device and selects what it carries.
const TUNSETIFF: Opcode = ioctl::opcode::write::<i32>(b'T', 202);
/// Plain IP packets without a header (`IFF_TUN | IFF_NO_PI`).
const TUN_WITHOUT_HEADER: i16 = 0x0001 | 0x1000;

/// The part of `struct ifreq` of `linux/if.h` that `TUNSETIFF` reads.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Creates a device in `namespace` with this address of a /24 and this MTU, and brings it up.
pub fn open(namespace: &Namespace, address: Ipv4Addr, mtu: u16) -> Result<OwnedFd> {
    let device = namespace.run(attach)?.context("no TUN device: /dev/net/tun")?;
    namespace.ip(&["address", "add", &format!("{address}/24"), "dev", "tun0"])?;
    let mtu = mtu.to_string();
    namespace.ip(&["link", "set", "dev", "tun0", "mtu", &mtu, "txqueuelen", "10000", "up"])?;
    Ok(device)
}

fn attach() -> Result<OwnedFd> {
    let device = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut request = InterfaceRequest { name: [0; 16], flags: TUN_WITHOUT_HEADER, rest: [0; 22] };
    request.name[..4].copy_from_slice(b"tun0");
    #[expect(unsafe_code, reason = "only an ioctl creates a TUN device")]
    // SAFETY: TUNSETIFF reads a `struct ifreq`, whose layout the request has.
    unsafe {
        ioctl::ioctl(&device, Setter::<TUNSETIFF, InterfaceRequest>::new(request))?;
    }
    Ok(device)
}
