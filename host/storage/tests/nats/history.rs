//! Histories of a register on several daemons, while servers are killed and paused, are linearizable.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures::future;
use platform_base::clock;
use platform_storage::{Condition, Error, Nats, NatsOptions, Options, Storage};
use platform_testkit::{
    NatsServer,
    history::{self, Event, Step, Versioned},
};

use crate::{
    faults::{acknowledges, leader},
    shared::{options, put, scope},
};

type Call = Event<Step>;

async fn write(storage: &Nats, writer: usize, acknowledged: &AtomicUsize, stop: &AtomicBool) -> Vec<Call> {
    let mut calls = Vec::new();
    for number in 0_u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (begun, value) = (clock::now(), writer as u64 * 1_000_000 + number);
        let written =
            match storage.commit(&scope(), "t", vec![put("register", &value.to_string(), Condition::Always)]).await {
                Ok(revision) => Some(revision),
                Err(Error::Unavailable(_)) => None,
                Err(other) => panic!("{other}"),
            };
        acknowledged.fetch_add(usize::from(written.is_some()), Ordering::SeqCst);
        let ended = written.map(|_| clock::now());
        calls.push(Call { action: Step::Write(value, written), begun, ended });
        tokio::task::yield_now().await;
    }
    calls
}

async fn read(storage: &Nats, stop: &AtomicBool) -> Vec<Call> {
    let mut calls = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let begun = clock::now();
        match storage.get(&scope(), "t", "register").await {
            Ok(entry) => {
                let revision = entry.as_ref().map_or(0, |entry| entry.revision);
                let value = entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap().parse().unwrap());
                calls.push(Call { action: Step::Read(value, revision), begun, ended: Some(clock::now()) });
            }
            Err(Error::Unavailable(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_is_linearizable_whatever_happens_to_the_leader() {
    let mut servers = NatsServer::cluster();
    let patient = |first: usize| {
        let mut options = options(&servers);
        // Daemons of different servers, so that one stays with a leader that the others left.
        options.servers.rotate_left(first);
        NatsOptions { patience: Duration::from_secs(20), ..options }
    };
    let mut daemons = Vec::new();
    for first in 0..3 {
        daemons.push(Nats::connect(patient(first), Options::default()).await.unwrap());
    }
    let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let writes = future::join_all((0..3).map(|writer| write(&daemons[writer], writer, &acknowledged, &stop)));
    let reads = future::join_all((0..6).map(|reader| read(&daemons[reader % 3], &stop)));
    let faults = async {
        for pause in [false, true, true] {
            acknowledges(&acknowledged, 50).await;
            let name = leader(&servers).await.unwrap();
            let server = servers.iter_mut().find(|server| server.name == name).unwrap();
            if pause {
                server.pause();
            } else {
                server.kill();
            }
            // Others lead now, since only a leader acknowledges.
            acknowledges(&acknowledged, 50).await;
            let server = servers.iter_mut().find(|server| server.name == name).unwrap();
            if pause { server.resume() } else { server.start() }
        }
        acknowledges(&acknowledged, 50).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (written, seen, ()) = future::join3(writes, reads, faults).await;
    let calls: Vec<Call> = written.into_iter().chain(seen).flatten().collect();
    let reads = calls.iter().filter(|call| matches!(call.action, Step::Read(..))).count();
    assert!(reads > 100, "there is something to look at");
    assert_eq!(history::check::<Versioned>(&Versioned::without_unread(calls)), Ok(()));
}
