//! Histories of a register on several daemons, while servers are killed and paused, are linearizable.
//!
//! Each answer carries the revision that it wrote or read, which says where it stands in the one order of all writes. So a
//! history is linearizable exactly if that order agrees with real time: who began after another had ended is not before it,
//! and a read has the value that was written at its revision.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures::future;
use platform_base::clock;
use platform_storage::{Condition, Error, Nats, NatsOptions, Options, Storage};

use crate::{
    faults::{acknowledges, leader},
    server::{Server, options},
    shared::{put, scope},
};

/// A call that was answered.
#[derive(Debug, Clone)]
struct Call {
    began: clock::Instant,
    ended: clock::Instant,
    wrote: bool,
    revision: u64,
    value: String,
}

/// Why a history is not linearizable, none when it is.
fn flaw(calls: &[Call]) -> Option<String> {
    let mut written: BTreeMap<u64, &str> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.wrote) {
        if written.insert(call.revision, &call.value).is_some() {
            return Some(format!("two writes have revision {}", call.revision));
        }
    }
    let stray = calls.iter().find(|call| written.get(&call.revision).is_some_and(|value| *value != call.value));
    if let Some(call) = stray {
        return Some(format!("{call:?} read what was not written at its revision"));
    }
    let mut by_end: Vec<&Call> = calls.iter().collect();
    by_end.sort_by_key(|call| call.ended);
    let mut by_begin = by_end.clone();
    by_begin.sort_by_key(|call| call.began);
    let mut ended = by_end.into_iter().peekable();
    let mut newest = 0;
    for call in by_begin {
        while let Some(before) = ended.next_if(|before| before.ended < call.began) {
            newest = before.revision.max(newest);
        }
        if call.revision < newest || (call.wrote && call.revision == newest) {
            return Some(format!("{call:?} came after a call that had seen revision {newest}"));
        }
    }
    None
}

async fn write(storage: &Nats, writer: usize, acknowledged: &AtomicUsize, stop: &AtomicBool) -> Vec<Call> {
    let mut calls = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (began, value) = (clock::now(), format!("{writer}:{number}"));
        match storage.commit(&scope(), "t", vec![put("register", &value, Condition::Always)]).await {
            Ok(revision) => {
                acknowledged.fetch_add(1, Ordering::SeqCst);
                calls.push(Call { began, ended: clock::now(), wrote: true, revision, value });
            }
            Err(Error::Unavailable(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    calls
}

async fn read(storage: &Nats, stop: &AtomicBool) -> Vec<Call> {
    let mut calls = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let began = clock::now();
        match storage.get(&scope(), "t", "register").await {
            Ok(entry) => {
                let (revision, value) = entry.map_or((0, Vec::new()), |entry| (entry.revision, entry.value.to_vec()));
                let value = String::from_utf8(value).unwrap();
                calls.push(Call { began, ended: clock::now(), wrote: false, revision, value });
            }
            Err(Error::Unavailable(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_is_linearizable_whatever_happens_to_the_leader() {
    let mut servers = Server::cluster();
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
    assert!(calls.iter().filter(|call| !call.wrote).count() > 100, "there is something to look at");
    assert_eq!(flaw(&calls), None);
}

#[test]
fn flaws_are_found() {
    let start = clock::now();
    let call = |began: u64, ended: u64, wrote: bool, revision: u64, value: &str| Call {
        began: start + Duration::from_millis(began),
        ended: start + Duration::from_millis(ended),
        wrote,
        revision,
        value: value.to_owned(),
    };
    let good =
        [call(0, 5, true, 1, "a"), call(1, 9, true, 2, "b"), call(6, 7, false, 1, "a"), call(8, 9, false, 2, "b")];
    assert_eq!(flaw(&good), None);
    let stale = [call(0, 1, true, 1, "a"), call(2, 3, true, 2, "b"), call(4, 5, false, 1, "a")];
    assert!(flaw(&stale).is_some_and(|why| why.contains("seen revision 2")));
    let back = [call(0, 9, true, 2, "b"), call(1, 2, false, 2, "b"), call(3, 4, false, 1, "a")];
    assert!(flaw(&back).is_some());
    let late = [call(0, 1, false, 3, "c"), call(2, 3, true, 2, "b")];
    assert!(flaw(&late).is_some());
    let twice = [call(0, 1, true, 1, "a"), call(2, 3, true, 1, "b")];
    assert!(flaw(&twice).is_some());
    let other = [call(0, 1, true, 1, "a"), call(2, 3, false, 1, "b")];
    assert!(flaw(&other).is_some());
}
