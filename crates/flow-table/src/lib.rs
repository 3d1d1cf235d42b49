//! Fixed-capacity lock-free table of sessions: wait-free lookup, insert-if-absent, two keys to one entry.
