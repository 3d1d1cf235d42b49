//! What kind of translator a host is behind, as coturn finds out by RFC 5780.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{House, ISP, ISP_OTHER};
use crate::{Namespace, require, wait_until};

/// Longest time that the server may take to listen.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// The server's port on both addresses.
const PORT: &str = "3478";

/// Of what a translator makes a behaviour depend (RFC 4787 §4.1, §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependence {
    /// Of nothing.
    EndpointIndependent,
    /// Of the remote address.
    AddressDependent,
    /// Of the remote address and port.
    AddressAndPortDependent,
}

impl Dependence {
    /// All of them, from open to strict.
    pub const ALL: [Self; 3] =
        [Self::EndpointIndependent, Self::AddressDependent, Self::AddressAndPortDependent];

    /// The word of the RFC and of the router's configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        }
    }

    fn in_verdict(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "Endpoint Independent",
            Self::AddressDependent => "Address Dependent",
            Self::AddressAndPortDependent => "Address and Port Dependent",
        }
    }

    /// Reads `NAT with Address Dependent Filtering!`.
    fn find(printed: &str, behaviour: &str) -> Result<Self> {
        let verdict =
            |kind: &Self| printed.contains(&format!("with {} {behaviour}!", kind.in_verdict()));
        Self::ALL
            .into_iter()
            .find(verdict)
            .with_context(|| format!("no verdict on {behaviour} in:\n{printed}"))
    }
}

impl fmt::Display for Dependence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What coturn found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// RFC 4787 REQ-1.
    pub mapping: Dependence,
    /// RFC 4787 REQ-8.
    pub filtering: Dependence,
    /// RFC 4787 REQ-9.
    pub hairpins: bool,
}

impl House {
    /// Starts a STUN server on both of the ISP's addresses.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn start_stun_server(&self) -> Result<()> {
        require("turnserver")?;
        let database = self.file("stun.db").to_string_lossy().into_owned();
        let pid_file = self.file("stun.pid").to_string_lossy().into_owned();
        let addresses = ["-L", ISP, "-L", ISP_OTHER, "-p", PORT];
        let modes = ["-n", "-S", "--no-cli", "--no-tls", "--no-dtls"];
        let files = ["--userdb", &database, "--pidfile", &pid_file, "-l", "stdout"];
        let words = ["turnserver"].into_iter().chain(modes).chain(addresses).chain(files);
        let server = self.isp.spawn(words)?;
        let both = |address| {
            let filter = format!("src {address} and sport = :{PORT}");
            self.isp.exec(["ss", "-Hlun", &filter]).is_ok_and(|found| !found.stdout.is_empty())
        };
        wait_until(START_DEADLINE, "the STUN server listens", || both(ISP) && both(ISP_OTHER))
            .with_context(|| server.log())?;
        self.adopt(server);
        Ok(())
    }

    /// Asks the STUN server what kind of translator `host` is behind.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn discover(&self, host: &Namespace) -> Result<Behaviour> {
        require("turnutils_natdiscovery")?;
        let ask = |what| -> Result<String> {
            let words = ["turnutils_natdiscovery", what, "-p", PORT, ISP];
            Ok(host.exec(["timeout", "30"].into_iter().chain(words))?.stdout)
        };
        Ok(Behaviour {
            mapping: Dependence::find(&ask("-m")?, "Mapping")?,
            filtering: Dependence::find(&ask("-f")?, "Filtering")?,
            hairpins: ask("-H")?.contains("successful hairpinning"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_to_the_word() {
        let printed = "====\nNAT with Address and Port Dependent Filtering!\n====\n";
        let found = Dependence::find(printed, "Filtering").unwrap();
        assert_eq!(found, Dependence::AddressAndPortDependent);
        let printed = "NAT with Address Dependent Filtering!";
        assert_eq!(Dependence::find(printed, "Filtering").unwrap(), Dependence::AddressDependent);
        assert!(Dependence::find(printed, "Mapping").is_err());
    }
}
