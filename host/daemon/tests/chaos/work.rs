//! What is done with daemons while faults happen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use platform_base::clock;
use platform_testkit::history::{Event, Step, Turn};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tonic::Code;

use crate::{
    clients::{Client, Store},
    judge::Answers,
};

/// Rest after a call that was not answered.
const REST: Duration = Duration::from_millis(50);
/// How long a lock is held without being kept alive.
const LEASE: Duration = Duration::from_millis(1500);
/// How long a lock is waited for.
const WAIT: Duration = Duration::from_secs(3);
/// Registers that are worked with, and locks.
const REGISTERS: usize = 3;
const LOCKS: usize = 2;

/// Somebody who works with one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) client: Client,
    pub(crate) answers: Arc<Answers>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Gives each write a value of its own.
    pub(crate) values: Arc<AtomicU64>,
    pub(crate) seed: u64,
}

impl Worker {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    /// Reads and writes registers.
    pub(crate) async fn registers(self) {
        let mut random = StdRng::seed_from_u64(self.seed);
        while self.goes_on() {
            let name = format!("register-{}", random.random_range(0..REGISTERS));
            let begun = clock::now();
            if random.random_bool(0.5) {
                let value = self.values.fetch_add(1, Ordering::SeqCst);
                let written = self.client.write(Store::Kv, &name, value).await;
                let ended = written.is_ok().then(clock::now);
                self.answers.register(&name, Event { action: Step::Write(value, written.ok()), begun, ended });
                if ended.is_none() {
                    tokio::time::sleep(REST).await;
                }
            } else if let Ok((value, revision)) = self.client.read(Store::Kv, &name).await {
                let ended = Some(clock::now());
                self.answers.register(&name, Event { action: Step::Read(value, revision), begun, ended });
            } else {
                self.answers.count(false);
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Takes locks, writes under them, also when they are lost by then, and gives them up.
    pub(crate) async fn locks(self) {
        let mut random = StdRng::seed_from_u64(self.seed);
        while self.goes_on() {
            let name = format!("lock-{}", random.random_range(0..LOCKS));
            let begun = clock::now();
            let Ok(token) = self.client.acquire(&name, LEASE, WAIT).await else {
                self.answers.count(false);
                tokio::time::sleep(REST).await;
                continue;
            };
            self.answers.lock(&name, Turn::Granted(token), begun, Some(clock::now()));
            for _ in 0..3 {
                self.write_under(&name, token).await;
            }
            if random.random_bool(0.15) {
                // A holder that sleeps past its lease and does not know it.
                tokio::time::sleep(LEASE + Duration::from_millis(random.random_range(0..1500))).await;
                self.write_under(&name, token).await;
            }
            let leaving = clock::now();
            match self.client.release(&name, token).await {
                Ok(true) => self.answers.lock(&name, Turn::Over(token), leaving, Some(clock::now())),
                // It was lost at some time since it was granted.
                Ok(false) => self.answers.lock(&name, Turn::Over(token), begun, Some(clock::now())),
                Err(_) => self.answers.lock(&name, Turn::Over(token), begun, None),
            }
        }
    }

    async fn write_under(&self, lock: &str, token: u64) {
        match self.client.put(&format!("under-{lock}"), token, Some((lock, token))).await {
            Ok(revision) => self.answers.fenced(lock, revision, token),
            Err(status) if status.code() == Code::Aborted => {
                self.answers.stale.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => self.answers.count(false),
        }
    }

    /// Publishes events; one that was not answered is published again.
    pub(crate) async fn events(self) {
        for number in 0_u64.. {
            let id = format!("{:x}-{number}", self.seed);
            loop {
                if !self.goes_on() {
                    return;
                }
                match self.client.publish(&id).await {
                    Ok(sequence) => break self.answers.published(&id, sequence),
                    Err(_) => self.answers.count(false),
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}
