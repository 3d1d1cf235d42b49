//! Frames as they are, from a host whose kernel has no part in it.

use anyhow::{Result, ensure};
use lab::Namespace;
use lab::house::House;
use link::{AfPacket, Link};
use packet::{LinkId, MacAddr, PacketBuf};

/// A host that sends any bytes.
#[derive(Debug)]
pub struct RawHost {
    namespace: Namespace,
    mac: MacAddr,
}

impl RawHost {
    /// Makes one on the ISP's end of the line.
    ///
    /// # Errors
    /// If a command fails.
    pub fn on_wan(house: &House, label: &str) -> Result<Self> {
        let namespace = house.lab().namespace(label)?;
        let link =
            ["ip", "link", "add", "link", "cust0", "name", "eth0", "netns", namespace.name()];
        house.isp.exec(link.into_iter().chain(["type", "macvlan", "mode", "bridge"]))?;
        namespace.exec(["ip", "link", "set", "dev", "eth0", "up"])?;
        Self::of(namespace)
    }

    /// Takes a LAN host that has no kernel address.
    ///
    /// # Errors
    /// If its `eth0` can't be opened.
    pub fn of(namespace: Namespace) -> Result<Self> {
        let mac =
            namespace.enter(|| AfPacket::open("eth0", LinkId(0)).map(|link| link.mac()))??;
        Ok(Self { namespace, mac })
    }

    /// Its hardware address.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Sends frames in order.
    ///
    /// # Errors
    /// If the system takes one of them not.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        self.namespace.enter(|| {
            let mut link = AfPacket::open("eth0", LinkId(0))?;
            for frame in frames {
                let mut packet = PacketBuf::small();
                ensure!(packet.copy_from(frame), "a frame of {} bytes is too long", frame.len());
                let report = link.send(std::slice::from_ref(&packet));
                ensure!(report.sent == 1, "the frame was not sent: {report:?}");
            }
            Ok(())
        })?
    }
}
