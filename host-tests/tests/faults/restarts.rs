//! Load through restarts: what was acknowledged is there.

use crate::helpers::*;
use chrono::NaiveDate;
use dob_host::database::Shutdown;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const CLIENTS: usize = 32;
const LOAD: Duration = Duration::from_secs(60);
const RESTARTS: u32 = 3;

/// One client with users of its own: saves a new date, now and then greets, and remembers what was acknowledged.
struct Client {
    number: usize,
    acknowledged: BTreeMap<String, i32>,
    in_doubt: BTreeMap<String, Vec<i32>>,
    failed: u32,
}

impl Client {
    async fn run(mut self, service: &Service, until: Instant) -> Self {
        let mut round = 0;
        while Instant::now() < until {
            round += 1;
            let user = format!("client{}{}", letters(self.number), letters(round as usize % 10));
            let saved = service.put(&user, &date(round)).await;
            assert!(saved.took < ANSWER_WITHIN, "{saved:?}");
            match saved.status {
                204 => {
                    self.in_doubt.remove(&user);
                    self.acknowledged.insert(user.clone(), round);
                }
                503 => {
                    self.in_doubt.entry(user.clone()).or_default().push(round);
                    self.failed += 1;
                }
                _ => panic!("{saved:?} {}", service.log()),
            }
            let greeted = service.get(&format!("/hello/{user}")).await;
            assert!([200, 404, 503].contains(&greeted.status), "{greeted:?}");
        }
        self
    }
}

fn letters(number: usize) -> String {
    number.to_string().bytes().map(|digit| (digit - b'0' + b'a') as char).collect()
}

/// A date that stands for a round, so that the stored date tells which save it came from.
fn date(round: i32) -> String {
    NaiveDate::from_ymd_opt(1900, 1, 1)
        .and_then(|day| day.checked_add_days(chrono::Days::new(round as u64)))
        .unwrap()
        .to_string()
}

#[test]
fn every_acknowledged_date_is_read_back_after_three_restarts_under_load() {
    let mut world = World::new();
    let World { runtime, service, database, .. } = &mut world;
    runtime.block_on(async {
        let until = Instant::now() + LOAD;
        let clients = (0..CLIENTS).map(|number| {
            let client = Client { number, acknowledged: BTreeMap::new(), in_doubt: BTreeMap::new(), failed: 0 };
            client.run(service, until)
        });
        let restarts = async {
            for restart in 0..RESTARTS {
                tokio::time::sleep(LOAD / (RESTARTS + 1)).await;
                database.stop(if restart == 1 { Shutdown::Crash } else { Shutdown::Orderly }).unwrap();
                database.start().await.unwrap();
            }
        };
        let (clients, ()) = tokio::join!(join_all(clients), restarts);
        let superuser = database.client("dob_api").await.unwrap();
        let (mut acknowledged, mut failed) = (0, 0);
        for client in clients {
            failed += client.failed;
            for (user, round) in client.acknowledged {
                acknowledged += 1;
                let stored = "SELECT date_of_birth::text FROM dob_api.birthday WHERE username = $1";
                let stored: String = superuser.query_one(stored, &[&user]).await.unwrap().get(0);
                // A save that was answered 503 after it may have been done all the same: the contract leaves it open.
                let in_doubt = client.in_doubt.get(&user).into_iter().flatten();
                let possible: Vec<_> = in_doubt.chain([&round]).map(|round| date(*round)).collect();
                assert!(possible.contains(&stored), "{user}: {stored}, not one of {possible:?}");
                assert_eq!(service.get(&format!("/hello/{user}")).await.status, 200, "{user}");
            }
        }
        println!("{acknowledged} users' last acknowledged dates are there; {failed} saves were refused");
        assert!(acknowledged >= CLIENTS, "{acknowledged}");
        service.works().await;
    });
}
