//! System calls of AF_PACKET sockets: the only `unsafe` of this crate.
//!
//! Every function takes borrowed Rust values and lets no pointer live longer than its call.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, c_void, iovec, mmsghdr, sock_filter, socklen_t};
use packet::{BATCH_MAX, MacAddr, PacketBuf};

use crate::vnet::{HEADER_LEN, VnetHeader};

/// One received message.
#[derive(Clone, Copy, Default)]
pub(crate) struct Received {
    /// Bytes of header and frame together.
    pub len: usize,
    /// The frame was longer than its buffer.
    pub truncated: bool,
}

/// What the kernel counted for a packet socket since the last question.
#[derive(Clone, Copy, Default)]
pub(crate) struct Statistics {
    /// Frames that found the receive buffer full.
    pub drops: u32,
}

/// The two pieces of one message: header and frame.
type Pieces = [MaybeUninit<iovec>; 2];

const NO_PIECES: Pieces = [const { MaybeUninit::uninit() }; 2];
const NO_MESSAGE: MaybeUninit<mmsghdr> = MaybeUninit::uninit();

fn pieces(header: *mut c_void, frame: *mut c_void, frame_len: usize) -> Pieces {
    [
        MaybeUninit::new(iovec { iov_base: header, iov_len: HEADER_LEN }),
        MaybeUninit::new(iovec { iov_base: frame, iov_len: frame_len }),
    ]
}

/// Makes message `i` of the result refer to `vectors[i]`; the first `count` are initialised.
///
/// `vectors` must neither move nor be touched while the messages are in use.
fn messages(vectors: &mut [Pieces; BATCH_MAX], count: usize) -> [MaybeUninit<mmsghdr>; BATCH_MAX] {
    let mut messages = [NO_MESSAGE; BATCH_MAX];
    let first = vectors.as_mut_ptr();
    for (index, slot) in messages.iter_mut().enumerate().take(count) {
        // SAFETY: mmsghdr is plain old data (integers and pointers) for which all zeros is a value.
        let mut message: mmsghdr = unsafe { zeroed() };
        message.msg_hdr.msg_iov = first.wrapping_add(index).cast();
        message.msg_hdr.msg_iovlen = 2;
        slot.write(message);
    }
    messages
}

/// Receives up to `headers.len()` frames without waiting, each into the space of a buffer.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    headers: &mut [VnetHeader],
    buffers: &mut [PacketBuf],
    received: &mut [Received],
) -> io::Result<usize> {
    let count = headers.len().min(buffers.len()).min(received.len()).min(BATCH_MAX);
    let mut vectors = [NO_PIECES; BATCH_MAX];
    for ((header, buffer), vector) in headers.iter_mut().zip(&mut *buffers).zip(&mut vectors) {
        let space = buffer.space_mut();
        *vector = pieces(header.as_mut_ptr().cast(), space.as_mut_ptr().cast(), space.len());
    }
    let mut messages = messages(&mut vectors, count);
    // SAFETY: the first `count` messages and the pieces that they point to were initialised above;
    // the pieces lie in `headers` and in the storage of `buffers`, both mutably borrowed for this
    // call, with their true lengths. `vectors` lives until the end of this function.
    let result = unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            messages.as_mut_ptr().cast(),
            count as u32,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let count = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    for (message, slot) in messages.iter().zip(received).take(count) {
        // SAFETY: the kernel filled at most the `count` messages that were initialised above.
        let message = unsafe { message.assume_init_ref() };
        let truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        *slot = Received { len: message.msg_len as usize, truncated };
    }
    Ok(count)
}

/// Sends frames in order without waiting; returns how many were taken, or why the first was not.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    headers: &[VnetHeader],
    packets: &[PacketBuf],
) -> io::Result<usize> {
    let count = headers.len().min(packets.len()).min(BATCH_MAX);
    let mut vectors = [NO_PIECES; BATCH_MAX];
    for ((header, packet), vector) in headers.iter().zip(packets).zip(&mut vectors) {
        let (header, frame) = (header.as_ptr().cast_mut(), packet.frame());
        *vector = pieces(header.cast(), frame.as_ptr().cast_mut().cast(), frame.len());
    }
    let mut messages = messages(&mut vectors, count);
    // SAFETY: the first `count` messages and the pieces that they point to were initialised above;
    // the pieces are `headers` and frames, borrowed for this call with their true lengths, which the
    // kernel only reads when it sends. `vectors` lives until the end of this function.
    let result = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            messages.as_mut_ptr().cast(),
            count as u32,
            libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sets an integer socket option.
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    set(fd, level, name, &value)
}

/// Makes the socket ignore frames with a VLAN tag other than a priority tag (VID 0).
///
/// The kernel takes the tag out of the frame before a packet socket sees it, so without this filter
/// another VLAN's frame would look untagged.
pub(crate) fn refuse_tagged(fd: BorrowedFd<'_>) -> io::Result<()> {
    const LOAD: u16 = 0x20;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const VLAN_TAG: u32 = (libc::SKF_AD_OFF + 44) as u32;
    const VLAN_TAG_PRESENT: u32 = (libc::SKF_AD_OFF + 48) as u32;
    const VID_MASK: u32 = 0xfff;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD, 0, 0, VLAN_TAG_PRESENT),
        step(JUMP_IF_EQUAL, 3, 0, 0),
        step(LOAD, 0, 0, VLAN_TAG),
        step(AND, 0, 0, VID_MASK),
        step(JUMP_IF_EQUAL, 0, 1, 0),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Sets a socket option.
///
/// A pointer inside `value` has to be to what lives longer than this call.
pub(crate) fn set<T>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as socklen_t;
    // SAFETY: `value` is readable for `len` bytes; a pointer inside it (the filter program) is to a
    // local of the caller that outlives this call.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, ptr::from_ref(value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds a packet socket to every protocol of the link with this index; frames arrive from now on.
pub(crate) fn bind(fd: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain old data for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    let len = size_of::<libc::sockaddr_ll>() as socklen_t;
    // SAFETY: `address` is a sockaddr_ll of `len` bytes and outlives the call.
    let result = unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads and resets what went wrong with the link since the last question.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> Option<io::Error> {
    let error = rustix::net::sockopt::socket_error(fd);
    error.map_or_else(|error| Some(error.into()), |result| result.err().map(io::Error::from))
}

/// Reads and resets the socket's statistics.
pub(crate) fn statistics(fd: BorrowedFd<'_>) -> io::Result<Statistics> {
    // SAFETY: tpacket_stats is two integers for which zero is a value.
    let mut stats: libc::tpacket_stats = unsafe { zeroed() };
    let mut len = size_of::<libc::tpacket_stats>() as socklen_t;
    // SAFETY: `stats` is writable for `len` bytes and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            ptr::from_mut(&mut stats).cast(),
            &mut len,
        )
    };
    if result == 0 {
        Ok(Statistics { drops: stats.tp_drops })
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The link's MTU in bytes.
pub(crate) fn mtu(fd: BorrowedFd<'_>, link: &str) -> io::Result<usize> {
    let request = query(fd, libc::SIOCGIFMTU, link)?;
    // SAFETY: SIOCGIFMTU succeeded, so the kernel wrote this member of the union.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The link's flags (`IFF_UP`, `IFF_RUNNING`, ...).
pub(crate) fn flags(fd: BorrowedFd<'_>, link: &str) -> io::Result<c_int> {
    let request = query(fd, libc::SIOCGIFFLAGS, link)?;
    // SAFETY: SIOCGIFFLAGS succeeded, so the kernel wrote this member of the union.
    Ok(c_int::from(unsafe { request.ifr_ifru.ifru_flags }))
}

/// The link's MAC address, or `None` if it does not carry Ethernet frames.
pub(crate) fn mac(fd: BorrowedFd<'_>, link: &str) -> io::Result<Option<MacAddr>> {
    let request = query(fd, libc::SIOCGIFHWADDR, link)?;
    // SAFETY: SIOCGIFHWADDR succeeded, so the kernel wrote this member of the union.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    if address.sa_family != libc::ARPHRD_ETHER {
        return Ok(None);
    }
    let mut octets = [0; 6];
    for (octet, byte) in octets.iter_mut().zip(address.sa_data) {
        *octet = byte.cast_unsigned();
    }
    Ok(Some(MacAddr(octets)))
}

fn query(fd: BorrowedFd<'_>, request: libc::c_ulong, link: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain old data for which all zeros is a value.
    let mut ifreq: libc::ifreq = unsafe { zeroed() };
    if link.len() >= ifreq.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in ifreq.ifr_name.iter_mut().zip(link.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the requests used here read the zero-terminated name and write the union of `ifreq`.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, ptr::from_mut(&mut ifreq)) };
    if result == 0 { Ok(ifreq) } else { Err(io::Error::last_os_error()) }
}
