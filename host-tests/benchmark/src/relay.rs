//! A relay between a server and PostgreSQL that counts round trips and packets.

use crate::databases::Databases;
use crate::native::{FIND, SAVE};
use crate::servers::{Implementation, Server};
use crate::workload::SMALL;
use anyhow::{Context, Result, bail};
use dob_spin::Build;
use reqwest::RequestBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// The number of measured requests.
const REQUESTS: u32 = 100;
/// Requests before those, which open the connection and prepare statements.
const WARM_UP: u32 = 10;
/// How long a last message, for whose answer the server does not wait, may take to arrive.
const SETTLE: Duration = Duration::from_millis(100);

/// The averages per request.
#[derive(Debug, Clone, Copy)]
pub struct PerRequest {
    /// How often the server waits for PostgreSQL.
    pub round_trips: f64,
    /// Packets that arrive at PostgreSQL.
    pub packets: f64,
}

/// The averages for greeting and for saving, of each server that uses PostgreSQL.
pub type Counted = BTreeMap<Implementation, [PerRequest; 2]>;

/// Counts for every server, and checks that all run the same statements.
pub async fn count(databases: &Databases) -> Result<Counted> {
    let mut counted = Counted::new();
    use Build::{Wasi02, Wasi03};
    use Implementation::{Component, Native, OneQuery};
    for implementation in [Component(Wasi02), Component(Wasi03), OneQuery(Wasi02), OneQuery(Wasi03), Native] {
        let relay = Relay::start(databases.database.address)?;
        let server = Server::start(implementation, &databases.variables_through(SMALL.users, relay.port)?)?;
        let greeting = relay.per_request(|number| greeting(&server, number)).await?;
        let saving = relay.per_request(|number| saving(&server, number)).await?;
        counted.insert(implementation, [greeting, saving]);
        relay.check_statements().with_context(|| format!("{implementation:?}"))?;
    }
    Ok(counted)
}

fn greeting(server: &Server, _: u32) -> RequestBuilder {
    server.client.get(server.url("/hello/aaaaaaa"))
}

fn saving(server: &Server, number: u32) -> RequestBuilder {
    let date = format!("{}-05-20", 1900 + number);
    let body = format!(r#"{{"dateOfBirth":"{date}"}}"#);
    server.client.put(server.url(&format!("/hello/aaaaaaa?{date}"))).body(body)
}

/// Forwards everything in both directions, until the program ends.
struct Relay {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    round_trips: u32,
    packets: u32,
    statements: BTreeSet<String>,
}

impl Seen {
    fn forget_counts(&mut self) {
        (self.round_trips, self.packets) = (0, 0);
    }
}

impl Relay {
    fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let relay = Self { port: listener.local_addr()?.port(), seen: Arc::default() };
        let seen = relay.seen.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // The client notices that its connection is closed.
                let _ = connect(client, server, &seen);
            }
        });
        Ok(relay)
    }

    async fn per_request(&self, request: impl Fn(u32) -> RequestBuilder) -> Result<PerRequest> {
        for number in 0..WARM_UP + REQUESTS {
            if number == WARM_UP {
                tokio::time::sleep(SETTLE).await;
                self.seen().forget_counts();
            }
            request(number).send().await?.error_for_status()?;
        }
        tokio::time::sleep(SETTLE).await;
        let seen = self.seen();
        let average = |count: u32| f64::from(count) / f64::from(REQUESTS);
        Ok(PerRequest { round_trips: average(seen.round_trips), packets: average(seen.packets) })
    }

    fn check_statements(&self) -> Result<()> {
        for statement in &self.seen().statements {
            if ![FIND, SAVE].contains(&statement.as_str()) {
                bail!(
                    "a server runs another statement than host-tests/benchmark/floors/*.sql, update these files: {statement}"
                );
            }
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics while holding this")
    }
}

fn connect(client: TcpStream, server: SocketAddr, seen: &Arc<Mutex<Seen>>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (answers, asker) = (server.try_clone()?, client.try_clone()?);
    let (seen, mut messages) = (seen.clone(), Messages::default());
    thread::spawn(move || pass_on(client, server, |bytes| messages.read(bytes, &mut seen.lock().expect("no panic"))));
    thread::spawn(move || pass_on(answers, asker, |_| ()));
    Ok(())
}

/// Forwards in one direction. Each read is one packet, because neither side sends a second one before the answer to the first.
fn pass_on(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        look(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Parses the client's messages on one connection (PostgreSQL's protocol 3.0, "Message Formats").
#[derive(Default)]
struct Messages {
    unread: Vec<u8>,
    started: bool,
    awaited: bool,
}

impl Messages {
    fn read(&mut self, bytes: &[u8], seen: &mut Seen) {
        seen.packets += 1;
        self.unread.extend(bytes);
        while let Some((kind, body)) = self.next() {
            match kind {
                // The driver does not wait for the answer to Close.
                b'C' => {}
                b'S' => seen.round_trips += u32::from(std::mem::take(&mut self.awaited)),
                b'Q' => seen.round_trips += 1,
                _ => self.awaited = true,
            }
            if kind == b'P' {
                seen.statements.extend(statement(&body));
            }
        }
    }

    /// The next complete message. A connection's first message has no type byte.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let letter = usize::from(self.started);
        let length: [u8; 4] = self.unread.get(letter..letter + 4)?.try_into().ok()?;
        let end = letter + u32::from_be_bytes(length) as usize;
        let body = self.unread.get(letter + 4..end)?.to_vec();
        let kind = if self.started { self.unread[0] } else { b'Q' };
        self.unread.drain(..end);
        self.started = true;
        Some((kind, body))
    }
}

/// The text of a Parse message, which follows the statement's name.
fn statement(body: &[u8]) -> Option<String> {
    body.split(|byte| *byte == 0).nth(1).map(|text| String::from_utf8_lossy(text).into_owned())
}
