//! Prints the tables of `docs/benchmarks.md`.

use crate::cases::{self, Case, Rounds};
use crate::load::{CONNECTIONS, Measured};
use crate::memory::PEAK_CONNECTIONS;
use crate::relay::Counted;
use crate::servers::Implementation;
use crate::startup::Startup;
use crate::workload::{LARGE, RequestType, SMALL};
use anyhow::{Context, Result};
use dob_clients::statistics::median;
use dob_spin::Build;

/// Target: at least this share of the throughput of the smallest component with one statement.
const SHARE_OF_FLOOR: f64 = 0.95;
/// Target: at most this CPU time per request in the component's own code, in microseconds.
const GUEST_US: f64 = 40.0;
/// Target: at most this size of the component, in bytes.
const WASM_BYTES: f64 = 300.0 * 1024.0;
/// Target: at most this many round trips to PostgreSQL per request.
const ROUND_TRIPS: f64 = 3.0;
/// Target: with 1,000,000 users at least this share of the greetings with 10,000 users.
const SHARE_OF_SMALL: f64 = 0.9;

/// Target: at most this multiple of PostgreSQL's CPU time for a native server, which caches its statements.
const POSTGRES_TIMES_NATIVE: f64 = 4.0;

/// The build that serves by default.
const COMPONENT: Implementation = Implementation::Component(Build::DEFAULT);

/// All measurements.
pub struct Report {
    /// The machine, versions and settings.
    pub machine: String,
    /// Measurements under load.
    pub rounds: Rounds,
    /// Round trips and packets to PostgreSQL.
    pub counted: Counted,
    /// The memory of an instance, in bytes.
    pub per_instance: u64,
    /// The most memory of a server under load, in bytes.
    pub peaks: Vec<(Build, u64)>,
    /// The start of an instance.
    pub startup: Startup,
}

/// Prints all tables.
pub fn print(report: &Report) -> Result<()> {
    println!("{}\n", report.machine);
    print_load(report)?;
    print_counted(report);
    print_sizes(report)?;
    print_targets(report)
}

fn print_load(report: &Report) -> Result<()> {
    println!(
        "| request | connections | server | requests/s | failed | p50 ms | p99 ms | CPU µs: server | PostgreSQL | × one query | × native |"
    );
    println!("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for case in in_order() {
        let value = |of: fn(&Measured) -> f64| report.median(case, of);
        println!(
            "| {} | {} | {} | {:.0} | {} | {:.2} | {:.2} | {:.0} | {:.0} | {} | {} |",
            case.label(),
            case.connections,
            case.implementation.label(),
            value(|measured| measured.per_second)?,
            percent(value(|measured| measured.failed)?),
            value(|measured| measured.p50_us / 1000.0)?,
            value(|measured| measured.p99_us / 1000.0)?,
            value(|measured| measured.server_us)?,
            value(|measured| measured.postgres_us)?,
            ratio(case.floor().map(|floor| report.throughput(case, floor)).transpose()?.flatten()),
            ratio(report.throughput(case, Case { implementation: Implementation::Native, ..case })?),
        );
    }
    println!();
    Ok(())
}

fn print_counted(report: &Report) {
    println!("| to PostgreSQL, counted | greeting: round trips | packets | saving: round trips | packets |");
    println!("|---|--:|--:|--:|--:|");
    for (implementation, [greeting, saving]) in &report.counted {
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} |",
            implementation.label(),
            greeting.round_trips,
            greeting.packets,
            saving.round_trips,
            saving.packets,
        );
    }
    println!();
}

fn print_sizes(report: &Report) -> Result<()> {
    println!("| | |\n|---|--:|");
    let of_each = [Implementation::Component, Implementation::OneQuery, Implementation::Constant];
    for implementation in of_each.iter().flat_map(|of| [Build::Wasi02, Build::Wasi03].map(of)) {
        let size = implementation.wasm_size()?.context("a component")? as f64 / 1024.0;
        println!("| wasm size, {} | {size:.0} KB |", implementation.label());
    }
    println!("| memory per instance of this component | {:.0} KB |", report.per_instance as f64 / 1024.0);
    for (build, bytes) in &report.peaks {
        let megabytes = *bytes as f64 / 1024.0 / 1024.0;
        println!("| memory of a server at {PEAK_CONNECTIONS} connections, WASI {build} | {megabytes:.0} MB |");
    }
    println!("| starting an instance of it and calling it | {:.0} µs |", report.startup.time_us);
    println!("| CPU time of that | {:.0} µs |\n", report.startup.cpu_us);
    Ok(())
}

fn print_targets(report: &Report) -> Result<()> {
    println!("| target | wanted | measured | |\n|---|--:|--:|---|");
    let case = |request, implementation| Case { request, users: SMALL.users, connections: CONNECTIONS, implementation };
    for (name, request) in [
        ("greeting", RequestType::Greeting),
        ("saving", RequestType::Saving),
        ("saving the same", RequestType::SavingSame),
    ] {
        let (own, floor) = (case(request, COMPONENT), case(request, Implementation::OneQuery(Build::Wasi02)));
        at_least(&format!("{name} ÷ one query"), SHARE_OF_FLOOR, report.throughput(own, floor)?);
        at_most(&format!("{name}: our guest code, µs"), GUEST_US, report.cpu_above(own, floor)?);
    }
    print_targets_of_wasi_0_3(report)?;
    if let Some([greeting, saving]) = report.counted.get(&COMPONENT) {
        at_most("greeting: round trips", ROUND_TRIPS, Some(greeting.round_trips));
        at_most("saving: round trips", ROUND_TRIPS, Some(saving.round_trips));
    }
    let size = COMPONENT.wasm_size()?.map(|size| size as f64 / 1024.0);
    at_most("wasm size, KB", WASM_BYTES / 1024.0, size);
    let small = case(RequestType::Greeting, COMPONENT);
    let large = Case { users: LARGE.users, ..small };
    at_least("greeting: 1,000,000 ÷ 10,000 users", SHARE_OF_SMALL, report.throughput(large, small)?);
    Ok(())
}

/// The targets of the build for WASI 0.3, which keeps connections.
fn print_targets_of_wasi_0_3(report: &Report) -> Result<()> {
    let new = Implementation::Component(Build::Wasi03);
    for (connections, times, p99_ms) in [(CONNECTIONS, 3.0, 50.0), (200, 2.0, 300.0)] {
        let case =
            |implementation| Case { request: RequestType::Greeting, users: SMALL.users, connections, implementation };
        let name = format!("WASI 0.3, {connections} connections: greeting");
        at_least(&format!("{name} ÷ WASI 0.2"), times, report.throughput(case(new), case(COMPONENT))?);
        let p99 = report.median(case(new), |measured| measured.p99_us / 1000.0)?;
        at_most(&format!("{name}, p99 ms"), p99_ms, Some(p99));
    }
    let case = |request, implementation| Case { request, users: SMALL.users, connections: CONNECTIONS, implementation };
    for (name, request) in [("greeting", RequestType::Greeting), ("saving", RequestType::Saving)] {
        let (own, floor) = (case(request, new), case(request, Implementation::OneQuery(Build::Wasi03)));
        at_least(&format!("WASI 0.3: {name} ÷ one query"), SHARE_OF_FLOOR, report.throughput(own, floor)?);
    }
    let (own, native) = (case(RequestType::Greeting, new), case(RequestType::Greeting, Implementation::Native));
    let postgres = report.paired(own, native, |new, native| new.postgres_us / native.postgres_us)?;
    at_most("WASI 0.3: greeting, PostgreSQL's CPU ÷ native", POSTGRES_TIMES_NATIVE, postgres);
    Ok(())
}

fn at_least(name: &str, wanted: f64, measured: Option<f64>) {
    let Some(measured) = measured else { return };
    println!("| {name} | ≥ {wanted:.2} | {measured:.3} | {} |", verdict(measured >= wanted));
}

fn at_most(name: &str, wanted: f64, measured: Option<f64>) {
    let Some(measured) = measured else { return };
    println!("| {name} | ≤ {wanted:.0} | {measured:.1} | {} |", verdict(measured <= wanted));
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

fn percent(share: f64) -> String {
    if share == 0.0 { "0".to_owned() } else { format!("{:.1} %", 100.0 * share) }
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
}

impl Report {
    fn of(&self, case: Case) -> Result<&[Measured]> {
        self.rounds.get(&case).map(Vec::as_slice).with_context(|| format!("{case:?} was not measured"))
    }

    fn median(&self, case: Case, value: fn(&Measured) -> f64) -> Result<f64> {
        Ok(median(self.of(case)?.iter().map(value)))
    }

    /// The median of the ratios within each round, so that a slow round does not count; none without `base`.
    fn throughput(&self, case: Case, base: Case) -> Result<Option<f64>> {
        self.paired(case, base, |case, base| case.per_second / base.per_second)
    }

    fn cpu_above(&self, case: Case, base: Case) -> Result<Option<f64>> {
        self.paired(case, base, |case, base| case.server_us - base.server_us)
    }

    fn paired(&self, case: Case, base: Case, value: fn(&Measured, &Measured) -> f64) -> Result<Option<f64>> {
        let Some(base) = self.rounds.get(&base) else { return Ok(None) };
        Ok(Some(median(self.of(case)?.iter().zip(base).map(|(case, base)| value(case, base)))))
    }
}

/// All cases, sorted by request, then by server.
fn in_order() -> Vec<Case> {
    let mut cases = cases::all();
    cases.sort();
    cases
}

impl Case {
    /// The same case for the smallest component that uses the database; none for the native server.
    fn floor(self) -> Option<Self> {
        match self.implementation {
            Implementation::Component(build) | Implementation::OneQuery(build) | Implementation::Constant(build) => {
                Some(Self { implementation: Implementation::OneQuery(build), ..self })
            }
            Implementation::Native => None,
        }
    }

    fn label(self) -> &'static str {
        match (self.request, self.users == LARGE.users) {
            (RequestType::Greeting, false) => "greeting, 10,000 users",
            (RequestType::Greeting, true) => "greeting, 1,000,000 users",
            (RequestType::Saving, _) => "saving another date",
            (RequestType::SavingSame, _) => "saving the same date",
        }
    }
}

impl Implementation {
    fn label(self) -> String {
        let (name, build) = match self {
            Self::Component(build) => ("this component", build),
            Self::OneQuery(build) => ("one query and nothing else", build),
            Self::Constant(build) => ("a constant", build),
            Self::Native => return "native (axum)".to_owned(),
        };
        format!("{name}, WASI {build}")
    }
}
