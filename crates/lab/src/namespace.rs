//! One network namespace.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{self, CommandFailed, Output};
use crate::process::Process;
use crate::stale::create_folder;

/// Handle of a namespace; the [`crate::Lab`] that made it removes it.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    label: String,
}

/// One end of a veth pair.
#[derive(Debug)]
pub struct End<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) link: &'a str,
    pub(crate) mac: Option<&'a str>,
}

impl<'a> From<(&'a Namespace, &'a str)> for End<'a> {
    fn from((namespace, link): (&'a Namespace, &'a str)) -> Self {
        Self { namespace, link, mac: None }
    }
}

impl<'a> From<(&'a Namespace, &'a str, &'a str)> for End<'a> {
    fn from((namespace, link, mac): (&'a Namespace, &'a str, &'a str)) -> Self {
        Self { namespace, link, mac: Some(mac) }
    }
}

impl Namespace {
    pub(crate) fn create(name: String, label: &str) -> Result<Self> {
        let namespace = Self::reserved(name, label)?;
        namespace.make()?;
        Ok(namespace)
    }

    /// Makes the namespace that this handle names.
    pub(crate) fn make(&self) -> Result<()> {
        command::run(command::command(None, ["ip", "netns", "add", &self.name]), b"")?;
        self.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
        self.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        self.exec(["ip", "link", "set", "lo", "up"])?;
        Ok(())
    }

    /// A namespace that somebody else makes.
    pub(crate) fn reserved(name: String, label: &str) -> Result<Self> {
        let folder = resolver_folder(&name);
        create_folder(&folder)
            .and_then(|()| std::fs::write(folder.join("resolv.conf"), ""))
            .with_context(|| format!("write {}", folder.display()))?;
        Ok(Self { name, label: label.to_owned() })
    }

    /// The name that `ip netns` shows.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The label it was made with.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Runs a command inside to its end.
    ///
    /// # Errors
    /// If it exits with another status than 0 or does not end within two minutes.
    pub fn exec<I, S>(&self, argv: I) -> Result<Output, CommandFailed>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.exec_with_input(argv, "")
    }

    /// Like [`Self::exec`], with `input` on standard input (`nft -f -`).
    ///
    /// # Errors
    /// As [`Self::exec`].
    pub fn exec_with_input<I, S>(&self, argv: I, input: &str) -> Result<Output, CommandFailed>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let command = command::command(Some(&self.name), argv);
        command::check_interrupted(&command.1)?;
        command::run(command, input.as_bytes())
    }

    /// Runs a command in this namespace that may make and remove namespaces itself.
    ///
    /// `ip netns exec` gives its command a view of mounts of its own, in which a new namespace would be
    /// made for nobody else to see.
    ///
    /// # Errors
    /// As [`Self::exec`].
    pub fn exec_as_host<I, S>(&self, argv: I) -> Result<Output, CommandFailed>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let enter = ["nsenter".to_owned(), format!("--net=/run/netns/{}", self.name)];
        let words = enter.into_iter().map(OsString::from);
        let argv = argv.into_iter().map(|word| word.as_ref().to_owned());
        let command = command::command(None, words.chain(argv));
        command::check_interrupted(&command.1)?;
        command::run(command, b"")
    }

    /// Starts a command inside that runs until its handle is dropped.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn spawn<I, S>(&self, argv: I) -> Result<Process>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let command = command::command(Some(&self.name), argv);
        command::check_interrupted(&command.1)?;
        Process::start(command)
    }

    /// Sets a kernel parameter of the namespace.
    ///
    /// # Errors
    /// If it does not exist or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.exec(["sysctl", "-q", "-w", &format!("{key}={value}")])?;
        Ok(())
    }

    /// Sets the name server that programs inside read from `/etc/resolv.conf`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn resolver(&self, server: &str) -> Result<()> {
        let file = resolver_folder(&self.name).join("resolv.conf");
        std::fs::write(&file, format!("nameserver {server}\n"))
            .with_context(|| format!("write {}", file.display()))
    }

    /// Runs `work` on a thread inside the namespace: sockets it opens belong there for good.
    ///
    /// # Errors
    /// If the namespace can't be entered.
    ///
    /// # Panics
    /// With the panic of `work`.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).with_context(|| format!("open {path}"))?;
        let thread = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("enter {path}"))?;
            Ok(work())
        };
        std::thread::scope(|scope| scope.spawn(thread).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Where `ip netns exec` finds the files that it binds over `/etc`.
pub(crate) fn resolver_folder(namespace: &str) -> PathBuf {
    PathBuf::from("/etc/netns").join(namespace)
}
