//! The one question that only rtnetlink answers: what queue the kernel keeps in front of a link.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, sendto, socket_with};

/// Longest answer: a link's attributes with statistics, several times over.
const ANSWER_LEN_MAX: usize = 16 * 1024;

const MESSAGE_HEADER_LEN: usize = 16;
const LINK_HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;

/// A socket for the question. It asks about links of the namespace in which it was made.
///
/// # Errors
/// If the system has no more descriptors.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    // Netlink's protocol 0 is NETLINK_ROUTE.
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}

/// The name of the queueing discipline of the link with this index: "noqueue" if each frame goes to the driver at once,
/// "noop" if the link was never up.
///
/// # Errors
/// If the kernel knows no such link.
pub(crate) fn queueing_discipline(socket: BorrowedFd<'_>, index: u32) -> io::Result<String> {
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(socket, &question(index), SendFlags::empty(), &kernel)?;
    let mut answer = vec![0; ANSWER_LEN_MAX];
    // The kernel has answered before `sendto` returns.
    let (len, _) = recv(socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    read(&answer[..len])
}

fn question(index: u32) -> [u8; MESSAGE_HEADER_LEN + LINK_HEADER_LEN] {
    let mut message = [0; MESSAGE_HEADER_LEN + LINK_HEADER_LEN];
    let len = message.len() as u32;
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message[20..24].copy_from_slice(&index.to_ne_bytes());
    message
}

fn read(message: &[u8]) -> io::Result<String> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = u16_at(message, 4).ok_or_else(invalid)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        let errno = message.get(MESSAGE_HEADER_LEN..).and_then(<[u8]>::first_chunk);
        let errno = errno.map(|bytes| i32::from_ne_bytes(*bytes)).ok_or_else(invalid)?;
        return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
    }
    let mut rest = message.get(MESSAGE_HEADER_LEN + LINK_HEADER_LEN..).ok_or_else(invalid)?;
    while let (Some(len), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let len = usize::from(len);
        let value = rest.get(ATTRIBUTE_HEADER_LEN..len).ok_or_else(invalid)?;
        if kind == libc::IFLA_QDISC {
            let name = value.strip_suffix(&[0]).unwrap_or(value);
            return Ok(String::from_utf8_lossy(name).into_owned());
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Err(invalid())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn answer(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0; MESSAGE_HEADER_LEN + LINK_HEADER_LEN];
        message[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        for (kind, value) in attributes {
            message.extend(((ATTRIBUTE_HEADER_LEN + value.len()) as u16).to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(*value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    #[test]
    fn the_discipline_is_found_among_other_attributes() {
        let message = answer(&[(3, b"wan0\0"), (libc::IFLA_QDISC, b"fq_codel\0"), (4, &[9; 4])]);
        assert_eq!(read(&message).unwrap(), "fq_codel");
    }

    #[test]
    fn an_answer_without_it_or_cut_short_is_invalid() {
        let message = answer(&[(3, b"wan0\0"), (libc::IFLA_QDISC, b"noqueue\0")]);
        for len in 0..message.len() {
            assert!(read(&message[..len]).is_err(), "{len}");
        }
        // A length that would lead nowhere.
        let mut message = answer(&[(3, b"")]);
        message[32] = 0;
        assert!(read(&message).is_err());
    }

    #[test]
    fn the_kernel_says_what_the_loopback_link_has_and_that_another_is_not_there() {
        let socket = socket().unwrap();
        assert_eq!(queueing_discipline(socket.as_fd(), 1).unwrap(), "noqueue");
        let error = queueing_discipline(socket.as_fd(), i32::MAX.cast_unsigned()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert_eq!(queueing_discipline(socket.as_fd(), 1).unwrap(), "noqueue");
    }
}
