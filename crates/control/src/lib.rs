//! Zones: a pure plan from desired and observed state, applied through one Host trait.
