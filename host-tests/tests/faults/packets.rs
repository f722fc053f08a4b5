//! Packets that vanish: neither side is told, only time shows it.

use crate::helpers::*;
use crate::network::Network;
use crate::replication::{PRIMARY, Pair, REPLICA};
use dob_postgresql::Database;
use futures_util::future::join_all;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// A story in a network of its own: on one thread, whose namespace every thread and process of the story inherits.
fn in_own_network(tell: impl FnOnce(&Network) + Send + 'static) {
    let story = std::thread::spawn(|| tell(&Network::isolate().expect("a network of its own")));
    if let Err(panic) = story.join() {
        std::panic::resume_unwind(panic);
    }
}

fn drop_packets(network: &Network, database: &Database) {
    let IpAddr::V4(host) = database.address.ip() else { unreachable!("tests use IPv4") };
    network.drop_packets(host, database.address.port()).unwrap();
}

#[test]
fn dropped_packets_on_pooled_connections_are_answered_in_time_and_back_by_themselves() {
    in_own_network(|network| {
        let world = World::new();
        world.runtime.block_on(async {
            let service = &world.service;
            service.works().await;
            service.fill_pool(16).await;
            drop_packets(network, &world.database);
            let answers = join_all((0..32).map(|number| {
                let method = if number % 2 == 0 { "GET" } else { "PUT" };
                service.timely(method, "/hello/john")
            }));
            answers.await.iter().for_each(Answer::unavailable);
            service.timely("GET", "/readyz").await.unavailable();
            network.restore().unwrap();
            service.works().await;
        });
    });
}

#[test]
fn dropped_packets_on_new_connections_are_answered_in_time_and_back_by_themselves() {
    in_own_network(|network| {
        let world = World::new();
        world.runtime.block_on(async {
            let fresh = Service::start(world.database.variables("dob_api")).await;
            drop_packets(network, &world.database);
            fresh.timely("GET", "/hello/john").await.unavailable();
            fresh.timely("PUT", "/hello/john").await.unavailable();
            fresh.timely("GET", "/readyz").await.unavailable();
            network.restore().unwrap();
            fresh.works().await;
        });
    });
}

#[test]
fn dropped_packets_to_every_host_of_both_lists_are_answered_in_time() {
    in_own_network(|network| {
        let world = World::new();
        world.runtime.block_on(async {
            let mut variables = world.database.variables("dob_api");
            // Nothing listens on the second address; that its packets vanish is what counts.
            let second = Ipv4Addr::new(127, 0, 0, 2);
            for (name, host) in
                [("pg_host_b", second), ("pg_replica_host_a", second), ("pg_replica_host_b", Ipv4Addr::LOCALHOST)]
            {
                variables.insert(name.to_owned(), host.to_string());
            }
            let service = Service::start(variables).await;
            service.works().await;
            service.fill_pool(32).await;
            drop_packets(network, &world.database);
            network.drop_packets(second, world.database.address.port()).unwrap();
            for _ in 0..4 {
                let answers = join_all((0..16).map(|number| {
                    let method = if number % 2 == 0 { "GET" } else { "PUT" };
                    service.timely(method, "/hello/john")
                }));
                let slowest = answers.await.into_iter().inspect(Answer::unavailable).map(|answer| answer.took).max();
                println!("slowest of 16: {slowest:?}");
            }
            service.timely("GET", "/readyz").await.unavailable();
            network.restore().unwrap();
            service.works().await;
        });
    });
}

#[test]
fn greetings_go_on_while_packets_to_the_primary_are_dropped_wherever_it_stands_in_the_replica_list() {
    for replica_hosts in [[REPLICA, PRIMARY], [PRIMARY, REPLICA]] {
        in_own_network(move |network| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let pair = Pair::with_replica_list(replica_hosts).await;
                pair.caught_up().await;
                let service = &pair.service;
                service.fill_pool(64).await;
                drop_packets(network, &pair.primary);
                // The worst moments are the first ones: connections are half open until the kernel gives them up.
                let greetings = (0..40).map(|number| async move {
                    tokio::time::sleep(Duration::from_millis(100) * number).await;
                    (number, service.timely("GET", "/hello/john").await)
                });
                let greetings = join_all(greetings).await;
                network.restore().unwrap();
                for (number, answer) in greetings {
                    assert_eq!(
                        answer.status,
                        200,
                        "greeting {number}, {replica_hosts:?}: {answer:?} {}",
                        service.log()
                    );
                }
            });
        });
    }
}
