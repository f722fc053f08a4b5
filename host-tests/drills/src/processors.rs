//! How busy the machine's processors were. The limits of the drills are for a machine that runs nothing else.

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
    use procfs::{FromBufReadSI, current_system_info};

    /// The times of a `/proc/stat` with this first line.
    fn read(line: &str) -> Processors {
        let text = format!("{line}\nctxt 1\nbtime 1\nprocesses 1\n");
        Processors::of(&KernelStats::from_buf_read(text.as_bytes(), current_system_info()).unwrap().total)
    }

    #[test]
    fn idle_and_withheld_time_is_told_apart() {
        // user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice
        let before = read("cpu 1000 100 500 3000 200 10 10 180 900 50");
        let now = read("cpu 1100 150 600 3150 250 20 40 690 990 80");
        let expected = "the processors were idle for 20 % of the time, and withheld by the host for 51 %";
        assert_eq!(now.since(&before), expected);
    }

    #[test]
    fn times_of_this_machine_can_be_read() {
        let read = Processors::read().unwrap();
        assert!(read.idle > 0 && read.total > read.idle, "{read:?}");
    }
}
