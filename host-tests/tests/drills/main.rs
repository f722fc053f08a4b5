//! Failover, restore and recovery, done for real on the lab's nodes under load: `make drill`, or `make drill D=leader-crash`.

mod alerts;
mod backups;
mod dashboard;
mod faults;
mod leader;
mod load;
mod regions;
mod repairs;
mod table;
mod timeline;
mod world;

use anyhow::{Context, Result, bail};
use dob_host::lab::{Base, Plan, inside, lab_command};
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Instant;
use world::{Row, World};

type Story = for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = Result<Row>> + 'a>>;

/// One thing that goes wrong, or is done, and what must hold.
struct Drill {
    name: &'static str,
    story: Story,
}

macro_rules! drills {
    ($($name:literal => $story:path,)*) => { [$(Drill { name: $name, story: |world| Box::pin($story(world)) }),*] };
}

/// In the order of a full run: the lab is one, and each drill leaves it as it found it.
const DRILLS: [Drill; 31] = drills! {
    "cold-start" => leader::cold_start,
    "leader-crash" => leader::crash,
    "leader-shutdown" => leader::shutdown,
    "leader-power-off" => leader::power_off,
    "leader-power-off-synchronous" => leader::power_off_synchronous,
    "leader-power-off-lagging" => leader::power_off_lagging,
    "zone-cut" => leader::zone_cut,
    "zone-cut-synchronous" => leader::zone_cut_synchronous,
    "leader-frozen" => leader::frozen,
    "switchover" => leader::switchover,
    "replica-lost" => faults::replica_lost,
    "witness-lost" => faults::witness_lost,
    "etcd-lost" => faults::etcd_lost,
    "disk-full" => faults::disk_full,
    "replica-lagging" => faults::replica_lagging,
    "packets-dropped" => faults::packets_dropped,
    "password-rotated" => faults::password_rotated,
    "secrets-renewed" => faults::secrets_renewed,
    "node-replaced" => faults::node_replaced,
    "node-unfit" => faults::node_unfit,
    "majority-lost" => repairs::majority_lost,
    "slot-lost" => repairs::slot_lost,
    "replica-rebuilt" => repairs::replica_rebuilt,
    "connections-raised" => repairs::connections_raised,
    "restore" => backups::restore,
    "bucket-lost" => backups::bucket_lost,
    "archive-lost" => backups::archive_lost,
    "backups-damaged" => backups::damaged,
    "region-gone" => regions::gone,
    "fail-back" => regions::fail_back,
    "both-regions-lead" => regions::both_lead,
};

fn main() -> ExitCode {
    let result = if inside() { inner() } else { outer() };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

/// What takes the machine's own network and files: the base system. All else happens inside.
fn outer() -> Result<ExitCode> {
    chosen()?;
    Base::prepare(&Plan::render()?)?;
    lab_command()
}

#[tokio::main]
async fn inner() -> Result<ExitCode> {
    tokio::select! {
        result = run() => result,
        _ = tokio::signal::ctrl_c() => bail!("stopped; the lab is gone"),
    }
}

async fn run() -> Result<ExitCode> {
    let plan = Plan::render()?;
    let base = Base::prepare(&plan)?;
    let mut world = World::make(plan, &base).await?;
    let expected = alerts::expected()?;
    let alerts_of = |drill: &Drill| {
        expected.get(drill.name).with_context(|| format!("no scenario says which alerts {} raises", drill.name))
    };
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for drill in chosen()? {
        println!("{}", drill.name);
        let began = Instant::now();
        let outcome = match (drill.story)(&mut world).await {
            Ok(row) => alerts::fired(&world.prometheus, began, alerts_of(drill)?).await.map(|()| row),
            failure => failure,
        };
        let took = began.elapsed().as_secs();
        match outcome {
            Ok(row) => {
                println!("    held, {took} s");
                rows.push(row);
            }
            Err(error) => {
                println!("    FAILED after {took} s: {error:#}");
                world.show_journals(drill.name).await;
                failed.push(drill.name);
            }
        }
    }
    println!("\n{}\n{} s in all", table::text(&rows), started.elapsed().as_secs());
    table::keep(&rows)?;
    if rows.len() == DRILLS.len() {
        dashboard::write(&world.prometheus, started.elapsed()).await?;
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("FAILED: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// All drills, or those that the command line names.
fn chosen() -> Result<Vec<&'static Drill>> {
    // Cargo passes --nocapture and the like to every test.
    let names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if names.is_empty() {
        return Ok(DRILLS.iter().collect());
    }
    let known = || DRILLS.map(|drill| drill.name).join(", ");
    let find = |name: &String| {
        DRILLS
            .iter()
            .find(|drill| drill.name == name)
            .with_context(|| format!("there is no drill {name}; there are: {}", known()))
    };
    names.iter().map(find).collect()
}
