//! What the machine's processors did, which a failed drill is read with: limits are those of a machine that has its processors for itself.

use anyhow::{Context, Result};
use procfs::{CpuTime, CurrentSI, KernelStats};

/// The processors' times since the machine's boot, in ms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processors {
    idle: u64,
    withheld: u64,
    total: u64,
}

impl Processors {
    /// Reads `/proc/stat`.
    pub fn read() -> Result<Self> {
        Ok(Self::of(&KernelStats::current().context("/proc/stat can't be read")?.total))
    }

    fn of(time: &CpuTime) -> Self {
        let idle = time.idle_ms() + time.iowait_ms().unwrap_or_default();
        let withheld = time.steal_ms().unwrap_or_default();
        let interrupts = time.irq_ms().unwrap_or_default() + time.softirq_ms().unwrap_or_default();
        let busy = time.user_ms() + time.nice_ms() + time.system_ms() + interrupts;
        Self { idle, withheld, total: idle + withheld + busy }
    }

    /// What they did since then, in words. The host withholds them if other machines run on it.
    pub fn since(&self, before: &Self) -> String {
        let total = self.total.saturating_sub(before.total).max(1);
        let percent = |now: u64, then: u64| 100 * now.saturating_sub(then) / total;
        let (idle, withheld) = (percent(self.idle, before.idle), percent(self.withheld, before.withheld));
        format!("the processors were idle for {idle} % of the time, and withheld by the host for {withheld} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_withheld_time_is_told_apart() {
        let before = Processors { idle: 1_000, withheld: 100, total: 5_000 };
        let now = Processors { idle: 1_200, withheld: 500, total: 6_000 };
        let expected = "the processors were idle for 20 % of the time, and withheld by the host for 40 %";
        assert_eq!(now.since(&before), expected);
    }

    #[test]
    fn times_of_this_machine_add_up() {
        let read = Processors::read().unwrap();
        assert!(read.idle > 0 && read.idle + read.withheld <= read.total, "{read:?}");
    }
}
