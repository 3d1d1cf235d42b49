//! Measurements through the house's router, and through the kernel's in the same place.

pub(crate) mod connections;
pub(crate) mod cpu;
mod ping;
mod tcp;
pub(crate) mod udp;

pub(crate) use ping::{Rtt, ping, ping_every};
pub(crate) use tcp::{Comparison, Direction, compare, iperf, load, throughput, throughput_of};

/// The middle of some figures (the lower one of two); 0 of none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    quantile(figures, 0.5)
}

/// The middle of what figures are of others from the same rounds, so that what else the machine does from one round to the
/// next does not count.
pub(crate) fn median_ratio(figures: &[f64], others: &[f64]) -> f64 {
    let ratios = figures.iter().zip(others).map(|(figure, other)| figure / other);
    median(&ratios.collect::<Vec<_>>())
}

/// The figure below which the share `share` of all lies (nearest rank); 0 of none.
pub(crate) fn quantile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use lab::house::{House, KernelRouter, Stub};

    use super::*;

    #[test]
    fn a_host_reaches_the_isp_through_the_kernels_router() {
        let house = House::new("k").unwrap();
        house.attach_router().unwrap();
        let alice = house.lan_host("alice", Stub::Home, None).unwrap();
        alice.exec(["ip", "address", "add", "10.0.0.100/24", "dev", "eth0"]).unwrap();
        let kernel = KernelRouter::start(&house).unwrap();
        let isp = kernel.reach(&alice).unwrap();
        assert!(ping(&alice, isp, 2).unwrap().median() > 0.0);
        house.start_iperf(&house.isp).unwrap();
        let report = alice.exec(iperf(isp, Direction::Down, 1)).unwrap();
        assert!(report.stdout.contains("cubic"), "{}", report.stdout);
    }

    #[test]
    fn quantiles_are_figures_that_occurred() {
        let figures = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(median(&figures), 3.0);
        assert_eq!(quantile(&figures, 0.95), 5.0);
        assert_eq!(quantile(&figures, 0.2), 1.0);
        assert_eq!(median(&[2.0, 1.0]), 1.0);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median_ratio(&[2.0, 9.0, 1.0], &[2.0, 10.0, 2.0]), 0.9);
    }
}
