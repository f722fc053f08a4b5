//! How busy the machine's processors were. The limits of the drills are for a machine that runs nothing else.

use anyhow::{Context, Result};
use procfs::{CpuTime, CurrentSI, KernelStats};
use std::fmt::{Display, Formatter};

/// From this share on, in percent, what the host withholds disturbs a measurement. A quiet host withholds about 1 %.
const DISTURBED: u64 = 10;

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

    /// What they did since then.
    pub fn since(&self, before: &Self) -> Shares {
        let total = self.total.saturating_sub(before.total).max(1);
        let percent = |now: u64, then: u64| 100 * now.saturating_sub(then) / total;
        Shares { idle: percent(self.idle, before.idle), withheld: percent(self.withheld, before.withheld) }
    }
}

/// Shares of the processors' time, in percent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    idle: u64,
    withheld: u64,
}

impl Shares {
    /// Whether the host withheld so much that times measured meanwhile say nothing. It does so if other machines run on it.
    pub fn is_disturbed(self) -> bool {
        self.withheld >= DISTURBED
    }
}

impl Display for Shares {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { idle, withheld } = self;
        write!(
            formatter,
            "the processors were idle for {idle} % of the time, and withheld by the host for {withheld} %"
        )
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
        let shares = now.since(&before);
        let expected = "the processors were idle for 20 % of the time, and withheld by the host for 51 %";
        assert_eq!(shares.to_string(), expected);
        assert!(shares.is_disturbed() && !Shares { idle: 0, withheld: 9 }.is_disturbed());
    }

    #[test]
    fn times_of_this_machine_can_be_read() {
        let read = Processors::read().unwrap();
        assert!(read.idle > 0 && read.total > read.idle, "{read:?}");
    }
}
