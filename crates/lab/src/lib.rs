//! Development only: namespaces, veth pairs, bridges and peer processes that remove themselves.
