//! The forwarder through its public interface, in virtual time.

mod bench;
mod cached;
mod captures;
mod exchange;
mod locals;
mod malformed;
mod transparent;
